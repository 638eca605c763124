"""Each change is heard of as it commits, and none is missed for a connection that was lost."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from domain.policy import ServicePolicy
from storage import control, keys, services
from storage.changefeed import ChangeFeed
from storage.database import Database
from tests.storage import records
from tests.storage.records import change, make

TABLES = ("control", "scopes", "rollouts", "api_keys", "services", "optimizations", "events")
LISTENERS = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"


async def heard(event: asyncio.Event) -> None:
    async with asyncio.timeout(20):
        await event.wait()
    event.clear()


@pytest_asyncio.fixture
async def events(database: Database) -> AsyncIterator[dict[str, asyncio.Event]]:
    """An event per table, set from now on when it changes."""
    feed = ChangeFeed(database)
    by_table = {table: feed.event(table) for table in TABLES}
    async with feed:
        for event in by_table.values():
            await heard(event)  # set once at the start: what came before is not known
        yield by_table


async def change_policy(database: Database) -> None:
    async with database.transaction() as session:
        await services.put_policy(session, ServicePolicy(service="chat"))


async def change_key(database: Database) -> None:
    async with database.transaction() as session:
        await keys.create_key(session, name="app", scopes=["read"])


async def pause(database: Database) -> None:
    async with database.transaction() as session:
        await control.pause(session, reason=None, by="ada")


async def first_config(database: Database) -> None:
    await records.first_config(database, "chat")


async def open_rollout(database: Database) -> None:
    await first_config(database)
    await make(database, change("chat", "gpt-5"))


async def open_run(database: Database) -> None:
    await records.open_run(database, "chat")


@pytest.mark.parametrize(
    ("table", "act"),
    [
        ("control", pause),
        ("scopes", first_config),
        ("events", first_config),
        ("rollouts", open_rollout),
        ("api_keys", change_key),
        ("services", change_policy),
        ("optimizations", open_run),
    ],
)
async def test_each_table_tells_of_its_changes(
    database: Database, events: dict[str, asyncio.Event], table: str, act: object
) -> None:
    assert callable(act)
    await act(database)
    await heard(events[table])


async def test_what_is_rolled_back_is_not_heard_of(
    database: Database, events: dict[str, asyncio.Event]
) -> None:
    async def fail_after_changing() -> None:
        async with database.transaction() as session:
            await services.put_policy(session, ServicePolicy(service="chat"))
            await control.pause(session, reason=None, by="ada")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail_after_changing()
    # Notifications come in the order of the commits, so that an earlier one would have been heard.
    await change_policy(database)
    await heard(events["services"])
    assert not events["control"].is_set()


async def test_an_event_of_several_tables_is_set_by_each(database: Database) -> None:
    feed = ChangeFeed(database)
    either = feed.event("control", "services")
    async with feed:
        await heard(either)
        for act in (pause, change_policy):
            await act(database)
            await heard(either)


async def test_after_a_lost_connection_everything_may_have_changed(
    database: Database, events: dict[str, asyncio.Event]
) -> None:
    pool = await database.pool()
    (listener,) = await pool.fetch(LISTENERS)
    await pool.execute("SELECT pg_terminate_backend($1)", listener["pid"])
    for event in events.values():
        await heard(event)
    await pause(database)
    await heard(events["control"])
