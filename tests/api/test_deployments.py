"""Rollouts over HTTP: opened by updates, read, steered by hand."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from temporalio.client import Client

from domain.assignment import assigned_to_canary
from infra.embedded import EmbeddedStack, started
from storage.database import Database
from tests.api.answers import done, eventually, refused
from tests.api.conftest import CONFIG, Served
from worker.run import running_worker

UPDATE, DEPLOYMENTS, CHAT = "/api/v1/config/update", "/api/v1/deployments", "/api/v1/config/service/chat"
CHANGED = CONFIG | {"model": "gpt-4o-mini"}


@pytest_asyncio.fixture
async def worker(database: Database, temporal: Client) -> AsyncIterator[None]:
    async with running_worker(database, temporal, step_seconds=600.0):
        yield


async def policy(client: httpx.AsyncClient, **rollout: Any) -> None:
    done(
        await client.put(
            "/api/v1/services/chat", json={"rollout": {"stepSeconds": 600, "steps": [40, 100]} | rollout}
        )
    )


async def update(client: httpx.AsyncClient, **change: Any) -> httpx.Response:
    return await client.post(UPDATE, json={"service": "chat", "config": CONFIG, "reason": "because"} | change)


async def until(client: httpx.AsyncClient, deployment: str, *statuses: str) -> dict[str, Any]:
    return await eventually(client, f"{DEPLOYMENTS}/{deployment}", lambda body: body["status"] in statuses)


async def begin(client: httpx.AsyncClient, **change: Any) -> str:
    """A service with a configuration, and a rollout of another over it."""
    await policy(client, **change)
    done(await update(client))
    answer = done(await update(client, config=CHANGED))
    assert answer["version"] == "chat@2"
    return str(answer["deploymentId"])


@pytest.mark.usefixtures("worker")
async def test_a_canary_is_assigned_by_unit_and_shown_with_both_arms(client: httpx.AsyncClient) -> None:
    deployment = await begin(client)
    path = f"{DEPLOYMENTS}/{deployment}"
    running = await eventually(client, path, lambda body: body["trafficPercent"] == 40)
    assert (running["status"], running["fromVersion"], running["toVersion"]) == (
        "running",
        "chat@1",
        "chat@2",
    )
    assert [step["percent"] for step in running["steps"]] == [40, 100]
    seen = await eventually(client, CHAT, lambda body: "rollout" in body, params={"unit": "u"})
    rollout = seen["rollout"]
    assert (rollout["deploymentId"], rollout["trafficPercent"]) == (deployment, 40)
    assert rollout["control"] == {"version": "chat@1", "config": CONFIG}
    assert rollout["canary"] == {"version": "chat@2", "config": CHANGED}
    for number in range(40):
        unit = f"user-{number}"
        expected = rollout["canary" if assigned_to_canary(deployment, unit, 40) else "control"]
        served = done(await client.get(CHAT, params={"unit": unit, "endpoint": "/any"}))
        assert {"version": served["version"], "config": served["config"]} == expected
    drawn = [done(await client.get(CHAT))["version"] for _ in range(100)]
    assert {"chat@1", "chat@2"} == set(drawn)
    error = refused(await update(client, deploymentStrategy="immediate"), 409, "CONFLICT")
    assert error["details"]["deploymentId"] == deployment
    listed = done(await client.get(DEPLOYMENTS, params={"scope": "chat", "open": True}))
    assert (listed["total"], listed["deployments"][0]["deploymentId"]) == (1, deployment)
    aborted = done(await client.post(f"{DEPLOYMENTS}/{deployment}/abort", json={"reason": "no need"}))
    assert (aborted["status"], aborted["rollback"]["automatic"]) == ("rolled_back", False)
    assert "no need" in aborted["rollback"]["reason"]
    after = done(await client.get(CHAT, params={"unit": "user-1"}))
    assert (after["version"], "rollout" in after) == ("chat@1", False)
    assert done(await client.get(DEPLOYMENTS, params={"open": True}))["total"] == 0


@pytest.mark.usefixtures("worker")
async def test_pause_resume_and_promotion(client: httpx.AsyncClient) -> None:
    deployment = await begin(client)
    path = f"{DEPLOYMENTS}/{deployment}"
    await eventually(client, path, lambda body: body["trafficPercent"] == 40)
    refused(await client.post(f"{path}/approve"), 409, "CONFLICT")
    paused = done(await client.post(f"{path}/pause", headers={"Idempotency-Key": "p"}))
    assert (paused["status"], paused["trafficPercent"]) == ("paused", 40)
    assert done(await client.post(f"{path}/pause", headers={"Idempotency-Key": "p"})) == paused
    assert done(await client.post(f"{path}/resume"))["status"] == "running"
    done(await client.post(f"{path}/promote"))
    await eventually(client, path, lambda body: body["trafficPercent"] == 95)
    done(await client.post(f"{path}/promote"))
    completed = await until(client, deployment, "completed", "rolled_back", "failed")
    assert (completed["status"], completed["progress"]) == ("completed", 100)
    for action in ("pause", "resume", "approve", "promote", "abort"):
        refused(await client.post(f"{path}/{action}"), 409, "CONFLICT")
    await eventually(client, CHAT, lambda body: body["version"] == "chat@2")


@pytest.mark.usefixtures("worker")
async def test_an_approval_is_awaited_before_the_start(client: httpx.AsyncClient) -> None:
    deployment = await begin(client, approval="before-start")
    await until(client, deployment, "awaiting_approval")
    refused(await client.post(f"{DEPLOYMENTS}/{deployment}/promote"), 409, "CONFLICT")
    assert done(await client.get(CHAT))["version"] == "chat@1"
    done(await client.post(f"{DEPLOYMENTS}/{deployment}/approve"))
    await until(client, deployment, "running")
    done(await client.post(f"{DEPLOYMENTS}/{deployment}/abort"))


@pytest.mark.usefixtures("worker")
async def test_an_immediate_change_is_served_when_it_is_answered(client: httpx.AsyncClient) -> None:
    await policy(client)
    done(await update(client))
    answer = done(await update(client, config=CHANGED, deploymentStrategy="immediate"))
    served = done(await client.get(CHAT))
    assert (served["version"], "rollout" in served) == (answer["version"], False)
    done(await client.post(f"{DEPLOYMENTS}/{answer['deploymentId']}/abort"))
    assert done(await client.get(CHAT))["version"] == "chat@1"


async def test_an_update_while_paused_waits_and_can_be_taken_back(client: httpx.AsyncClient) -> None:
    await policy(client)
    done(await update(client))
    done(await client.post("/api/v1/admin/pause"))
    deployment = done(await update(client, config=CHANGED))["deploymentId"]
    path = f"{DEPLOYMENTS}/{deployment}"
    assert done(await client.get(path))["status"] == "pending"
    for action in ("pause", "resume", "approve", "promote"):
        refused(await client.post(f"{path}/{action}"), 409, "CONFLICT")
    assert done(await client.post(f"{path}/abort"))["status"] == "rolled_back"


async def test_without_temporal_a_rollout_is_refused_and_leaves_nothing_open(
    served: Served, client: httpx.AsyncClient
) -> None:
    async def nowhere() -> Client:
        raise RuntimeError("connection refused")

    await policy(client)
    done(await update(client))
    async with served(connect_temporal=nowhere) as lonely:
        refused(await update(lonely, config=CHANGED), 503, "SERVICE_UNAVAILABLE")
        assert done(await lonely.get(CHAT))["version"] == "chat@1"
        assert done(await lonely.get(DEPLOYMENTS, params={"open": True}))["total"] == 0
        refused(await update(lonely, config=CHANGED), 503, "SERVICE_UNAVAILABLE")


async def test_what_is_not_there(client: httpx.AsyncClient) -> None:
    refused(await client.get(f"{DEPLOYMENTS}/dep_none"), 404, "NOT_FOUND")
    for action in ("pause", "resume", "approve", "promote", "abort"):
        refused(await client.post(f"{DEPLOYMENTS}/dep_none/{action}"), 404, "NOT_FOUND")
    refused(await client.post(f"{DEPLOYMENTS}/dep_none/explode"), 404, "NOT_FOUND")
    refused(await client.get(DEPLOYMENTS, params={"scope": "a b"}), 400, "INVALID_REQUEST")
    refused(await client.get(DEPLOYMENTS, params={"open": "perhaps"}), 400, "INVALID_REQUEST")
    bodies: tuple[object, ...] = ({"reason": ""}, {"reason": 1}, {"why": "x"}, [])
    for body in bodies:
        refused(await client.post(f"{DEPLOYMENTS}/dep_none/abort", json=body), 400, "INVALID_REQUEST")


async def share(client: httpx.AsyncClient, database: Database, watched: str) -> None:
    """A rollout whose share is watched until a time of the database's clock, by nobody."""
    await policy(client)
    done(await update(client))
    done(await client.post("/api/v1/admin/pause"))
    done(await update(client, config=CHANGED))
    connection = await database.connect()
    await connection.execute(
        f"UPDATE rollouts SET status = 'running', traffic_percent = 100, watched_until = {watched}"
    )
    await connection.close()


async def test_a_canary_that_nobody_watches_is_not_served(
    client: httpx.AsyncClient, database: Database
) -> None:
    await share(client, database, "now() + interval '1 hour'")
    seen = await eventually(client, CHAT, lambda body: "rollout" in body)
    assert seen["version"] == "chat@2"
    connection = await database.connect()
    await connection.execute("UPDATE rollouts SET watched_until = now() - interval '1 second'")
    await connection.close()
    seen = await eventually(client, CHAT, lambda body: "rollout" not in body)
    assert seen["version"] == "chat@1"


async def test_a_watch_lapses_by_the_replica_s_own_clock_without_postgresql(
    client: httpx.AsyncClient, database: Database, stack: EmbeddedStack
) -> None:
    await share(client, database, "now() + interval '8 seconds'")
    await eventually(client, CHAT, lambda body: body["version"] == "chat@2")
    await started(stack.postgres).kill()
    try:
        seen = await eventually(client, CHAT, lambda body: body["version"] == "chat@1")
        assert "rollout" not in seen
    finally:
        await started(stack.postgres).start()
