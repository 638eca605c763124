"""API keys over HTTP: made, shown once, listed, revoked everywhere."""

import time
from typing import Any

import httpx
import pytest

from storage.database import Database
from tests.api.answers import done, refused
from tests.api.conftest import ADMIN_KEY, Served
from tests.waiting import until

KEYS, SERVICES = "/api/v1/keys", "/api/v1/services"
DAY_MS = 86_400_000


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def make(client: httpx.AsyncClient, *scopes: str, **change: Any) -> dict[str, Any]:
    return done(await client.post(KEYS, json={"name": "app", "scopes": scopes or ["read"]} | change))


async def test_a_key_is_shown_once_and_works_at_once(client: httpx.AsyncClient, database: Database) -> None:
    made = await make(client, "read", "ingest", "read")
    assert set(made) == {"id", "key", "name", "scopes", "createdAt"}
    assert (made["name"], made["scopes"]) == ("app", ["ingest", "read"])
    done(await client.get(SERVICES, headers=bearer(made["key"])))
    refused(await client.put(f"{SERVICES}/chat", json={}, headers=bearer(made["key"])), 403, "FORBIDDEN")
    listed = done(await client.get(KEYS))
    shown = {name: made[name] for name in ("id", "name", "scopes", "createdAt")}
    assert listed == {"total": 1, "keys": [shown]}
    pool = await database.pool()
    for table in ("api_keys", "idempotency_keys", "audit_log", "events"):
        assert made["key"] not in str(await pool.fetch(f"SELECT * FROM {table}"))


async def test_keys_are_listed_by_pages_the_newest_first(client: httpx.AsyncClient) -> None:
    expires = int(time.time() * 1000) + DAY_MS
    made = [await make(client, name=f"app-{number}", expiresAt=expires) for number in range(3)]
    page = done(await client.get(KEYS, params={"limit": 2, "offset": 1}))
    assert page["total"] == 3
    assert [key["id"] for key in page["keys"]] == [made[1]["id"], made[0]["id"]]
    assert page["keys"][0]["expiresAt"] == expires
    assert "revoked" not in page["keys"][0]


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "x" * 257},
        {"name": 1},
        {"scopes": []},
        {"scopes": ["root"]},
        {"scopes": "read"},
        {"scopes": ["read"] * 5},
        {"expiresAt": 0},
        {"expiresAt": int(time.time() * 1000) - 1},
        {"expiresAt": 10**15},
        {"expiresAt": "tomorrow"},
        {"key": "mine"},
    ],
)
async def test_a_bad_key_is_not_made(client: httpx.AsyncClient, change: dict[str, Any]) -> None:
    body = {"name": "app", "scopes": ["read"]} | change
    refused(await client.post(KEYS, json=body), 400, "INVALID_REQUEST")
    assert done(await client.get(KEYS))["total"] == 0


async def test_only_an_admin_sees_makes_and_revokes_keys(client: httpx.AsyncClient) -> None:
    made = await make(client, "read", "write", "ingest")
    headers = bearer(made["key"])
    for method, path in (("GET", KEYS), ("POST", KEYS), ("DELETE", f"{KEYS}/{made['id']}")):
        body = {"name": "more", "scopes": ["admin"]} if method == "POST" else None
        refused(await client.request(method, path, json=body, headers=headers), 403, "FORBIDDEN")
    done(await client.get(SERVICES, headers=headers))


async def test_a_repeat_makes_no_second_key_and_shows_the_first_no_more(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "key-1"}
    body = {"name": "app", "scopes": ["read"]}
    made = done(await client.post(KEYS, json=body, headers=headers))
    again = refused(await client.post(KEYS, json=body, headers=headers), 409, "CONFLICT")
    assert again["details"] == {"id": made["id"]}
    assert made["key"] not in str(again)
    other = await client.post(KEYS, json=body | {"name": "other"}, headers=headers)
    assert "details" not in refused(other, 409, "CONFLICT")
    assert done(await client.get(KEYS))["total"] == 1


async def test_a_revoked_key_ends_on_every_replica(client: httpx.AsyncClient, served: Served) -> None:
    made = await make(client, "read")
    headers = bearer(made["key"])
    async with served() as other:
        done(await other.get(SERVICES, headers=headers))
        revoked = done(await client.delete(f"{KEYS}/{made['id']}"))
        assert (revoked["id"], revoked["revoked"]) == (made["id"], True)
        refused(await client.get(SERVICES, headers=headers), 401, "UNAUTHORIZED")

        async def ended() -> bool:
            return (await other.get(SERVICES, headers=headers)).status_code == 401

        await until(ended)
        # The way that is ahead of the routes remembers keys of its own.
        refused(await other.get("/api/v1/config/current", headers=headers), 401, "UNAUTHORIZED")
    assert done(await client.get(KEYS))["keys"] == [revoked]
    assert done(await client.delete(f"{KEYS}/{made['id']}")) == revoked


async def test_a_new_key_is_known_to_every_replica(client: httpx.AsyncClient, served: Served) -> None:
    async with served() as other:
        made = await make(client, "read")

        async def known() -> bool:
            return (await other.get(SERVICES, headers=bearer(made["key"]))).status_code == 200

        await until(known)


async def test_a_key_may_revoke_itself(client: httpx.AsyncClient) -> None:
    made = await make(client, "admin")
    headers = bearer(made["key"])
    assert done(await client.delete(f"{KEYS}/{made['id']}", headers=headers))["revoked"] is True
    refused(await client.delete(f"{KEYS}/{made['id']}", headers=headers), 401, "UNAUTHORIZED")
    done(await client.get(KEYS, headers=bearer(ADMIN_KEY)))


async def test_unknown_keys_cannot_be_revoked(client: httpx.AsyncClient) -> None:
    for unknown in ("key_none", "environment", "x" * 1000):
        refused(await client.delete(f"{KEYS}/{unknown}"), 404, "NOT_FOUND")


async def test_a_key_ends_when_its_time_is_up(client: httpx.AsyncClient, database: Database) -> None:
    made = await make(client, "read", expiresAt=int(time.time() * 1000) + DAY_MS)
    done(await client.get(SERVICES, headers=bearer(made["key"])))
    pool = await database.pool()
    await pool.execute("UPDATE api_keys SET expires_at = now() - interval '1 second'")

    async def ended() -> bool:
        return (await client.get(SERVICES, headers=bearer(made["key"]))).status_code == 401

    await until(ended)
