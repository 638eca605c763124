"""Deliveries: taken over once, in order per lane, recorded once, sent anew, forgotten."""

import asyncio
from typing import Any

import pytest

from domain.errors import Conflict, NotFound
from storage import deliveries, event_log, webhooks
from storage.database import Database
from storage.deliveries import Due, Outcome
from tests.storage.hooks import (
    delivery_rows,
    get_webhook,
    happen,
    open_webhook,
    publish,
    request,
    statuses,
    take_over,
)
from tests.storage.records import events


async def due(database: Database, webhook_id: str, **options: Any) -> dict[str, list[Due]]:
    given: dict[str, Any] = {"lanes": 10, "each": 10, "busy": ()}
    async with database.transaction() as session:
        return await deliveries.due(session, webhook_id, **(given | options))


def numbers(found: dict[str, list[Due]]) -> dict[str, list[int]]:
    return {lane: [one.event.data["number"] for one in waiting] for lane, waiting in found.items()}


async def record(database: Database, webhook_id: str, *outcomes: Outcome) -> set[str]:
    async with database.transaction() as session:
        return await deliveries.record(session, webhook_id, outcomes)


def delivered(one: Due) -> Outcome:
    return Outcome(one, status="delivered", response_status=200, error=None, duration_ms=1.5)


def retried(one: Due, **fields: Any) -> Outcome:
    given: dict[str, Any] = {"status": "pending", "response_status": 500, "error": "no", "duration_ms": 1.5}
    return Outcome(one, **(given | fields))


async def first_due(database: Database, webhook_id: str) -> Due:
    (waiting,) = (await due(database, webhook_id)).values()
    return waiting[0]


async def next_due(database: Database, webhook_id: str) -> int | None:
    async with database.transaction() as session:
        return await deliveries.next_due_ms(session, webhook_id)


async def waiting_ids(database: Database) -> list[str]:
    async with database.transaction() as session:
        return [webhook_id for webhook_id, _ in await deliveries.waiting(session)]


async def test_matching_events_are_taken_over_once_however_many_do_it(database: Database) -> None:
    every = await open_webhook(database)
    some = await open_webhook(database, events=["alert.raised", "deployment.held"])
    await happen(database, *["a"] * 1_005)
    await happen(database, "b", "a", type_="alert.raised", first=2_000)
    await happen(database, "c", first=3_000)
    await asyncio.gather(*(take_over(database, row.id) for row in (every, some, every, some)))
    assert len(await delivery_rows(database, every.id)) == 1_008
    rows = await delivery_rows(database, some.id)
    assert [(row.lane, row.position) for row in rows] == [("b", 1_006), ("a", 1_007)]
    # What does not concern it is behind it as well.
    assert (await get_webhook(database, some.id)).position == 1_008
    await take_over(database, every.id)
    assert len(await delivery_rows(database, every.id)) == 1_008


async def test_what_is_due_comes_in_order_per_lane(database: Database) -> None:
    row = await open_webhook(database)
    await happen(database, "b", "a", "b", "c", "a", "b")
    await take_over(database, row.id)
    assert numbers(await due(database, row.id)) == {"b": [0, 2, 5], "a": [1, 4], "c": [3]}
    assert numbers(await due(database, row.id, lanes=2, each=2)) == {"b": [0, 2], "a": [1, 4]}
    assert numbers(await due(database, row.id, busy=("b", "c"))) == {"a": [1, 4]}


async def test_a_lane_waits_for_its_first_and_no_other_does(database: Database) -> None:
    row = await open_webhook(database)
    await happen(database, "a", "a", "b")
    await take_over(database, row.id)
    head = (await due(database, row.id))["a"][0]
    assert await record(database, row.id, retried(head, delay_ms=60_000)) == {head.id}
    assert numbers(await due(database, row.id)) == {"b": [2]}
    assert await next_due(database, row.id) == 0
    await record(database, row.id, *map(delivered, (await due(database, row.id))["b"]))
    wait = await next_due(database, row.id)
    assert wait is not None
    assert 50_000 < wait <= 60_001


async def test_an_attempt_is_recorded_once(database: Database) -> None:
    row = await open_webhook(database)
    await happen(database, "a")
    await take_over(database, row.id)
    one = await first_due(database, row.id)
    assert await record(database, row.id, retried(one)) == {one.id}
    assert await record(database, row.id, delivered(one)) == set(), "it was attempted by another meanwhile"
    again = await first_due(database, row.id)
    assert again.attempts == 1
    assert await record(database, row.id, delivered(again)) == {one.id}
    (recorded,) = await delivery_rows(database, row.id)
    assert (recorded.status, recorded.attempts, recorded.error) == ("delivered", 2, None)
    assert (recorded.response_status, recorded.duration_ms) == (200, 1.5)
    assert recorded.ended_at == recorded.last_attempt_at


async def test_what_is_given_up_raises_an_alert_unless_it_is_one(database: Database) -> None:
    row = await open_webhook(database)
    await happen(database, "chat")
    await happen(database, "mail", type_="alert.raised")
    await take_over(database, row.id)
    found = [one for waiting in (await due(database, row.id)).values() for one in waiting]
    await record(database, row.id, *(retried(one, status="failed", error="no answer") for one in found))
    assert await statuses(database, row.id) == ["failed", "failed"]
    (alert,) = [event for event in await events(database, "alert.raised") if event.position is None]
    assert alert.scope == "chat"
    assert "no answer" in alert.data["reason"]
    assert alert.data["details"]["webhookId"] == row.id
    assert alert.data["details"]["eventType"] == "config.changed"


