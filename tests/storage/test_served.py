"""What a service served when, as the events of its changes tell."""

import pytest

from domain.scope import Scope
from storage import configs, rollback, rollouts, served
from storage.database import Database
from storage.served import Served
from tests.storage.past import HOUR_MS, now, pass_hours
from tests.storage.records import change, complete, enter, first_config, make


async def read(database: Database) -> tuple[Served, int]:
    async with database.snapshot() as session:
        return await served.read(session, "chat"), await now(database)


def versions(found: Served, moment: int, *hours_ago: float) -> list[str | None]:
    active = [found.at(moment - round(hours * HOUR_MS)) for hours in hours_ago]
    return [None if each is None else each.version for each in active]


async def test_what_is_served_now_is_what_the_scope_says(database: Database) -> None:
    await first_config(database, "global")
    await pass_hours(database, 1)
    for model in ("gpt-5", "gpt-4o-mini"):
        opened = await make(database, change("chat", model))
        assert opened.deployment_id is not None
        found, moment = await read(database)
        async with database.transaction() as session:
            expected = await configs.active(session, Scope("chat"))
        assert found.at(moment) == expected
        await complete(database, opened.deployment_id)
        await pass_hours(database, 1)
    found, moment = await read(database)
    async with database.transaction() as session:
        assert found.at(moment) == await configs.active(session, Scope("chat"))
    assert versions(found, moment, 0, 0.5, 1.5, 2.5, 3.5) == ["chat@2", "chat@2", "chat@1", "global@1", None]
    assert len(found.changes(moment - 10 * HOUR_MS, moment)) == 3
    assert len(found.changes(moment - 2 * HOUR_MS, moment)) == 1


async def test_what_was_taken_back_was_served_meanwhile_and_inherited_again(database: Database) -> None:
    await first_config(database, "global")
    await pass_hours(database, 1)
    opened = await make(database, change("chat", "gpt-5", "immediate"))
    assert opened.deployment_id is not None
    await enter(database, opened.deployment_id)
    await pass_hours(database, 1)
    async with database.transaction() as session:
        row = await rollouts.lock(session, opened.deployment_id)
        await rollback.roll_back(session, row, reason="by hand", automatic=False)
    await pass_hours(database, 1)
    found, moment = await read(database)
    assert versions(found, moment, 0, 0.5, 1.5, 2.5) == ["global@1", "global@1", "chat@1", "global@1"]
    active = found.at(moment)
    assert active is not None
    assert active.inherited
    # What it inherits again is as old as it was.
    assert moment - active.applied_at == pytest.approx(3 * HOUR_MS, abs=60_000)


async def test_before_the_events_that_are_kept_the_first_tells_what_was_served(database: Database) -> None:
    await first_config(database, "chat")
    await pass_hours(database, 5)
    opened = await make(database, change("chat", "gpt-5"))
    assert opened.deployment_id is not None
    await complete(database, opened.deployment_id)
    await pass_hours(database, 1)
    pool = await database.pool()
    await pool.execute("DELETE FROM events WHERE data ->> 'newVersion' = 'chat@1'")
    found, moment = await read(database)
    assert versions(found, moment, 0, 0.5, 1.5, 5.5, 6.5) == ["chat@2", "chat@2", "chat@1", "chat@1", None]
    await pool.execute("DELETE FROM events")
    found, moment = await read(database)
    assert versions(found, moment, 0, 0.5, 1.5) == ["chat@2", "chat@2", None]


async def test_an_endpoint_is_apart_from_when_it_has_a_configuration(database: Database) -> None:
    await first_config(database, "chat")
    await pass_hours(database, 2)
    await first_config(database, "chat:summarize")
    await first_config(database, "chatter")
    await first_config(database, "chatter:summarize")
    await pass_hours(database, 1)
    found, moment = await read(database)
    assert found.endpoints(moment) == ("chat:summarize",)
    assert found.endpoints(moment - 2 * HOUR_MS) == ()


async def test_of_a_service_without_a_configuration_nothing_is_known(database: Database) -> None:
    found, moment = await read(database)
    assert found.at(moment) is None
    assert found.changes(0, moment) == []
    assert found.endpoints(moment) == ()
