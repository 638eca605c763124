"""Every POST under an `Idempotency-Key`: made once, answered alike, for its own caller alone."""

import re
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from temporalio.client import Client

from storage.database import Database
from tests.api.answers import done, eventually, refused
from tests.api.conftest import CONFIG
from tests.waiting import until
from worker.run import running_worker

UPDATE = {"service": "chat", "config": CONFIG, "reason": "because"}
CANARY = UPDATE | {"config": CONFIG | {"topK": 5}}
METRIC = {
    "timestamp": int(time.time() * 1000),
    "service": "chat",
    "endpoint": "/a",
    "model": "m",
    "provider": "p",
    "latencyMs": 1,
    "tokensInput": 1,
    "tokensOutput": 1,
    "tokensTotal": 2,
    "statusCode": 200,
}
DEPLOYMENT = "/api/v1/deployments/{deployment}"
GOLDEN = "/api/v1/analytics/baselines/golden"
# Each POST, with its body and another one that means something else.
POSTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("/api/v1/metrics", {"metrics": [METRIC]}, {"metrics": []}),
    ("/api/v1/quality", {"evaluations": []}, {"evaluations": [{}]}),
    ("/api/v1/config/update", UPDATE | {"service": "mail"}, UPDATE | {"service": "other"}),
    ("/api/v1/config/update", UPDATE | {"validateOnly": True}, UPDATE),
    ("/api/v1/config/rollback", {"version": "chat@1", "reason": "a"}, {"version": "chat@1", "reason": "b"}),
    ("/api/v1/optimize/trigger", {}, {"services": ["chat"]}),
    (f"{DEPLOYMENT}/pause", {"reason": "a"}, {}),
    (f"{DEPLOYMENT}/resume", {"reason": "a"}, {}),
    (f"{DEPLOYMENT}/approve", {"reason": "a"}, {}),
    (f"{DEPLOYMENT}/promote", {"reason": "a"}, {}),
    (f"{DEPLOYMENT}/abort", {"reason": "a"}, {}),
    ("/api/v1/admin/pause", {"reason": "a"}, {}),
    ("/api/v1/admin/resume", {"reason": "a"}, {}),
    ("/api/v1/admin/emergency-stop", {"reason": "a"}, {"reason": "b"}),
    ("/api/v1/keys", {"name": "a", "scopes": ["read"]}, {"name": "b", "scopes": ["read"]}),
    ("/api/v1/webhooks", {"url": "https://a.example/"}, {"url": "https://b.example/"}),
    (GOLDEN, {"service": "chat"}, {"service": "mail"}),
]
# They read; and what needs a delivery is tried with the webhooks.
READS = {
    "/api/v1/analytics/metrics",
    "/api/v1/services/{service}/rules/dry-run",
    "/ofrep/v1/evaluate/flags",
    "/ofrep/v1/evaluate/flags/{key}",
}
BY_SPAN = {"/v1/traces", "/v1/metrics"}
"""What counts once by the ids of spans and series: exporters send no key."""
REDELIVERS = "/redeliver"


@pytest_asyncio.fixture
async def worker(database: Database, temporal: Client) -> AsyncIterator[None]:
    async with running_worker(database, temporal, step_seconds=600.0):
        yield


async def prepare(client: httpx.AsyncClient, path: str) -> str:
    """A state in which the POST can be made; gives its address."""
    act = path.removeprefix(f"{DEPLOYMENT}/")
    approval = "before-start" if act == "approve" else "none"
    policy = {"rollout": {"stepSeconds": 600, "steps": [40, 100], "approval": approval}}
    done(await client.put("/api/v1/services/chat", json=policy))
    done(await client.post("/api/v1/config/update", json=UPDATE))
    if path == GOLDEN:
        done(await client.post("/api/v1/metrics", json={"metrics": [METRIC]}))
    if act == path:
        return path
    deployment = done(await client.post("/api/v1/config/update", json=CANARY))["deploymentId"]
    address = DEPLOYMENT.format(deployment=deployment)
    wanted = (0, "awaiting_approval") if act == "approve" else (40, "running")
    await eventually(client, address, lambda body: (body["trafficPercent"], body["status"]) == wanted)
    if act == "resume":
        done(await client.post(f"{address}/pause"))
    return f"{address}/{act}"


async def accepted(
    client: httpx.AsyncClient, address: str, body: dict[str, Any], headers: dict[str, str]
) -> httpx.Response:
    """The first answer that is none of a workflow which has yet to learn what its row says already."""
    answers: list[httpx.Response] = []

    async def taken() -> bool:
        answers.append(await client.post(address, json=body, headers=headers))
        return answers[-1].status_code != 409

    await until(taken)
    assert answers[-1].is_success, answers[-1].text
    return answers[-1]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(("path", "body", "other"), POSTS)
async def test_a_post_is_made_once_under_a_key(
    client: httpx.AsyncClient, database: Database, path: str, body: dict[str, Any], other: dict[str, Any]
) -> None:
    address = await prepare(client, path)
    headers = {"Idempotency-Key": "once"}
    first = await accepted(client, address, body, headers)
    entries = done(await client.get("/api/v1/audit"))["total"]
    again = await client.post(address, json=body, headers=headers)
    if path == "/api/v1/keys":
        refused(again, 409, "CONFLICT")
    else:
        assert (again.status_code, again.json()) == (first.status_code, first.json())
    refused(await client.post(address, json=other, headers=headers), 409, "CONFLICT")
    refused(await client.post("/api/v1/config/update", json=UPDATE, headers=headers), 409, "CONFLICT")
    assert done(await client.get("/api/v1/audit"))["total"] == entries
    pool = await database.pool()
    assert await pool.fetchval("SELECT count(*) FROM idempotency_keys") == 1


async def test_one_callers_key_is_not_anothers(client: httpx.AsyncClient) -> None:
    made = done(await client.post("/api/v1/keys", json={"name": "app", "scopes": ["write"]}))
    headers = {"Idempotency-Key": "first"}
    done(await client.post("/api/v1/config/update", json=UPDATE, headers=headers))
    theirs = headers | {"Authorization": f"Bearer {made['key']}"}
    mail = UPDATE | {"service": "mail"}
    assert done(await client.post("/api/v1/config/update", json=mail, headers=theirs))["version"] == "mail@1"
    refused(await client.post("/api/v1/config/update", json=mail, headers=headers), 409, "CONFLICT")


async def test_a_refused_request_leaves_its_key_free(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "again"}
    refused(await client.post("/api/v1/optimize/trigger", json={}, headers=headers), 404, "NOT_FOUND")
    done(await client.post("/api/v1/config/update", json=UPDATE, headers=headers))


async def test_every_post_is_in_the_table_above(client: httpx.AsyncClient) -> None:
    document = done(await client.get("/openapi.json"))
    posts = {
        path: methods["post"]
        for path, methods in document["paths"].items()
        if "post" in methods and path not in READS | BY_SPAN and not path.endswith(REDELIVERS)
    }
    for path, operation in posts.items():
        names = [parameter["name"].lower() for parameter in operation["parameters"]]
        assert "idempotency-key" in names, path
    tried = {path.format(deployment="{}") for path, _, _ in POSTS}
    assert {re.sub(r"{\w+}", "{}", path) for path in posts} == tried
