"""Back to an earlier version, and what changed from one to another, over HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio
from temporalio.client import Client

from storage.database import Database
from tests.api.answers import done, eventually, refused
from tests.api.conftest import CONFIG
from worker.run import running_worker

UPDATE, ROLLBACK, DIFF = "/api/v1/config/update", "/api/v1/config/rollback", "/api/v1/config/diff"
CHAT = "/api/v1/config/service/chat"
OTHER = CONFIG | {"model": "gpt-4o-mini", "parameters": {"seed": 7}}


@pytest_asyncio.fixture
async def worker(database: Database, temporal: Client) -> AsyncIterator[None]:
    async with running_worker(database, temporal, step_seconds=600.0):
        yield


async def update(client: httpx.AsyncClient, config: dict[str, Any], **change: Any) -> dict[str, Any]:
    body = {"service": "chat", "config": config, "reason": "because"} | change
    return done(await client.post(UPDATE, json=body))


async def roll_back(
    client: httpx.AsyncClient, version: str, headers: dict[str, str] | None = None, **change: Any
) -> httpx.Response:
    body = {"version": version, "reason": "it was better"} | change
    return await client.post(ROLLBACK, json=body, headers=headers)


async def no_rollout(client: httpx.AsyncClient) -> None:
    await eventually(
        client, "/api/v1/deployments", lambda body: body["total"] == 0, params={"scope": "chat", "open": True}
    )


@pytest.fixture
async def two_versions(client: httpx.AsyncClient, worker: None) -> None:
    """`chat@1` and, served, `chat@2`, by a policy whose step ends at once."""
    policy = {"rollout": {"strategy": "immediate", "stepSeconds": 0.1, "checkSeconds": 0.1}}
    done(await client.put("/api/v1/services/chat", json=policy))
    await update(client, CONFIG)
    await update(client, OTHER)
    await no_rollout(client)


@pytest.mark.usefixtures("two_versions")
async def test_an_old_version_comes_back_as_a_new_one_by_a_deployment(client: httpx.AsyncClient) -> None:
    answer = done(await roll_back(client, "chat@1"))
    assert (answer["success"], answer["version"]) == (True, "chat@3")
    served = done(await client.get(CHAT))
    assert (served["version"], served["config"]) == ("chat@3", CONFIG)
    version = done(await client.get(f"/api/v1/config/versions/{quote('chat@3')}"))
    assert (version["derivedFrom"], version["changeType"], version["reason"]) == (
        "chat@1",
        "manual",
        "it was better",
    )
    assert version["deploymentId"] == answer["deploymentId"]
    deployment = done(await client.get(f"/api/v1/deployments/{answer['deploymentId']}"))
    assert (deployment["fromVersion"], deployment["toVersion"], deployment["strategy"]) == (
        "chat@2",
        "chat@3",
        "immediate",
    )


@pytest.mark.usefixtures("two_versions")
async def test_a_rollback_keeps_to_the_strategy_it_names(client: httpx.AsyncClient) -> None:
    answer = done(await roll_back(client, "chat@1", deploymentStrategy="canary"))
    assert done(await client.get(f"/api/v1/deployments/{answer['deploymentId']}"))["strategy"] == "canary"
    error = refused(await roll_back(client, "chat@1"), 409, "CONFLICT")
    assert error["details"]["deploymentId"] == answer["deploymentId"]
    done(await client.post(f"/api/v1/deployments/{answer['deploymentId']}/abort"))


@pytest.mark.usefixtures("two_versions")
async def test_what_is_served_already_is_left_as_it_is(client: httpx.AsyncClient) -> None:
    answer = done(await roll_back(client, "chat@2"))
    assert (answer["version"], answer["unchanged"]) == ("chat@2", True)
    tried = done(await roll_back(client, "chat@1", validateOnly=True))
    assert (tried["success"], "version" in tried) == (True, False)
    assert done(await client.get("/api/v1/config/versions"))["total"] == 2


@pytest.mark.usefixtures("two_versions")
async def test_a_rollback_is_guarded_and_made_once(client: httpx.AsyncClient) -> None:
    refused(await roll_back(client, "chat@1", {"If-Match": '"chat@1"'}), 412, "CONFLICT")
    headers = {"If-Match": '"chat@2"', "Idempotency-Key": "back"}
    first = done(await roll_back(client, "chat@1", headers))
    assert done(await roll_back(client, "chat@1", headers)) == first
    refused(await roll_back(client, "chat@2", headers), 409, "CONFLICT")
    assert done(await client.get("/api/v1/config/versions"))["total"] == 3


@pytest.mark.usefixtures("two_versions")
async def test_a_version_that_is_forbidden_by_now_is_refused_with_an_alert(
    client: httpx.AsyncClient, database: Database
) -> None:
    policy = {"constraints": [{"id": "only-mini", "type": "hard", "models": ["gpt-4o-mini"]}]}
    done(await client.put("/api/v1/services/chat", json=policy))
    error = refused(await roll_back(client, "chat@1"), 422, "CONSTRAINT_VIOLATION")
    assert error["details"]["violations"][0]["constraint"] == "only-mini"
    pool = await database.pool()
    assert await pool.fetchval("SELECT scope FROM events WHERE type = 'alert.raised'") == "chat"
    assert done(await client.get(CHAT))["version"] == "chat@2"


async def test_an_endpoints_version_goes_back_in_its_own_scope(client: httpx.AsyncClient) -> None:
    await update(client, CONFIG, endpoint="/v1/talk@home")
    answer = done(await roll_back(client, "chat:/v1/talk@home@1"))
    assert (answer["version"], answer["unchanged"]) == ("chat:/v1/talk@home@1", True)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"version": "chat@9"}, 404, "NOT_FOUND"),
        ({"version": "chat"}, 404, "NOT_FOUND"),
        ({"version": ""}, 400, "INVALID_REQUEST"),
        ({"version": 1}, 400, "INVALID_REQUEST"),
        ({"reason": ""}, 400, "INVALID_REQUEST"),
        ({"config": CONFIG}, 400, "INVALID_REQUEST"),
        ({"deploymentStrategy": "quick"}, 400, "INVALID_REQUEST"),
    ],
)
async def test_a_bad_rollback_is_refused(
    client: httpx.AsyncClient, change: dict[str, Any], status: int, code: str
) -> None:
    await update(client, CONFIG)
    refused(await roll_back(client, **{"version": "chat@1"} | change), status, code)


async def test_a_rollback_needs_the_scope_write(
    client: httpx.AsyncClient, key_with: Callable[..., Awaitable[str]]
) -> None:
    await update(client, CONFIG)
    headers = {"Authorization": f"Bearer {await key_with('read', 'ingest')}"}
    refused(await roll_back(client, "chat@1", headers), 403, "FORBIDDEN")


async def test_a_diff_tells_each_field_that_changed(client: httpx.AsyncClient) -> None:
    await update(client, CONFIG | {"parameters": {"seed": 1, "user": "u"}, "topK": 5})
    await update(client, CONFIG | {"model": "gpt-4o-mini", "parameters": {"seed": None}}, service="mail")
    answer = done(await client.get(DIFF, params={"from": "chat@1", "to": "mail@1"}))
    assert answer == {
        "from": "chat@1",
        "to": "mail@1",
        "changes": [
            {"field": "model", "from": "gpt-4o", "to": "gpt-4o-mini"},
            {"field": "topK", "from": 5},
            {"field": "parameters.seed", "from": 1, "to": None},
            {"field": "parameters.user", "from": "u"},
        ],
    }
    assert done(await client.get(DIFF, params={"from": "chat@1", "to": "chat@1"}))["changes"] == []
    for unknown in ({"from": "chat@1", "to": "chat@2"}, {"from": "x", "to": "chat@1"}):
        refused(await client.get(DIFF, params=unknown), 404, "NOT_FOUND")
    for incomplete in ({"from": "chat@1"}, {"to": "chat@1"}, {"from": "chat@1", "to": "chat@1", "x": "y"}):
        refused(await client.get(DIFF, params=incomplete), 400, "INVALID_REQUEST")
