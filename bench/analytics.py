"""What a question about metrics costs, and an observation: `python -m bench.analytics`.

For each size a fresh PostgreSQL gets so many reports of 20 services and 8 models, ten million a day: the more
there are, the longer the history. They are rolled up as the worker does. Then, alternating: the p95 of 24 h
from the rollups, and the same by `percentile_cont` on the reports; medians of the rounds. Beside them
questions by group and by interval, the observation of a service, and what it takes to roll up a report and to
commit further ones. What is asked of one day or hour may not become slower with the days before it.

Prints one JSON line, and exits with 1 where a gate is missed.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench import history
from bench.gates import Gate, concluded
from bench.load import reports
from domain.analytics import DAY_MS, HOUR_MS, MINUTE_MS, MetricsQuery
from domain.idempotency import Answer
from domain.series import answer
from infra.embedded import EmbeddedStack
from storage import analytics, observations
from storage.database import Database
from storage.intake import Intake
from storage.migrations import upgrade

SERVICE = "service-3"
NOWHERE = "127.0.0.1:9"
PER_DAY = 10_000_000
BATCHES, BATCH = 100, 1_000
"""Reports that are committed on top of the history."""
SAME = 1.25
"""How much longer the same may take after a longer history and still count as the same."""

_RAW = """
    SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY latency_ms) FROM metrics
    WHERE status_code < 400 AND error_type IS NULL AND ts >= $1::timestamptz - interval '1 day' AND ts < $1
"""


async def measure(database: Database, rounds: int) -> dict[str, Any]:
    """Milliseconds of each question (medians), and how the p95 of a day compares."""
    connection = await database.connect()
    moment = await connection.fetchval("SELECT clock_timestamp()")
    now = round(moment.timestamp() * 1000)
    day = _asked(now - DAY_MS, now, "latency.p95")
    rolled: list[float] = []
    raw: list[float] = []
    found = exact = 0.0
    for _ in range(rounds):
        seconds, found = await _timed(lambda: _answered(database, day))
        rolled.append(seconds)
        seconds, exact = await _timed(lambda: connection.fetchval(_RAW, moment))
        raw.append(seconds)
    await connection.close()
    minute = now // MINUTE_MS * MINUTE_MS
    asked = {
        "p95OfADayByModel": _asked(now - DAY_MS, now, "latency.p95", groupBy=["model"]),
        "p95OfADayByServiceAndModel": _asked(now - DAY_MS, now, "latency.p95", groupBy=["service", "model"]),
        "p95OfAnHour": _asked(now - HOUR_MS, now, "latency.p95"),
        "dayInFiveMinutes": _asked(minute - DAY_MS, minute, "latency.p95", "cost.avg", interval=300_000),
        "quarterInDays": _asked(minute - 90 * DAY_MS, minute, "latency.p95", "cost.avg", interval=DAY_MS),
    }
    others = {
        name: await _median(rounds, partial(_answered, database, query)) for name, query in asked.items()
    }
    observing = await _median(rounds, lambda: _observed(database, now))
    return {
        "p95OfADayMs": _ms(statistics.median(rolled)),
        "percentileContMs": _ms(statistics.median(raw)),
        "ratio": round(statistics.median(rolled) / statistics.median(raw), 4),
        "relativeError": round(abs(found / exact - 1), 4),
        "observeMs": _ms(observing),
        **{f"{name}Ms": _ms(seconds) for name, seconds in others.items()},
    }


def _asked(start: int, end: int, *metrics: str, **given: Any) -> MetricsQuery:
    window = {"metrics": list(metrics), "timeRange": {"start": start, "end": end}}
    return MetricsQuery.model_validate(window | given)


async def _answered(database: Database, query: MetricsQuery) -> float:
    async with database.transaction() as session:
        readings = await analytics.read(session, query)
    return answer(query, readings).metrics[0].data_points[0].value


async def _observed(database: Database, now: int) -> None:
    async with database.transaction() as session:
        groups = await observations.history(session, SERVICE, since=now - DAY_MS, until=now)
        await observations.traffic(session, SERVICE, [DAY_MS])
    if not groups:
        raise RuntimeError(f"{SERVICE} has no history")


async def _taken(database: Database) -> float:
    """Seconds until the intake has committed 100 batches of 1,000, with as many callers as batches."""
    intake = Intake(database)
    await intake.start()
    given = [reports(BATCH, seed) for seed in range(BATCHES)]
    answer = Answer(200, {})
    await intake.metrics(reports(BATCH, BATCHES), answer)
    seconds, _ = await _timed(lambda: asyncio.gather(*(intake.metrics(batch, answer) for batch in given)))
    await intake.close()
    return seconds


async def _timed(work: Callable[[], Awaitable[Any]]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = await work()
    return time.perf_counter() - began, result


async def _median(rounds: int, work: Callable[[], Awaitable[Any]]) -> float:
    return statistics.median([(await _timed(work))[0] for _ in range(rounds)])


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


async def run(sizes: list[int], rounds: int) -> list[dict[str, Any]]:
    """The figures of each size."""
    found = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            parts = EmbeddedStack(
                Path(folder), temporal_address=NOWHERE, temporal_ui=False, usual_ports=False
            )
            async with parts as stack:
                await asyncio.to_thread(upgrade, stack.database_url)
                database = Database(stack.database_url)
                rolling = await history.report(database, size, hours=24 * size / PER_DAY)
                figures = await measure(database, rounds)
                taking = statistics.median([await _taken(database) for _ in range(rounds)])
                await database.close()
        found.append(
            {
                "reports": size,
                "rollUpMicrosPerReport": round(rolling / size * 1e6, 2),
                "commitMicrosPerReport": round(taking / (BATCHES * BATCH) * 1e6, 2),
                **figures,
            }
        )
    return found


def judged(found: list[dict[str, Any]]) -> list[Gate]:
    """The gates. The ratio is that of the largest size: small ones are overhead.

    The least history that has a whole day is what a longer one is held against.
    """
    worst = max(figures["relativeError"] for figures in found)
    slowest = max(figures["observeMs"] for figures in found)
    day = next((figures for figures in found if figures["reports"] >= PER_DAY), found[0])

    def grown(name: str, first: dict[str, Any]) -> float:
        return round(float(found[-1][name] / first[name]), 2)

    return [
        Gate("p95 of a day / percentile_cont on the reports", found[-1]["ratio"], 0.05, 0.005, ceiling=True),
        Gate("relative error of the p95", worst, 0.02, 0.01, ceiling=True),
        Gate("observing a service over a day, ms", slowest, 200.0, ceiling=True),
        Gate(
            "rolling up a report, most / fewest reports",
            grown("rollUpMicrosPerReport", found[0]),
            1.5,
            ceiling=True,
        ),
        Gate(
            "committing a report, longest / shortest history",
            grown("commitMicrosPerReport", found[0]),
            SAME,
            ceiling=True,
        ),
        Gate("p95 of a day, longest history / a day", grown("p95OfADayMs", day), SAME, ceiling=True),
        Gate("p95 of an hour, longest history / a day", grown("p95OfAnHourMs", day), SAME, ceiling=True),
        Gate("observing, longest history / a day", grown("observeMs", day), SAME, ceiling=True),
    ]


def main() -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reports", type=int, nargs="+", default=[1_000_000, 10_000_000, 50_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    found = asyncio.run(run(sorted(given.reports), given.rounds))
    return concluded("analytics", judged(found), sizes=found)


if __name__ == "__main__":
    sys.exit(main())
