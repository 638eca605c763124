"""The event log: one order for all readers, whatever commits when."""

import asyncio
from typing import Any

from domain.events import EventType
from storage import event_log
from storage.database import Database
from storage.events import alert, emit


async def publish_all(database: Database) -> list[str]:
    published: list[str] = []
    while True:
        async with database.transaction() as session:
            events = await event_log.publish(session)
        if not events:
            return published
        published += [event.data["reason"] for event in events]


async def test_an_event_that_commits_late_is_placed_after_those_that_were_read(database: Database) -> None:
    async with database.transaction() as late:
        alert(late, "chat", "low", "late")
        await late.flush()
        async with database.transaction() as session:
            alert(session, "chat", "low", "soon")
        assert await publish_all(database) == ["soon"]
        async with database.transaction() as session:
            position = await event_log.end(session)
    assert await publish_all(database) == ["late"]
    async with database.transaction() as session:
        found = await event_log.after(session, position, limit=10)
    assert [(event.data["reason"], event.position) for event in found] == [("late", position + 1)]


async def test_publishers_at_once_give_each_place_once(database: Database) -> None:
    async def write(writer: int) -> None:
        for number in range(60):
            async with database.transaction() as session:
                alert(session, f"s{writer}", "low", f"{writer}/{number}")

    await asyncio.gather(*(write(writer) for writer in range(3)), *(publish_all(database) for _ in range(3)))
    await publish_all(database)
    async with database.transaction() as session:
        found = await event_log.after(session, 0, limit=1000)
        assert await event_log.end(session) == 180
    assert [event.position for event in found] == list(range(1, 181))
    for writer in range(3):
        told = [event.data["reason"] for event in found if event.scope == f"s{writer}"]
        assert told == [f"{writer}/{number}" for number in range(60)]


async def test_a_batch_is_read_in_the_order_of_its_writing(database: Database) -> None:
    many = event_log.BATCH + 5
    async with database.transaction() as session:
        for number in range(many):
            alert(session, "chat", "low", str(number))
    assert await publish_all(database) == [str(number) for number in range(many)]
    async with database.transaction() as session:
        found = await event_log.after(session, many - 3, limit=2)
    assert [event.data["reason"] for event in found] == [str(many - 3), str(many - 2)]


async def test_the_log_is_listed_newest_first_by_type_service_and_time(database: Database) -> None:
    happened: list[tuple[str, EventType]] = [
        ("chat", "alert.raised"),
        ("chat:/a", "deployment.held"),
        ("chat2", "alert.raised"),
    ]
    for scope, type_ in happened:
        async with database.transaction() as session:
            emit(session, type_, scope, {"reason": scope})
    await publish_all(database)

    async def listed(**filters: Any) -> tuple[int, list[str]]:
        wanted: dict[str, Any] = {
            "types": None,
            "service": None,
            "start": None,
            "end": None,
            "limit": 2,
            "offset": 0,
        }
        async with database.transaction() as session:
            total, found = await event_log.list_events(session, **(wanted | filters))
        return total, [event.scope for event in found]

    assert await listed() == (3, ["chat2", "chat:/a"])
    assert await listed(offset=2) == (3, ["chat"])
    assert await listed(service="chat") == (2, ["chat:/a", "chat"])
    assert await listed(types=["deployment.held"]) == (1, ["chat:/a"])
    async with database.transaction() as session:
        _, (newest, *_) = await event_log.list_events(
            session, types=None, service=None, start=None, end=None, limit=1, offset=0
        )
    pool = await database.pool()
    await pool.execute("UPDATE events SET timestamp = timestamp + position * interval '1 second'")
    assert await listed(end=newest.timestamp + 3_000) == (2, ["chat:/a", "chat"])
    assert await listed(start=newest.timestamp + 3_000) == (1, ["chat2"])


async def test_what_is_past_its_time_is_forgotten_and_its_place_not_given_again(database: Database) -> None:
    async with database.transaction() as session:
        alert(session, "chat", "low", "old")
    await publish_all(database)
    pool = await database.pool()
    await pool.execute("UPDATE events SET timestamp = now() - interval '91 days'")
    async with database.transaction() as session:
        await event_log.purge(session)
        alert(session, "chat", "low", "new")
    await publish_all(database)
    async with database.transaction() as session:
        (left,) = await event_log.after(session, 0, limit=10)
    assert (left.data["reason"], left.position) == ("new", 2)
