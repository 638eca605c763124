"""What the analysis costs on one core: `python -m bench.analysis`.

First an hour of reports of as many services as so many series take: each minute's windows of them all are
read, stepped and kept, the last few under the clock. Then a day of reports of 20 services: observing,
analysing and deciding for one of them, as a run does. PostgreSQL shares the one core.

Prints one JSON line, and exits with 1 where a gate is missed.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from activities import problems
from activities.numeric import one_blas_thread
from bench import history
from bench.gates import Gate, concluded
from domain.conditions import WINDOW_MS
from domain.config import LLMConfig
from domain.decision.decide import decide
from domain.decision.strategy import StructuredPriorStrategy
from domain.metrics import WATCHED
from domain.policy import ServicePolicy
from infra.embedded import EmbeddedStack
from storage import configs, detection, progress, services
from storage.database import Database
from storage.migrations import upgrade
from storage.rollups import Roller

SERVICE = "service-3"
NOWHERE = "127.0.0.1:9"
SERIES = 3_000
WARM_WINDOWS = 60
CONFIG = LLMConfig(
    provider="provider-0",
    model="model-0",
    temperature=0.5,
    top_p=1.0,
    max_tokens=1024,
    streaming=False,
    function_calling=False,
    vision_enabled=False,
)

_REPORTS = """
    INSERT INTO metrics (
        received_at, ts, service, endpoint, provider, model, config_version, latency_ms, tokens_input,
        tokens_output, tokens_total, cost_usd, status_code
    )
    SELECT at, at, 'service-' || service, '/answer', 'openai', 'gpt-4o', 'service-' || service || '@1',
           exp(6 + 0.8 * random()), 100, (50 + 500 * random())::bigint, 300, 0.001 + 0.01 * random(),
           CASE WHEN random() < 0.01 THEN 500 ELSE 200 END
    FROM generate_series(0, $1::int - 1) AS service,
         LATERAL (SELECT $2::timestamptz + n * interval '2 seconds' AS at
                  FROM generate_series(0, $3::int * 30 - 1) AS n) times
"""
_SCORES = """
    INSERT INTO quality (received_at, ts, service, config_version, overall_score)
    SELECT at, at, 'service-' || service, 'service-' || service || '@1', 80 + 20 * random()
    FROM generate_series(0, $1::int - 1) AS service,
         LATERAL (SELECT $2::timestamptz + n * interval '5 seconds' AS at
                  FROM generate_series(0, $3::int * 12 - 1) AS n) times
"""


@asynccontextmanager
async def fresh() -> AsyncIterator[Database]:
    """A database with nothing in it."""
    with tempfile.TemporaryDirectory() as folder:
        parts = EmbeddedStack(Path(folder), temporal_address=NOWHERE, temporal_ui=False, usual_ports=False)
        async with parts as stack:
            await asyncio.to_thread(upgrade, stack.database_url)
            database = Database(stack.database_url)
            yield database
            await database.close()


async def detecting(series: int, rounds: int, warm: int) -> dict[str, Any]:
    """Seconds of reading a minute's window of so many series, which have `warm` windows behind them."""
    count = -(-series // len(WATCHED))
    minutes = warm + rounds + 3
    async with fresh() as database:
        connection = await database.connect()
        now = await connection.fetchval("SELECT date_trunc('minute', clock_timestamp())")
        await history.prepare(connection, now - history.minutes(minutes), now)
        for statement in (_REPORTS, _SCORES):
            await connection.execute(statement, count, now - history.minutes(minutes), minutes)
        await Roller(connection).run()
        await connection.execute("VACUUM (ANALYZE) rollup_minutes, metrics, quality")
        last = round(now.timestamp() * 1000) - detection.MARGIN_MS
        length = WINDOW_MS["1m"]
        seconds, steps = [], 0
        await _advance(database, last - (warm + rounds) * length, last - rounds * length)
        for number in range(rounds, 0, -1):
            began = time.perf_counter()
            steps = await _advance(database, None, last - (number - 1) * length)
            seconds.append(time.perf_counter() - began)
        size = await connection.fetchval("SELECT avg(octet_length(state)) FROM series_states")
        await connection.close()
    return {
        "series": steps,
        "secondsPerMinute": round(statistics.median(seconds), 2),
        "secondsPer3000Series": round(statistics.median(seconds) * SERIES / steps, 2),
        "bytesPerState": round(size),
    }


async def _advance(database: Database, since: int | None, until: int) -> int:
    """Read the windows up to `until`, in batches; gives how many values were."""
    steps = 0
    if since is not None:
        async with database.transaction() as session:
            await progress.advance(session, "1m", since)
    while True:
        async with database.transaction() as session:
            read = await detection.advance(session, "1m", until)
        if read is None:
            return steps
        steps += read.steps


async def running(reports: int, rounds: int) -> dict[str, Any]:
    """Seconds of observing, analysing and deciding for a service over a day of so many reports."""
    async with fresh() as database:
        await history.report(database, reports, hours=24)
        policy = await configured(database)
        strategy = StructuredPriorStrategy()
        parts: dict[str, list[float]] = {"observe": [], "analyze": [], "decide": []}
        for _ in range(rounds):
            marks = [time.perf_counter()]
            observed = await problems.observe(database, SERVICE, policy)
            if observed is None:
                raise RuntimeError(f"{SERVICE} serves nothing")
            marks.append(time.perf_counter())
            async with database.transaction() as session:
                await problems.analyze(session, SERVICE, observed, policy)
            marks.append(time.perf_counter())
            async with database.transaction() as session:
                problem = await problems.problem_of(session, SERVICE, observed, policy)
            await asyncio.to_thread(decide, problem, strategy)
            marks.append(time.perf_counter())
            for name, began, ended in zip(parts, marks, marks[1:], strict=False):
                parts[name].append(ended - began)
    medians = {name: statistics.median(values) for name, values in parts.items()}
    return {
        "reports": reports,
        "secondsOfARun": round(sum(medians.values()), 3),
        **{f"{name}Ms": round(value * 1000, 1) for name, value in medians.items()},
    }


async def configured(database: Database) -> ServicePolicy:
    """Have the service serve a configuration, with others to choose from."""
    models = [{"provider": f"provider-{n % 3}", "model": f"model-{n}"} for n in range(history.MODELS)]
    policy = ServicePolicy.model_validate(
        {"service": SERVICE, "searchSpace": {"models": models, "temperature": {"min": 0, "max": 1}}}
    )
    async with database.transaction() as session:
        await services.put_policy(session, policy)
        state = await configs.lock_scope(session, SERVICE)
        await configs.apply_first(
            session, state, CONFIG, by="bench", change_type="manual", reason="to be measured"
        )
    return policy


def judged(found: dict[str, Any]) -> list[Gate]:
    """The gates."""
    detected, run = found["detecting"], found["run"]
    return [
        Gate("a minute of 3,000 series, s", detected["secondsPer3000Series"], 15.0, 3.0, ceiling=True),
        Gate("observe, analyze, decide over a day, s", run["secondsOfARun"], 2.0, 0.5, ceiling=True),
    ]


def main() -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=SERIES)
    parser.add_argument(
        "--warm", type=int, default=WARM_WINDOWS, help="windows that each series has behind it"
    )
    parser.add_argument("--reports", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    # PostgreSQL's processes are this one's children, and share its core.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    with one_blas_thread():
        found = {
            "detecting": asyncio.run(detecting(given.series, given.rounds, given.warm)),
            "run": asyncio.run(running(given.reports, given.rounds)),
        }
    return concluded("analysis", judged(found), **found)


if __name__ == "__main__":
    sys.exit(main())
