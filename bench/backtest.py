"""What a backtest costs: `python -m bench.backtest`.

A fresh PostgreSQL gets the reports of some days of one service with several configurations, rolled up as the
worker does. Then its record is replayed hour by hour through a policy of three models, by
`cli.backtesting.run_backtest`; told are the seconds, and what of them is reading.

Prints one JSON line, and exits with 1 where a gate is missed.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.gates import Gate, concluded
from cli.backtesting import Options, run_backtest
from cli.backtesting.run import load
from domain.config import LLMConfig
from domain.decision.strategy import StructuredPriorStrategy
from domain.policy import ServicePolicy
from infra.embedded import EmbeddedStack
from storage import configs, services
from storage.database import Database
from storage.migrations import upgrade
from storage.partitions import ensure_day
from storage.rollups import Roller

NOWHERE = "127.0.0.1:9"
MOST_SECONDS = 120.0
MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-4.1-mini")

# Nine tenths of the requests go to the first version; 1 % errors; a log-normal latency; quality by version.
_REQUESTS = """
    INSERT INTO metrics (
        received_at, ts, service, endpoint, provider, model, config_version, request_id, latency_ms,
        tokens_input, tokens_output, tokens_total, cost_usd, status_code, error_type
    )
    SELECT at, at, 'chat', 'answer', 'openai', ($4::text[])[1 + (version - 1) % 3], 'chat@' || version, NULL,
           exp(6.5 + 0.6 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())),
           200 + (100 * random())::bigint, 50 + (200 * random())::bigint, 400, 0.002 + 0.004 * random(),
           CASE WHEN n % 100 = 0 THEN 529 ELSE 200 END, NULL
    FROM (
        SELECT n, $1::timestamptz + ($2::timestamptz - $1) * (n::float8 / $3) AS at,
               CASE WHEN n % 10 < 9 THEN 1 ELSE 1 + n / 10 % $5 END AS version
        FROM generate_series(0, $3::bigint - 1) AS n
    ) made
"""
_SCORES = """
    INSERT INTO quality (received_at, ts, service, config_version, overall_score)
    SELECT received_at, ts, service, config_version, 60 + 40 * random() FROM metrics WHERE random() < 0.2
"""


def policy() -> ServicePolicy:
    """Cost and quality over three models, with a floor for quality and a budget."""
    return ServicePolicy.model_validate(
        {
            "service": "chat",
            "constraints": [
                {"type": "hard", "metric": "quality", "min": 60},
                {"type": "hard", "metric": "cost.total", "max": 1e6, "windowMs": 7 * 86_400_000},
            ],
            "searchSpace": {
                "models": [{"provider": "openai", "model": model} for model in MODELS],
                "temperature": {"min": 0, "max": 1},
                "maxTokens": {"min": 100, "max": 2000},
            },
        }
    )


async def prepare(database: Database, *, days: int, versions: int, reports: int) -> None:
    """The reports of some days, with a version served since before them, and its others beside it."""
    async with database.transaction() as session:
        await services.note(session, ["chat"])
        state = await configs.lock_scope(session, "chat")
        made = [_config(number) for number in range(versions)]
        about: dict[str, Any] = {"by": "bench", "change_type": "manual", "reason": "bench"}
        await configs.apply_first(session, state, made[0], **about)
        for config in made[1:]:
            await configs.create_version(session, state, config, **about)
    connection = await database.connect()
    try:
        until = await connection.fetchval("SELECT clock_timestamp() - interval '3 seconds'")
        since = until - timedelta(days=days)
        before = timedelta(days=days + 1)
        await connection.execute("UPDATE events SET timestamp = timestamp - $1::interval", before)
        await connection.execute("UPDATE scopes SET applied_at = applied_at - $1::interval", before)
        for ago in range(days + 1):
            for table in ("metrics", "quality"):
                await ensure_day(connection, table, until.date() - timedelta(days=ago))
        await connection.execute(_REQUESTS, since, until, reports, list(MODELS), versions)
        await connection.execute(_SCORES)
        await connection.execute("VACUUM (ANALYZE) metrics, quality")
        await Roller(connection).run()
        await connection.execute("VACUUM (ANALYZE) rollup_minutes, rollup_hours, rollup_days")
    finally:
        await connection.close()


def _config(number: int) -> LLMConfig:
    return LLMConfig(
        provider="openai",
        model=MODELS[number % len(MODELS)],
        temperature=round(0.1 * number, 1) % 1.0,
        top_p=1.0,
        max_tokens=400,
        streaming=False,
        function_calling=False,
        vision_enabled=False,
    )


async def measure(url: str, **size: int) -> dict[str, Any]:
    """The seconds of a backtest, of its reading, and of the process's own work, and what it decided."""
    database = Database(url)
    try:
        await prepare(database, **size)
        options = Options(policy())
        began = time.perf_counter()
        await load(database, options)
        reading = time.perf_counter() - began
        began, cpu = time.perf_counter(), time.process_time()
        report = await run_backtest(database, options, StructuredPriorStrategy(), lambda *_: None)
        return {
            "seconds": time.perf_counter() - began,
            "cpuSeconds": time.process_time() - cpu,
            "readingSeconds": reading,
            "decisions": report.summary.decisions,
            "proposing": report.summary.proposing,
        }
    finally:
        await database.close()


async def run(arguments: argparse.Namespace) -> int:
    """All of it; the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        parts = EmbeddedStack(
            Path(folder), redis_url=f"redis://{NOWHERE}", temporal_address=NOWHERE, usual_ports=False
        )
        async with parts as stack:
            await asyncio.to_thread(upgrade, stack.database_url)
            size = {"days": arguments.days, "versions": arguments.versions, "reports": arguments.reports}
            found = await measure(stack.database_url, **size)
    gate = Gate("seconds", found["seconds"], MOST_SECONDS, ceiling=True)
    return concluded("backtest", [gate], **size, **found)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--versions", type=int, default=10)
    parser.add_argument("--reports", type=int, default=500_000)
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
