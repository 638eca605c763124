"""What conditions are judged by, read for many services at once."""

from typing import Any

from domain.analytics import MINUTE_MS
from domain.reports import QualityEvaluation
from domain.rules.needs import needs
from domain.rules.signals import Reading
from storage import signals
from storage.database import Database
from tests.activities.reports import prepare
from tests.domain.rules.conditions import condition, metric
from tests.storage.calls import call, roll_up, store
from tests.storage.records import first_config


async def minute(database: Database) -> int:
    """The last whole minute."""
    pool = await database.pool()
    seconds = await pool.fetchval("SELECT extract(epoch FROM clock_timestamp())")
    return int(seconds * 1000) // MINUTE_MS * MINUTE_MS


async def read(database: Database, now: int, **asked: list[dict[str, Any]]) -> Any:
    wanted = {name: needs(condition(given) for given in conditions) for name, conditions in asked.items()}
    async with database.transaction() as session:
        return await signals.read(session, wanted, now)


async def test_windows_of_each_service_one_before_the_other(database: Database) -> None:
    await prepare(database)
    now = await minute(database)
    five = 5 * MINUTE_MS
    await store(
        database,
        [
            *[call(now - 1, status_code=500)] * 3,
            *[call(now - five, latency_ms=500.0)] * 2,
            call(now - five - 1, latency_ms=900.0),
            call(now - 2 * five - 1),
            # Of the minute that is not over, and of another service.
            *[call(now, status_code=500)] * 9,
            *[call(now - 1, service="mail", latency_ms=50.0)] * 4,
        ],
        [QualityEvaluation(now - 1, "chat", 80.0)],
        ago_ms=2_000,
    )
    for rolled_up in (False, True):
        if rolled_up:
            assert await roll_up(database)
        found = await read(
            database,
            now + 59_999,
            chat=[metric("latency.p95", forWindows=2), metric("errors"), metric("quality", "<", 50)],
            mail=[metric("latency.p95"), metric("requests.count", window="1h")],
        )
        chat, mail = found["chat"], found["mail"]
        assert chat.reading("errors.rate", "5m", 0) == Reading(0.6, 5)
        assert chat.reading("latency.avg", "5m", 0) == Reading(500.0, 2)
        assert chat.reading("quality.avg", "5m", 0) == Reading(80.0, 1)
        assert chat.reading("requests.count", "5m", 1) == Reading(1.0, 1)
        assert chat.reading("latency.avg", "5m", 1) == Reading(900.0, 1)
        assert chat.reading("requests.count", "5m", 2) is None, "nobody asked for it"
        assert mail.reading("requests.rate", "1h", 0) == Reading(4 / 3600, 4)
        assert mail.reading("errors.rate", "5m", 0) == Reading(0.0, 4)
        assert chat.reading("errors.rate", "1h", 0) is None


async def test_an_endpoint_with_a_configuration_of_its_own_is_left_out(database: Database) -> None:
    await prepare(database)
    await first_config(database, "chat:slow")
    now = await minute(database)
    await store(database, [call(now - 1), *[call(now - 1, endpoint="slow", latency_ms=9000.0)] * 5])
    found = await read(database, now, chat=[metric("latency.avg")])
    assert found["chat"].reading("latency.avg", "5m", 0) == Reading(100.0, 1)


async def test_of_a_service_without_calls_only_that_is_known(database: Database) -> None:
    found = await read(database, await minute(database), quiet=[metric(), {"anomaly": "cost"}])
    quiet = found["quiet"]
    assert quiet.reading("requests.count", "5m", 0) == Reading(0.0, 0)
    assert quiet.reading("errors.rate", "5m", 0) == Reading(None, 0)
    assert quiet.anomaly("cost.avg") is None
    assert quiet.trend("cost.avg", "1h") is None
