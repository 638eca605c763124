"""Webhooks over HTTP: what is taken, shown and refused, and deliveries sent anew."""

import base64
from typing import Any

import httpx
import pytest

from storage import deliveries, webhooks
from storage.database import Database
from storage.deliveries import Outcome
from tests.api.answers import done, refused
from tests.api.conftest import Served
from tests.storage.hooks import get_webhook, happen, request, take_over

PATH = "/api/v1/webhooks"
URL = "https://example.com/hook"
SECRET = f"whsec_{base64.b64encode(bytes(32)).decode()}"
WHOLE = {
    "url": URL,
    "events": ["config.changed", "alert.raised"],
    "headers": {"Authorization": "Bearer hidden"},
    "retryPolicy": {"maxRetries": 3, "backoff": "linear", "initialDelayMs": 10, "maxDelayMs": 20},
    "secret": SECRET,
    "enabled": True,
}


async def ended(database: Database, webhook_id: str, *scopes: str) -> list[str]:
    """Events in the scopes that were delivered; gives the deliveries' ids."""
    await happen(database, *scopes)
    await take_over(database, webhook_id)
    async with database.transaction() as session:
        found = await deliveries.due(session, webhook_id, lanes=10, each=10, busy=())
        every = [one for waiting in found.values() for one in waiting]
        outcomes = [Outcome(one, "delivered", 200, None, 1.5) for one in every]
        await deliveries.record(session, webhook_id, outcomes)
    return [one.id for one in every]


async def test_made_read_listed_replaced_and_deleted(client: httpx.AsyncClient) -> None:
    made = done(await client.post(PATH, json=WHOLE))
    assert set(made) == {
        *("id", "url", "events", "headerNames", "hasSecret", "retryPolicy", "enabled"),
        *("source", "createdAt", "createdBy", "updatedAt"),
    }
    assert (made["url"], made["events"]) == (URL, ["alert.raised", "config.changed"])
    assert (made["headerNames"], made["hasSecret"]) == (["Authorization"], True)
    assert made["retryPolicy"] == WHOLE["retryPolicy"]
    assert (made["source"], made["createdBy"], made["enabled"]) == ("api", "admin", True)
    one = f"{PATH}/{made['id']}"
    assert done(await client.get(one)) == made
    bare = done(await client.post(PATH, json={"url": URL}))
    assert "events" not in bare
    assert done(await client.get(PATH)) == {"total": 2, "webhooks": [bare, made]}
    assert done(await client.get(PATH, params={"limit": 1, "offset": 1})) == {"total": 2, "webhooks": [made]}
    replaced = done(await client.put(one, json={"url": URL, "enabled": False}))
    assert (replaced["headerNames"], replaced["hasSecret"]) == (["Authorization"], True)
    assert (replaced["enabled"], "events" in replaced) == (False, False)
    assert replaced["retryPolicy"]["maxRetries"] == 15
    emptied = done(await client.put(one, json={"url": URL, "headers": {}, "secret": ""}))
    assert (emptied["headerNames"], emptied["hasSecret"]) == ([], False)
    assert done(await client.delete(one)) == emptied
    refused(await client.get(one), 404, "NOT_FOUND")
    refused(await client.delete(one), 404, "NOT_FOUND")
    refused(await client.put(one, json={"url": URL}), 404, "NOT_FOUND")
    refused(await client.get(f"{one}/deliveries"), 404, "NOT_FOUND")


async def test_nothing_secret_is_ever_shown(client: httpx.AsyncClient) -> None:
    made = await client.post(PATH, json=WHOLE)
    one = f"{PATH}/{made.json()['id']}"
    answers = [made, await client.get(one), await client.get(PATH), await client.put(one, json=WHOLE)]
    bad = WHOLE | {"headers": {"Authorization": "hidden\n"}, "secret": f"{SECRET}hidden"}
    answers += [await client.post(PATH, json=bad), await client.delete(one)]
    for answer in answers:
        assert "hidden" not in answer.text
        assert SECRET not in answer.text


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"url": "example.com"}, "url"),
        ({"url": None}, "url"),
        ({"url": "http://127.0.0.1/"}, "url"),
        ({"url": "http://localhost:8080/"}, "url"),
        ({"url": "http://169.254.169.254/latest"}, "url"),
        ({"events": ["config.chnged"]}, "events[0]"),
        ({"events": []}, "events"),
        ({"headers": {"Host": "other"}}, "headers"),
        ({"headers": {"A": "x\r\nB: y"}}, "headers"),
        ({"headers": {"A": 1}}, "headers.A"),
        ({"secret": "short"}, "secret"),
        ({"retryPolicy": {"maxRetries": -1}}, "retryPolicy.maxRetries"),
        ({"retryPolicy": {"backof": "linear"}}, "retryPolicy.backof"),
        ({"evnts": []}, "evnts"),
    ],
)
async def test_what_is_wrong_is_named(client: httpx.AsyncClient, fields: dict[str, Any], field: str) -> None:
    made = done(await client.post(PATH, json={"url": URL}))
    for answer in (
        await client.post(PATH, json={"url": URL} | fields),
        await client.put(f"{PATH}/{made['id']}", json={"url": URL} | fields),
    ):
        assert refused(answer, 400, "INVALID_REQUEST")["message"].startswith(f"{field}: ")
    assert done(await client.get(PATH)) == {"total": 1, "webhooks": [made]}


