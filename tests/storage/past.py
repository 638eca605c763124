"""Records of days gone by: made by the code that makes them, then moved back in time."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from activities import checks
from domain.policy import ServicePolicy
from domain.reports import MetricReport, QualityEvaluation
from storage import rollback, rollouts
from storage.database import Database
from storage.partitions import ensure_day
from tests.activities.reports import prepare
from tests.storage.calls import call, store
from tests.storage.records import AT, change, config, enter, get_rollout, make
from workflows import messages as m

HOUR_MS = 3_600_000
_TIMES = {
    "events": ("timestamp",),
    "config_versions": ("created_at",),
    "scopes": ("applied_at",),
    "rollouts": ("created_at", "started_at", "ended_at"),
    "metrics": ("ts", "received_at"),
    "quality": ("ts", "received_at"),
}


async def open_days(database: Database, days: int = 4) -> None:
    """Partitions of some days before today, too."""
    await prepare(database)
    pool = await database.pool()
    today = await pool.fetchval("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date")
    async with pool.acquire() as connection:
        for table in ("metrics", "quality", "rollup_minutes"):
            for ago in range(1, days + 1):
                await ensure_day(connection, table, today - timedelta(days=ago))


async def pass_hours(database: Database, hours: float) -> None:
    """Let all that has happened so far have happened so much earlier."""
    pool = await database.pool()
    for table, columns in _TIMES.items():
        earlier = ", ".join(f"{name} = {name} - $1::interval" for name in columns)
        await pool.execute(f"UPDATE {table} SET {earlier}", timedelta(hours=hours))


async def now(database: Database) -> int:
    pool = await database.pool()
    return int(await pool.fetchval("SELECT extract(epoch FROM clock_timestamp()) * 1000"))


async def had(
    database: Database, hours: Iterable[float], version: str | None, n: int = 40, **given: Any
) -> None:
    """Calls so many hours ago, `n` at each, which arrived then; with `quality`, each with a score."""
    moment, quality = await now(database), given.pop("quality", None)
    for ago in hours:
        at = moment - round(ago * HOUR_MS)
        calls = [_call(at, version, number, given) for number in range(n)]
        scores = [] if quality is None else [_score(at, version, quality)] * n
        await store(database, calls, scores, ago_ms=round(ago * HOUR_MS))


def _call(at: int, version: str | None, number: int, given: dict[str, Any]) -> MetricReport:
    """Latency and cost differ a little from call to call, as they do."""
    share = 0.9 + 0.2 * (number % 11) / 10
    fields: dict[str, Any] = {"latency_ms": 1_000.0, "cost_usd": 0.01} | given
    fields |= {"latency_ms": fields["latency_ms"] * share, "cost_usd": fields["cost_usd"] * share}
    tags = {} if version is None else {"tags": {"configVersion": version}}
    return call(at, **(fields | tags))


def _score(at: int, version: str | None, quality: float) -> QualityEvaluation:
    return QualityEvaluation(at, "chat", quality, config_version=version)


async def canary(database: Database, model: str, *, n: int = 400, looks: int = 2, **given: Any) -> str:
    """A rollout of a model with half of the traffic, looked at some times; gives its id."""
    policy = ServicePolicy.model_validate({"service": "chat", "rollout": {"steps": [50, 100]}})
    opened = await make(database, change("chat", config=config(model), policy=policy))
    assert opened.deployment_id is not None
    await enter(database, opened.deployment_id)
    row = await get_rollout(database, opened.deployment_id)
    for number in range(1, looks + 1):
        await had(database, [0], row.from_version, n=n // looks, quality=80.0)
        await had(database, [0], row.to_version, n=n // looks, model=model, quality=80.0, **given)
        async with database.transaction() as session:
            look = m.CheckInput(
                deployment_id=row.id, number=number, step=0, step_end=False, extension=0, at=AT, fence=0
            )
            await checks.check(session, look)
    return row.id


async def take_back(database: Database, deployment_id: str) -> None:
    """As the workflow does once a look found harm."""
    async with database.transaction() as session:
        row = await rollouts.lock(session, deployment_id)
        triggers = await rollouts.last_triggers(session, row)
        assert triggers
        await rollback.roll_back(session, row, reason="it harms", automatic=True, triggers=triggers)
