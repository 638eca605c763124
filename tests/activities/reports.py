"""Single reports, as the intake stores them, arriving now."""

from typing import Any

from domain.config import LLMConfig
from storage import partitions, samples
from storage.database import Database
from tests.storage.records import config


async def prepare(database: Database) -> None:
    """Make today's partitions."""
    pool = await database.pool()
    async with pool.acquire() as connection:
        await partitions.ensure_partitions(connection)


async def requests(
    database: Database,
    n: int = 1,
    *,
    version: str | None,
    of: LLMConfig | None = None,
    service: str = "chat",
    endpoint: str = "answer",
    latency_ms: float = 400.0,
    cost_usd: float | None = 0.002,
    failed: int = 0,
    request_id: str | None = None,
) -> None:
    """Commit `n` requests, the first `failed` of which were errors."""
    model = of or config()
    await _store(
        database,
        "metrics",
        [
            {
                "service": service,
                "endpoint": endpoint,
                "provider": model.provider,
                "model": model.model,
                "config_version": version,
                "request_id": request_id,
                "latency_ms": latency_ms,
                "tokens_input": 200,
                "tokens_output": 100,
                "tokens_total": 300,
                "cost_usd": cost_usd,
                "status_code": 500 if number < failed else 200,
            }
            for number in range(n)
        ],
    )


async def score(
    database: Database,
    value: float,
    *,
    version: str | None = None,
    request_id: str | None = None,
    service: str = "chat",
) -> None:
    """Commit a quality score."""
    row = {
        "service": service,
        "config_version": version,
        "request_id": request_id,
        "overall_score": value,
    }
    await _store(database, "quality", [row])


async def _store(database: Database, table: str, rows: list[dict[str, Any]]) -> None:
    connection = await samples.connect_for_copy(database)
    try:
        now = await samples.clock(connection)
        columns = samples.COLUMNS[table][1:]
        records = [tuple((row | {"ts": now}).get(column) for column in columns) for row in rows]
        await samples.copy_rows(connection, table, records, now)
    finally:
        await connection.close()