async def test_private_hosts_may_be_allowed(served: Served) -> None:
    async with served(webhooks_allow_private=True) as client:
        done(await client.post(PATH, json={"url": "http://127.0.0.1/"}))


async def test_the_same_request_again_makes_no_second(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "once"}
    made = done(await client.post(PATH, json=WHOLE, headers=key))
    assert done(await client.post(PATH, json=WHOLE, headers=key)) == made
    refused(await client.post(PATH, json={"url": URL}, headers=key), 409, "CONFLICT")
    assert done(await client.get(PATH))["total"] == 1


async def test_only_an_admin_may(client: httpx.AsyncClient, key_with: Any) -> None:
    made = done(await client.post(PATH, json=WHOLE))
    one = f"{PATH}/{made['id']}"
    headers = {"Authorization": f"Bearer {await key_with('ingest', 'read', 'write')}"}
    for answer in (
        await client.get(PATH, headers=headers),
        await client.post(PATH, json=WHOLE, headers=headers),
        await client.get(one, headers=headers),
        await client.put(one, json=WHOLE, headers=headers),
        await client.delete(one, headers=headers),
        await client.get(f"{one}/deliveries", headers=headers),
        await client.post(f"{one}/deliveries/whd_1/redeliver", headers=headers),
    ):
        refused(answer, 403, "FORBIDDEN")
    assert done(await client.get(one)) == made


async def test_deliveries_are_listed_and_sent_anew(client: httpx.AsyncClient, database: Database) -> None:
    made = done(await client.post(PATH, json={"url": URL}))
    first, second = await ended(database, made["id"], "chat", "mail")
    log = f"{PATH}/{made['id']}/deliveries"
    listed = done(await client.get(log))
    assert (listed["total"], [one["id"] for one in listed["deliveries"]]) == (2, [second, first])
    assert set(listed["deliveries"][0]) == {
        *("id", "webhookId", "eventId", "eventType", "status", "attempts", "responseStatus"),
        *("durationMs", "createdAt", "lastAttemptAt", "endedAt"),
    }
    again = f"{log}/{first}/redeliver"
    anew = done(await client.post(again, headers={"Idempotency-Key": "once"}))
    assert (anew["id"], anew["status"], anew["attempts"]) == (first, "pending", 0)
    assert set(anew) == {
        *("id", "webhookId", "eventId", "eventType", "status", "attempts", "nextAttemptAt", "createdAt"),
    }
    assert done(await client.post(again, headers={"Idempotency-Key": "once"})) == anew
    refused(await client.post(again), 409, "CONFLICT")
    refused(await client.post(f"{log}/whd_none/redeliver"), 404, "NOT_FOUND")
    pending = done(await client.get(log, params={"status": "pending"}))
    assert [one["id"] for one in pending["deliveries"]] == [first]
    assert done(await client.get(log, params={"limit": 1, "offset": 1}))["deliveries"] == [anew]
    refused(await client.get(log, params={"status": "lost"}), 400, "INVALID_REQUEST")


async def test_an_endpoint_of_the_file_is_shown_and_not_changed(
    client: httpx.AsyncClient, database: Database
) -> None:
    async with database.transaction() as session:
        await webhooks.sync_file(session, [request(URL)])
    (shown,) = done(await client.get(PATH))["webhooks"]
    assert shown["source"] == "file"
    one = f"{PATH}/{shown['id']}"
    for answer in (await client.put(one, json={"url": URL}), await client.delete(one)):
        assert "settings file" in refused(answer, 409, "CONFLICT")["message"]
    (delivery,) = await ended(database, shown["id"], "chat")
    done(await client.post(f"{one}/deliveries/{delivery}/redeliver"))


async def test_a_disabled_endpoint_says_why(client: httpx.AsyncClient, database: Database) -> None:
    made = done(await client.post(PATH, json={"url": URL}))
    async with database.transaction() as session:
        await webhooks.disable(session, made["id"], "the endpoint answered 410 Gone")
    shown = done(await client.get(f"{PATH}/{made['id']}"))
    assert (shown["enabled"], shown["disabledReason"]) == (False, "the endpoint answered 410 Gone")
    enabled = done(await client.put(f"{PATH}/{made['id']}", json={"url": URL}))
    assert (enabled["enabled"], "disabledReason" in enabled) == (True, False)
    assert (await get_webhook(database, made["id"])).disabled_reason is None
