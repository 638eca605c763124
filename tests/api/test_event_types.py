"""Every event type of the specification, with exactly its data, from what is done over the API."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest_asyncio
from temporalio.client import Client

from storage.database import Database
from tests.api.answers import done, eventually, refused
from tests.api.conftest import CONFIG
from worker.run import running_worker

OTHER = CONFIG | {"topK": 5}
CHANGED = {
    *("previousVersion", "newVersion", "previousConfig", "newConfig"),
    *("changeType", "changedBy", "reason"),
}
DEPLOYED = {"deploymentId", "configVersion", "strategy", "progress"}
TAKEN_BACK = {"deploymentId", "fromVersion", "toVersion", "reason", "automatic"}


@pytest_asyncio.fixture(autouse=True)
async def worker(database: Database, temporal: Client) -> AsyncIterator[None]:
    async with running_worker(database, temporal, step_seconds=600.0):
        yield


async def update(client: httpx.AsyncClient, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    body = {"service": "chat", "config": config, "reason": "a test"} | more
    return done(await client.post("/api/v1/config/update", json=body))


async def roll_out(client: httpx.AsyncClient, **rollout: Any) -> str:
    """A canary over `chat` in its first step; gives its address."""
    policy = {"rollout": {"stepSeconds": 600, "steps": [40, 100]} | rollout}
    done(await client.put("/api/v1/services/chat", json=policy))
    await update(client, CONFIG)
    deployment = (await update(client, OTHER, deploymentStrategy="canary"))["deploymentId"]
    address = f"/api/v1/deployments/{deployment}"
    await eventually(client, address, lambda body: body["trafficPercent"] == 40)
    return address


async def told(client: httpx.AsyncClient, type_: str) -> list[dict[str, Any]]:
    """The data of every event of a type, the oldest first."""
    events = done(await client.get("/api/v1/events", params={"type": type_, "limit": 100}))["events"]
    return [event["data"] for event in reversed(events)]


async def test_a_rollout_that_is_completed(client: httpx.AsyncClient) -> None:
    address = await roll_out(client)
    done(await client.post(f"{address}/promote"))
    await eventually(client, address, lambda body: body["steps"][1].get("startedAt") is not None)
    done(await client.post(f"{address}/promote"))
    await eventually(client, address, lambda body: body["status"] == "completed")
    (started,) = await told(client, "deployment.started")
    assert set(started) == DEPLOYED
    assert (started["configVersion"], started["strategy"], started["progress"]) == ("chat@2", "canary", 0)
    progressed = await told(client, "deployment.progressed")
    assert [(data["progress"], data["currentStep"]) for data in progressed] == [(0, "40 %"), (50, "100 %")]
    assert {frozenset(data) for data in progressed} == {frozenset(DEPLOYED | {"currentStep"})}
    (completed,) = await told(client, "deployment.completed")
    assert (set(completed), completed["progress"]) == (DEPLOYED, 100)
    first, second = await told(client, "config.changed")
    assert set(first) == set(second) == CHANGED
    assert (second["previousVersion"], second["newVersion"]) == ("chat@1", "chat@2")
    assert (second["previousConfig"], second["newConfig"]) == (CONFIG, OTHER)
    assert (second["changeType"], second["changedBy"], second["reason"]) == ("manual", "admin", "a test")


async def test_a_rollout_that_is_taken_back(client: httpx.AsyncClient) -> None:
    address = await roll_out(client)
    done(await client.post(f"{address}/abort", json={"reason": "no need"}))
    (triggered,), (completed,) = [await told(client, f"rollback.{end}") for end in ("triggered", "completed")]
    assert set(triggered) == set(completed) == TAKEN_BACK
    assert (triggered["fromVersion"], triggered["toVersion"]) == ("chat@2", "chat@1")
    assert triggered["automatic"] is False
    assert "no need" in triggered["reason"]


async def test_a_rollout_that_is_held(client: httpx.AsyncClient) -> None:
    address = await roll_out(client, stepSeconds=0.5, checkSeconds=0.2, maxExtensions=0)
    await eventually(client, address, lambda body: body["status"] == "held")
    (held,) = await told(client, "deployment.held")
    assert set(held) == {"deploymentId", "step", "reason"}
    assert held["step"] == "40 %"


async def test_a_run_that_ends(client: httpx.AsyncClient) -> None:
    await update(client, CONFIG)
    run = done(await client.post("/api/v1/optimize/trigger", json={"services": ["chat"]}), 202)
    address = f"/api/v1/optimize/{run['optimizationId']}"
    await eventually(client, address, lambda body: body["status"] == "completed")
    (complete,) = await told(client, "optimization.complete")
    assert set(complete) == {"optimizationId", "decision", "duration", "changesApplied"}
    assert (complete["decision"], complete["changesApplied"]) == ("skip", False)


async def test_a_configuration_that_is_refused(client: httpx.AsyncClient) -> None:
    await update(client, CONFIG)
    policy = {"constraints": [{"type": "hard", "models": ["openai/gpt-4o"]}]}
    done(await client.put("/api/v1/services/chat", json=policy))
    body = {"service": "chat", "config": CONFIG | {"model": "o3"}, "reason": "a test"}
    error = refused(await client.post("/api/v1/config/update", json=body), 422, "CONSTRAINT_VIOLATION")
    (raised,) = await told(client, "alert.raised")
    assert set(raised) == {"scope", "severity", "reason", "details"}
    assert raised["details"] == error["details"]
