"""How long a look of the watch takes over many services, and how many statements it makes.

    python -m bench.watch --services 200 --minutes 120 --conditions 6

Every service has rules and triggers over all lengths of window, percentiles among them, and calls in every
minute; none of them is due, as in nearly every look. Beside it stands a dry run of a rule over a week.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from bench.gates import Gate, concluded
from domain.analytics import DAY_MS, MINUTE_MS
from domain.conditions import Rule
from domain.policy import ServicePolicy
from domain.reports import MetricReport
from domain.rules.rehearsal import DryRunRequest
from infra.embedded import EmbeddedStack
from storage import dry_runs, partitions, rollouts, samples, services, watching
from storage.database import Database
from storage.migrations import upgrade
from storage.rollups import Roller

WINDOWS = ("1m", "5m", "15m", "1h", "24h", "7d")
MODELS = ("gpt-4o", "gpt-4o-mini")


def policy(name: str, conditions: int) -> ServicePolicy:
    """A policy with so many conditions, none of which holds."""
    metrics = ("errors.rate", "latency.p95", "cost.avg")
    found = [
        {
            "metric": metrics[n % len(metrics)],
            "op": ">",
            "value": 0.9 if n % len(metrics) == 0 else 1e6,
            "window": WINDOWS[n % len(WINDOWS)],
            "forWindows": 2,
        }
        for n in range(conditions)
    ]
    rules = [
        {"id": f"r{n}", "condition": c, "action": {"type": "alert", "severity": "low"}}
        for n, c in enumerate(found[::2])
    ]
    return ServicePolicy.model_validate(
        {
            "service": name,
            "rules": rules,
            "triggers": [{"condition": c, "cooldownMs": 60_000} for c in found[1::2]],
            "searchSpace": {"models": [{"provider": "openai", "model": model} for model in MODELS]},
        }
    )


async def fill(database: Database, names: list[str], minutes: int, seed: int) -> int:
    """Two calls a minute and service, rolled up; gives the minute after the last."""
    import numpy as np

    random = np.random.default_rng(seed)
    async with database.transaction() as session:
        end = await rollouts.clock(session) // MINUTE_MS * MINUTE_MS
    calls = (
        MetricReport(
            timestamp=end - minute * MINUTE_MS + 20_000 * call,
            service=name,
            endpoint="answer",
            provider="openai",
            model=MODELS[call],
            latency_ms=float(random.lognormal(6, 0.8)),
            tokens_input=200,
            tokens_output=100,
            tokens_total=300,
            status_code=500 if random.random() < 0.01 else 200,
            cost_usd=0.002,
        )
        for minute in range(1, minutes + 1)
        for name in names
        for call in range(2)
    )
    connection = await samples.connect_for_copy(database)
    try:
        arrived = await samples.clock(connection) - 120_000_000
        await samples.copy_rows(connection, "metrics", samples.metric_rows(calls, lambda *_: None), arrived)
    finally:
        await connection.close()
    roller = await database.connect()
    try:
        await Roller(roller).run()
    finally:
        await roller.close()
    return end


@contextmanager
def counted() -> Iterator[list[str]]:
    """The statements that are made while the block runs."""
    made: list[str] = []

    def note(*arguments: Any) -> None:
        made.append(arguments[2])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield made
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def measure(arguments: argparse.Namespace) -> int:
    """Fill a database, look a few times, rehearse a week."""
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedStack(Path(folder), temporal_ui=False, usual_ports=False) as stack:
            await asyncio.to_thread(upgrade, stack.database_url)
            database = Database(stack.database_url)
            try:
                return await measured(database, arguments)
            finally:
                await database.close()


async def measured(database: Database, arguments: argparse.Namespace) -> int:
    """Look at services with such policies and calls, and give the exit code."""
    names = [f"service-{n:03}" for n in range(arguments.services)]
    pool = await database.pool()
    async with pool.acquire() as connection:
        await partitions.ensure_partitions(connection)
    async with database.transaction() as session:
        for name in names:
            await services.put_policy(session, policy(name, arguments.conditions))
    end = await fill(database, names, arguments.minutes, arguments.seed)
    await pool.execute("ANALYZE")
    await watching.look(database, scheduled_at=0, step_seconds=300)
    took = []
    for look in range(1, arguments.looks + 1):
        with counted() as made:
            began = time.perf_counter()
            notes = await watching.look(database, scheduled_at=look, step_seconds=300)
            took.append(time.perf_counter() - began)
        assert notes == [], notes
    rehearsal = await _rehearse(database, names[0], end)
    return concluded(
        "watch",
        [
            Gate("seconds of a look", sorted(took)[len(took) // 2], 6.0, stretch=2.0, ceiling=True),
            Gate("statements of a look", len(made), 40, ceiling=True),
            Gate("seconds of a dry run over a week", rehearsal, 10.0, stretch=3.0, ceiling=True),
        ],
        services=arguments.services,
        conditions=arguments.conditions,
        reports=2 * arguments.services * arguments.minutes,
        looks=[round(seconds, 3) for seconds in took],
    )


async def _rehearse(database: Database, service: str, end: int) -> float:
    """How long a dry run of a rule with a percentile takes, by the minute."""
    condition = {"metric": "latency.p95", "op": ">", "value": 900, "window": "1h", "forWindows": 2}
    action = {"type": "alert", "severity": "low"}
    rules = [Rule.model_validate({"id": "slow", "condition": condition, "action": action})]
    request = DryRunRequest(start=end - 7 * DAY_MS, end=end)
    began = time.perf_counter()
    async with database.transaction() as session:
        found = await dry_runs.dry_run(session, service, rules, request)
    assert found.moments == 7 * DAY_MS // MINUTE_MS + 1
    return time.perf_counter() - began


def arguments_of(given: list[str] | None = None) -> argparse.Namespace:
    """What the command line says, or what is given in its place."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--services", type=int, default=200)
    parser.add_argument("--minutes", type=int, default=120)
    parser.add_argument("--conditions", type=int, default=6)
    parser.add_argument("--looks", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(given)


if __name__ == "__main__":
    sys.exit(asyncio.run(measure(arguments_of())))
