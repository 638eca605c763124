"""`/events` and `/events/stream`: the log, and the same live through any replica."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.embedded import EmbeddedStack
from storage import keys
from storage.database import Database
from storage.events import alert, emit
from tests.api.answers import done, refused
from tests.api.conftest import CONFIG, Served
from tests.api.streams import streaming

PATH = "/api/v1/events/stream"


async def raise_alert(database: Database, reason: str, scope: str = "chat") -> None:
    async with database.transaction() as session:
        alert(session, scope, "low", reason)


async def test_a_change_is_in_the_log_at_once_with_its_data(client: httpx.AsyncClient) -> None:
    update = {"config": CONFIG, "reason": "first", "service": "chat"}
    done(await client.post("/api/v1/config/update", json=update))
    body = done(await client.get("/api/v1/events", params={"service": "chat"}))
    assert body["total"] == 1
    (event,) = body["events"]
    assert set(event) == {"id", "type", "timestamp", "scope", "data"}
    assert (event["type"], event["scope"]) == ("config.changed", "chat")
    assert event["data"]["newVersion"] == "chat@1"
    assert event["data"]["newConfig"] == CONFIG


async def test_the_log_is_paged_and_filtered(client: httpx.AsyncClient, database: Database) -> None:
    for number in range(3):
        await raise_alert(database, str(number))
    await raise_alert(database, "endpoint", "chat:/a")
    await raise_alert(database, "other", "mail")
    async with database.transaction() as session:
        emit(session, "deployment.held", "chat", {"deploymentId": "d", "step": "5 %", "reason": "thin"})

    async def reasons(**params: Any) -> tuple[int, list[str]]:
        body = done(await client.get("/api/v1/events", params=params))
        return body["total"], [event["data"]["reason"] for event in body["events"]]

    assert await reasons(limit=2) == (6, ["thin", "other"])
    assert await reasons(limit=2, offset=4) == (6, ["1", "0"])
    assert await reasons(service="chat") == (5, ["thin", "endpoint", "2", "1", "0"])
    assert await reasons(type="deployment.held") == (1, ["thin"])
    assert await reasons(type=["deployment.held", "alert.raised"], service="mail") == (1, ["other"])
    now = done(await client.get("/api/v1/events", params={"limit": 1}))["events"][0]["timestamp"]
    assert await reasons(start=now + 1) == (0, [])
    assert (await reasons(start=now - 60_000, end=now + 1))[0] == 6
    for bad in ({"type": "no.such"}, {"service": "a b"}, {"start": -1}, {"kind": "x"}, {"limit": 0}):
        refused(await client.get("/api/v1/events", params=bad), 400, "INVALID_REQUEST")


async def test_a_stream_brings_every_event_in_order_with_its_id(
    client: httpx.AsyncClient, database: Database
) -> None:
    await raise_alert(database, "before")
    async with streaming(client, PATH) as stream:
        for number in range(20):
            await raise_alert(database, str(number), "chat" if number % 2 else "mail")
        received = await stream.take(20)
    assert [event.json()["data"]["reason"] for event in received] == [str(number) for number in range(20)]
    assert {event.event for event in received} == {"alert.raised"}
    assert [event.id for event in received] == [event.json()["id"] for event in received]
    listed = done(await client.get("/api/v1/events", params={"limit": 20}))["events"]
    assert [event.json() for event in reversed(received)] == listed


async def test_a_stream_is_of_the_types_and_the_service_that_were_asked(
    client: httpx.AsyncClient, database: Database
) -> None:
    async with (
        streaming(client, PATH, params={"service": "chat"}) as of_service,
        streaming(client, PATH, params={"type": "deployment.held"}) as of_type,
    ):
        await raise_alert(database, "mail", "mail")
        await raise_alert(database, "chat2", "chat2")
        await raise_alert(database, "endpoint", "chat:/a")
        async with database.transaction() as session:
            emit(session, "deployment.held", "mail", {"deploymentId": "d", "step": "5 %", "reason": "thin"})
        await raise_alert(database, "chat")
        assert [e.json()["data"]["reason"] for e in await of_service.take(2)] == ["endpoint", "chat"]
        assert (await of_type.next()).json()["data"]["reason"] == "thin"


async def test_a_stream_goes_on_after_the_last_event_that_was_seen(
    client: httpx.AsyncClient, served: Served, database: Database
) -> None:
    async with streaming(client, PATH) as stream:
        await raise_alert(database, "seen")
        seen = await stream.next()
    for number in range(3):
        await raise_alert(database, str(number))
    header = {"Last-Event-ID": seen.id}
    async with streaming(client, PATH, headers=header) as stream:
        await raise_alert(database, "3")
        assert [e.json()["data"]["reason"] for e in await stream.take(4)] == ["0", "1", "2", "3"]
    # A replica that began later has none of them in memory.
    async with served() as late, streaming(late, PATH, headers=header) as stream:
        assert [e.json()["data"]["reason"] for e in await stream.take(4)] == ["0", "1", "2", "3"]
    unknown = await client.get(PATH, headers={"Last-Event-ID": "evt_nobody"})
    refused(unknown, 404, "NOT_FOUND")


async def test_every_replica_streams_everything(served: Served, database: Database) -> None:
    async with (
        served() as one,
        served() as two,
        served(redis_url=None) as without_redis,
        streaming(one, PATH) as first,
        streaming(two, PATH) as second,
        streaming(without_redis, PATH) as third,
    ):
        update = {"config": CONFIG, "reason": "first", "service": "chat"}
        done(await two.post("/api/v1/config/update", json=update))
        for number in range(30):
            await raise_alert(database, str(number))
        taken = await asyncio.gather(*(stream.take(31) for stream in (first, second, third)))
    assert [event.id for event in taken[0]] == [event.id for event in taken[1]] == [e.id for e in taken[2]]
    assert taken[0][0].event == "config.changed"


async def test_redis_may_go_and_come_back(
    served: Served, database: Database, stack: EmbeddedStack, tmp_path: Path
) -> None:
    async with (
        EmbeddedStack(
            tmp_path,
            database_url=stack.database_url,
            temporal_address=stack.temporal_address,
            usual_ports=False,
        ) as own,
        served(redis_url=own.redis_url) as client,
        streaming(client, PATH) as stream,
    ):
        assert own.redis is not None
        await raise_alert(database, "with")
        assert (await stream.next()).json()["data"]["reason"] == "with"
        await own.redis.stop()
        for number in range(5):
            await raise_alert(database, str(number))
        assert [e.json()["data"]["reason"] for e in await stream.take(5)] == list("01234")
        await own.redis.start()
        await raise_alert(database, "again")
        assert (await stream.next()).json()["data"]["reason"] == "again"


async def test_a_stream_ends_with_its_key(
    client: httpx.AsyncClient, database: Database, key_with: Callable[..., Any]
) -> None:
    key = await key_with("read")
    async with streaming(client, PATH, headers={"Authorization": f"Bearer {key}"}) as stream:
        await raise_alert(database, "while it was good")
        assert (await stream.next()).json()["data"]["reason"] == "while it was good"
        async with database.transaction() as session:
            _, (row,) = await keys.list_keys(session, limit=10, offset=0)
            await keys.revoke_key(session, row.id)
        assert await stream.rest() == []


async def test_streams_end_when_the_server_drains(served: Served, database: Database) -> None:
    async with asyncio.timeout(10):
        async with served() as client:
            opened = streaming(client, PATH)
            stream = await opened.__aenter__()
            await raise_alert(database, "last")
            assert (await stream.next()).json()["data"]["reason"] == "last"
        await opened.__aexit__(None, None, None)


@pytest.mark.parametrize("scope", ["ingest", "write"])
async def test_events_are_for_those_who_may_read(
    client: httpx.AsyncClient, key_with: Callable[..., Any], scope: keys.KeyScope
) -> None:
    headers = {"Authorization": f"Bearer {await key_with(scope)}"}
    for path in ("/api/v1/events", PATH, "/api/v1/config/stream"):
        refused(await client.get(path, headers=headers), 403, "FORBIDDEN")
        refused(await client.get(path, headers={"Authorization": ""}), 401, "UNAUTHORIZED")
