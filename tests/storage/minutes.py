"""Reports of past minutes that arrived in their time, by the thousand."""

from datetime import timedelta

import asyncpg

from domain.analytics import MINUTE_MS
from domain.times import moment
from storage.database import Database
from storage.partitions import ensure_day
from storage.rollups import Roller

# Latencies spread evenly over a fifth around the given one, the same in every minute.
_REQUESTS = """
    INSERT INTO metrics (
        received_at, ts, service, endpoint, provider, model, config_version, latency_ms, tokens_input,
        tokens_output, tokens_total, cost_usd, status_code
    )
    SELECT at + interval '1 second', at, $1, '/answer', 'openai', 'gpt-4o', $2,
           $3::float8 * (0.9 + 0.2 * (n % $4::int) / $4), 100, $5::bigint, 100 + $5::bigint, $6::float8,
           CASE WHEN n % $4 < $7 THEN 500 ELSE 200 END
    FROM (
        SELECT n, $8::timestamptz + n * ($9::timestamptz - $8) / $10::int AS at
        FROM generate_series(0, $10::int - 1) AS n
    ) made
"""
_SCORES = """
    INSERT INTO quality (received_at, ts, service, config_version, overall_score)
    SELECT at + interval '1 second', at, $1, $2, $3::float8
    FROM (
        SELECT $4::timestamptz + n * ($5::timestamptz - $4) / $6::int AS at
        FROM generate_series(0, $6::int - 1) AS n
    ) made
"""


async def clock(database: Database) -> int:
    """The present minute of the database's clock (ms)."""
    pool = await database.pool()
    now = await pool.fetchval("SELECT extract(epoch FROM clock_timestamp())")
    return int(now * 1000) // MINUTE_MS * MINUTE_MS


async def had(
    database: Database,
    since: int,
    until: int,
    *,
    service: str = "chat",
    version: str | None = "chat@1",
    per_minute: float = 30,
    latency_ms: float = 100.0,
    tokens: int = 50,
    cost_usd: float | None = 0.002,
    failed: int = 0,
    scores: int = 0,
    quality: float = 90.0,
) -> None:
    """Keep the calls of [since, until) (ms), of each minute's the first `failed` errors, and its `scores`."""
    connection = await database.connect()
    try:
        await _days(connection, since, until)
        minutes = (until - since) / MINUTE_MS
        n = round(per_minute * minutes)
        if n:
            await connection.execute(
                _REQUESTS,
                *(service, version, latency_ms, max(round(per_minute), 1), tokens, cost_usd, failed),
                *(moment(since), moment(until), n),
            )
        if scores:
            count = round(scores * minutes)
            await connection.execute(_SCORES, service, version, quality, moment(since), moment(until), count)
    finally:
        await connection.close()


async def roll_up(database: Database) -> None:
    connection = await database.connect()
    try:
        await Roller(connection).run()
    finally:
        await connection.close()


async def _days(connection: "asyncpg.Connection[asyncpg.Record]", since: int, until: int) -> None:
    day = moment(since).date()
    while day <= moment(until).date() + timedelta(days=1):
        for table in ("metrics", "quality"):
            await ensure_day(connection, table, day)
        day += timedelta(days=1)
