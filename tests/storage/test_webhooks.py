"""Endpoints: made, replaced, rotated, disabled, and kept in step with the settings' file."""

import asyncio
import base64
from typing import Any

import pytest
from sqlalchemy import select

from domain.errors import Conflict, NotFound
from storage import event_log, webhooks
from storage.changefeed import ChangeFeed
from storage.database import Database
from storage.tables import Webhook
from tests.storage.hooks import get_webhook, happen, open_webhook, request, take_over
from tests.storage.records import events

OLD, NEW = (f"whsec_{base64.b64encode(bytes([number]) * 24).decode()}" for number in (1, 2))


async def replace(database: Database, webhook_id: str, **fields: Any) -> Webhook:
    async with database.transaction() as session:
        return await webhooks.replace(session, webhook_id, request(**fields))


async def signing(database: Database, webhook_id: str) -> list[str]:
    async with database.transaction() as session:
        return await webhooks.secrets_of(session, await webhooks.get(session, webhook_id))


async def sync(database: Database, *endpoints: Any) -> list[Webhook]:
    async with database.transaction() as session:
        await webhooks.sync_file(session, endpoints)
    async with database.transaction() as session:
        found = select(Webhook).where(Webhook.source == "file").order_by(Webhook.url)
        return list((await session.execute(found)).scalars())


async def test_what_is_secret_is_not_shown(database: Database) -> None:
    row = await open_webhook(database, headers={"X-B": "hidden", "Authorization": "hidden"}, secret=OLD)
    shown = webhooks.describe(await get_webhook(database, row.id)).to_json()
    assert (shown["headerNames"], shown["hasSecret"]) == (["Authorization", "X-B"], True)
    assert "hidden" not in str(shown)
    assert OLD not in str(shown)
    assert "events" not in shown
    assert (shown["source"], shown["createdBy"], shown["enabled"]) == ("api", "ada", True)


async def test_replacing_keeps_what_nobody_can_read_back(database: Database) -> None:
    row = await open_webhook(database, headers={"A": "1"}, secret=OLD, events=["alert.raised"])
    kept = await replace(database, row.id, url="https://example.com/other")
    assert (kept.url, kept.events) == ("https://example.com/other", None)
    assert (kept.headers, kept.secret, kept.position) == ({"A": "1"}, OLD, row.position)
    bare = await replace(database, row.id, headers={}, secret="")
    assert (bare.headers, bare.secret) == ({}, None)
    assert await signing(database, row.id) == []


async def test_a_replaced_secret_signs_beside_its_successor_for_a_day(database: Database) -> None:
    row = await open_webhook(database, secret=OLD)
    await replace(database, row.id, secret=OLD)
    assert await signing(database, row.id) == [OLD]
    await replace(database, row.id, secret=NEW)
    assert await signing(database, row.id) == [NEW, OLD]
    pool = await database.pool()
    await pool.execute("UPDATE webhooks SET previous_secret_until = now() + interval '23 hours'")
    assert await signing(database, row.id) == [NEW, OLD]
    await pool.execute("UPDATE webhooks SET previous_secret_until = now()")
    assert await signing(database, row.id) == [NEW]


async def test_an_endpoint_begins_at_the_end_of_the_log_and_so_again_once_enabled(database: Database) -> None:
    await happen(database, "a", "b")
    row = await open_webhook(database)
    assert row.position == 2
    await happen(database, "c")
    await take_over(database, row.id)
    off = await replace(database, row.id, enabled=False)
    await happen(database, "d")
    await take_over(database, row.id)
    assert (await get_webhook(database, row.id)).position == off.position == 3
    assert (await replace(database, row.id)).position == 4


async def test_disabling_raises_one_alert(database: Database) -> None:
    row = await open_webhook(database, "https://example.com/hook?key=hidden")
    for _ in range(2):
        async with database.transaction() as session:
            await webhooks.disable(session, row.id, "gone")
    off = await get_webhook(database, row.id)
    assert (off.enabled, off.disabled_reason) == (False, "gone")
    (alert,) = await events(database, "alert.raised")
    assert alert.data["details"] == {"webhookId": row.id, "host": "example.com"}
    assert "hidden" not in str(alert.data)
    on = await replace(database, row.id)
    assert (on.enabled, on.disabled_reason) == (True, None)


async def test_deleting_takes_the_deliveries_along(database: Database) -> None:
    row = await open_webhook(database)
    await happen(database, "a")
    await take_over(database, row.id)
    async with database.transaction() as session:
        await webhooks.delete(session, row.id)
    pool = await database.pool()
    assert await pool.fetchval("SELECT count(*) FROM webhook_deliveries") == 0
    with pytest.raises(NotFound):
        await get_webhook(database, row.id)


async def test_the_file_decides_over_its_endpoints_alone(database: Database) -> None:
    own = await open_webhook(database, "https://a.example")
    first = await sync(
        database,
        request("https://a.example", secret=OLD, headers={"A": "1"}),
        request("https://b.example", events=["alert.raised"]),
    )
    assert [row.url for row in first] == ["https://a.example", "https://b.example"]
    assert await sync(database, request("https://b.example"), request("https://a.example")) != []
    a, b = await sync(database, request("https://b.example"), request("https://a.example"))
    assert [a.id, b.id] == [row.id for row in first]
    assert (a.secret, a.headers, b.events) == (None, {}, None)
    (left,) = await sync(database, request("https://b.example"))
    assert left.id == b.id
    assert (await get_webhook(database, own.id)).source == "api"
    with pytest.raises(Conflict, match="settings file"):
        await replace(database, b.id)
    async with database.transaction() as session:
        with pytest.raises(Conflict, match="settings file"):
            await webhooks.delete(session, b.id)


async def test_syncing_the_same_again_changes_nothing_and_loses_nothing(database: Database) -> None:
    endpoint = request("https://a.example", secret=OLD, headers={"A": "1"})
    (before,) = await sync(database, endpoint)
    await happen(database, "a")
    (after,) = await sync(database, endpoint)
    assert (after.position, after.updated_at, after.secret) == (before.position, before.updated_at, OLD)
    async with database.transaction() as session:
        await webhooks.disable(session, after.id, "gone")
    (again,) = await sync(database, endpoint)
    assert (again.enabled, again.disabled_reason) == (True, None)


async def test_replicas_that_start_together_sync_once(database: Database) -> None:
    endpoints = [request(f"https://{number}.example") for number in range(3)]
    await asyncio.gather(*(sync(database, *endpoints) for _ in range(5)))
    assert len(await sync(database, *endpoints)) == 3


async def test_what_delivery_writes_wakes_nobody(database: Database) -> None:
    row = await open_webhook(database)
    feed = ChangeFeed(database)
    woken, other = feed.event("webhooks"), feed.event("services")
    pool = await database.pool()
    async with feed:
        await woken.wait()
        await happen(database, "a")
        woken.clear()
        await take_over(database, row.id)
        async with database.transaction() as session:
            assert (await webhooks.get(session, row.id)).position == await event_log.end(session)
        # Notifications come in the order of the commits.
        other.clear()
        await pool.execute("INSERT INTO services (name) VALUES ('chat')")
        async with asyncio.timeout(20):
            await other.wait()
        assert not woken.is_set()
        await replace(database, row.id, enabled=False)
        async with asyncio.timeout(20):
            await woken.wait()
