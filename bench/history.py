"""Made-up reports straight into PostgreSQL, as many as a benchmark of reading needs."""

import time
from datetime import datetime, timedelta

import asyncpg

from storage.database import Database
from storage.partitions import ensure_day
from storage.rollups import Roller

SERVICES = 20
MODELS = 8
BATCH = 500_000

# A log-normal latency per model, 1 % errors, two versions, arrival in the order of time.
_INSERT = """
    INSERT INTO metrics (
        received_at, ts, service, endpoint, provider, model, config_version, request_id, latency_ms,
        tokens_input, tokens_output, tokens_total, cost_usd, status_code, error_type
    )
    SELECT at, at - interval '1 second', 'service-' || (n % $5), '/answer', 'provider-' || (n / 7 % $6 % 3),
           'model-' || (n / 7 % $6), 'service-' || (n % $5) || '@' || (1 + n / 11 % 2), NULL,
           exp(6 + 0.1 * (n / 7 % $6) + 0.8 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())),
           (100 + 400 * random())::bigint, (50 + 500 * random())::bigint, (150 + 900 * random())::bigint,
           0.0005 + 0.02 * random(), CASE WHEN n % 100 = 0 THEN 529 ELSE 200 END, NULL
    FROM (
        SELECT n, $1::timestamptz + ($2::timestamptz - $1) * (n::float8 / $4) AS at
        FROM generate_series($3::bigint, LEAST($3 + $7 - 1, $4 - 1)) AS n
    ) made
"""


async def report(database: Database, count: int, *, hours: float, until: datetime | None = None) -> float:
    """Keep `count` reports that arrived evenly over some hours up to `until`, or now, and roll them up.

    Gives the seconds that rolling them up took.
    """
    connection = await database.connect()
    try:
        until = until or await connection.fetchval("SELECT clock_timestamp() - interval '3 seconds'")
        since = until - timedelta(hours=hours)
        await prepare(connection, since, until)
        for first in range(0, count, BATCH):
            await connection.execute(_INSERT, since, until, first, count, SERVICES, MODELS, BATCH)
        await connection.execute("VACUUM (ANALYZE) metrics")
        began = time.perf_counter()
        await Roller(connection).run()
        seconds = time.perf_counter() - began
        await connection.execute("VACUUM (ANALYZE) rollup_minutes, rollup_hours, rollup_days")
        return seconds
    finally:
        await connection.close()


def minutes(count: int) -> timedelta:
    """So many minutes."""
    return timedelta(minutes=count)


async def prepare(connection: "asyncpg.Connection[asyncpg.Record]", since: datetime, until: datetime) -> None:
    """Make the partitions of some days of reports."""
    day = since.date()
    while day <= until.date():
        for table in ("metrics", "quality"):
            await ensure_day(connection, table, day)
        day += timedelta(days=1)