async def test_a_hold_is_for_the_whole_endpoint(database: Database) -> None:
    row = await open_webhook(database)
    await happen(database, "a", "b")
    await take_over(database, row.id)
    one = (await due(database, row.id))["a"][0]
    await record(database, row.id, retried(one, hold_ms=60_000))
    assert await due(database, row.id) == {}
    assert await waiting_ids(database) == []
    wait = await next_due(database, row.id)
    assert wait is not None
    assert wait > 50_000


async def test_who_has_something_to_do_is_told(database: Database) -> None:
    every = await open_webhook(database)
    some = await open_webhook(database, events=["alert.raised"])
    off = await open_webhook(database, enabled=False)
    assert await waiting_ids(database) == []
    await happen(database, "a", "a")
    assert await waiting_ids(database) == [every.id]
    await take_over(database, every.id)
    assert await waiting_ids(database) == [every.id]
    one = (await due(database, every.id))["a"][0]
    await record(database, every.id, retried(one, delay_ms=60_000))
    assert await waiting_ids(database) == [], "what waits behind another is not due"
    await happen(database, "a", type_="alert.raised")
    assert await waiting_ids(database) == sorted([every.id, some.id])
    await take_over(database, off.id)
    assert await statuses(database, off.id) == []


async def test_sending_anew_goes_beside_the_order(database: Database) -> None:
    row = await open_webhook(database)
    await happen(database, "a", "a")
    await take_over(database, row.id)
    first, second = (await due(database, row.id))["a"]
    await record(database, row.id, retried(first, status="failed"))
    await record(database, row.id, retried(second, delay_ms=60_000))
    async with database.transaction() as session:
        with pytest.raises(Conflict, match="on its way"):
            await deliveries.redeliver(session, row.id, second.id)
    async with database.transaction() as session:
        anew = await deliveries.redeliver(session, row.id, first.id)
    assert (anew.status, anew.attempts, anew.error, anew.ended_at) == ("pending", 0, None, None)
    assert await waiting_ids(database) == [row.id]
    found = await first_due(database, row.id)
    assert (found.id, found.event.id, found.attempts) == (first.id, first.event.id, 0)
    await record(database, row.id, delivered(found))
    async with database.transaction() as session:
        await deliveries.redeliver(session, row.id, first.id)


async def test_what_cannot_be_sent_anew(database: Database) -> None:
    row, other = await open_webhook(database), await open_webhook(database)
    await happen(database, "a")
    await take_over(database, row.id)
    one = await first_due(database, row.id)
    await record(database, row.id, delivered(one))
    for webhook_id, delivery_id in ((other.id, one.id), (row.id, "whd_none"), ("wh_none", one.id)):
        async with database.transaction() as session:
            with pytest.raises(NotFound):
                await deliveries.redeliver(session, webhook_id, delivery_id)
    async with database.transaction() as session:
        await webhooks.replace(session, row.id, request(enabled=False))
    async with database.transaction() as session:
        with pytest.raises(Conflict, match="disabled"):
            await deliveries.redeliver(session, row.id, one.id)
        await webhooks.replace(session, row.id, request())
    pool = await database.pool()
    await pool.execute("DELETE FROM events")
    async with database.transaction() as session:
        with pytest.raises(NotFound, match="no longer kept"):
            await deliveries.redeliver(session, row.id, one.id)


async def test_the_log_of_deliveries_is_listed_newest_first(database: Database) -> None:
    row = await open_webhook(database)
    await happen(database, "a", "b", "c")
    await take_over(database, row.id)
    await record(database, row.id, delivered((await due(database, row.id))["b"][0]))

    async def listed(**options: Any) -> tuple[int, list[str]]:
        given: dict[str, Any] = {"status": None, "limit": 2, "offset": 0}
        async with database.transaction() as session:
            total, rows = await deliveries.list_deliveries(session, row.id, **(given | options))
        return total, [one.lane for one in rows]

    assert await listed() == (3, ["c", "b"])
    assert await listed(offset=2) == (3, ["a"])
    assert await listed(status="pending") == (2, ["c", "a"])
    assert await listed(status="delivered") == (1, ["b"])


async def test_what_ended_long_ago_is_forgotten(database: Database) -> None:
    row = await open_webhook(database)
    await happen(database, "a", "b", "c", "d")
    await take_over(database, row.id)
    found = await due(database, row.id)
    await record(database, row.id, delivered(found["a"][0]), delivered(found["b"][0]))
    pool = await database.pool()
    await pool.execute(
        "UPDATE webhook_deliveries SET ended_at = ended_at - interval '31 days' WHERE lane = 'a'"
    )
    await pool.execute("UPDATE events SET timestamp = now() - interval '91 days' WHERE scope = 'c'")
    async with database.transaction() as session:
        await event_log.purge(session)
        await deliveries.purge(session)
    rows = await delivery_rows(database, row.id)
    assert [(one.lane, one.status) for one in rows] == [
        ("b", "delivered"),
        ("c", "failed"),
        ("d", "pending"),
    ]
    assert rows[1].error == "the event is no longer kept"
    await publish(database)
    assert numbers(await due(database, row.id)) == {"d": [3]}
