"""Pause, resume and emergency stop over HTTP."""

import asyncio
from typing import Any

import httpx
import pytest
from temporalio.client import Client

from storage.database import Database
from tests.api.answers import done, eventually, refused
from tests.api.conftest import CONFIG, Served
from worker.run import running_worker

ADMIN, UPDATE = "/api/v1/admin", "/api/v1/config/update"


def change(**fields: Any) -> dict[str, Any]:
    return {"service": "chat", "config": CONFIG, "reason": "because"} | fields


async def loop_state(client: httpx.AsyncClient) -> str:
    return str(done(await client.get("/api/v1/status"))["controlLoop"]["state"])


async def test_pause_and_resume_are_durable_and_idempotent(client: httpx.AsyncClient, served: Served) -> None:
    paused = done(await client.post(f"{ADMIN}/pause", json={"reason": "release"}))
    assert (paused["paused"], paused["reason"]) == (True, "release")
    assert isinstance(paused["pausedAt"], int)
    assert done(await client.post(f"{ADMIN}/pause")) == paused
    async with served() as other:
        assert await loop_state(other) == "PAUSED"
    assert done(await client.post(f"{ADMIN}/resume")) == {"paused": False}
    assert done(await client.post(f"{ADMIN}/resume")) == {"paused": False}
    assert await loop_state(client) == "IDLE"


@pytest.mark.parametrize("path", ["pause", "resume", "emergency-stop"])
async def test_bad_orders_are_refused_and_change_nothing(client: httpx.AsyncClient, path: str) -> None:
    bodies: tuple[object, ...] = ({"reason": ""}, {"reason": 1}, {"reason": "x" * 2001}, {"why": "x"}, [])
    for body in bodies:
        refused(await client.post(f"{ADMIN}/{path}", json=body), 400, "INVALID_REQUEST")
    refused(await client.post(f"{ADMIN}/emergency-stop"), 400, "INVALID_REQUEST")
    refused(await client.post(f"{ADMIN}/emergency-stop", json={}), 400, "INVALID_REQUEST")
    assert await loop_state(client) == "IDLE"


async def test_an_emergency_stop_ends_everything_until_resume(
    client: httpx.AsyncClient, database: Database, temporal: Client, key_with: Any
) -> None:
    writer = {"Authorization": f"Bearer {await key_with('write', 'read')}"}
    done(await client.post(UPDATE, json=change()))
    async with running_worker(database, temporal, step_seconds=600.0):
        canary = change(config=CONFIG | {"topK": 5})
        deployment = done(await client.post(UPDATE, json=canary))["deploymentId"]
        path = f"/api/v1/deployments/{deployment}"
        await eventually(client, path, lambda body: body["trafficPercent"] > 0)
        stop = done(await client.post(f"{ADMIN}/emergency-stop", json={"reason": "fire"}))
        assert (stop["stopped"], stop["safeMode"]) == (True, True)
        served = done(await client.get("/api/v1/config/service/chat"))
        assert (served["version"], "rollout" in served) == ("chat@1", False)
        ended = done(await client.get(path))
        assert ended["status"] == "rolled_back"
        # The workflow hears of it, and comes to its end.
        async with asyncio.timeout(60):
            await temporal.get_workflow_handle(f"rollout/{deployment}").result()
    assert await loop_state(client) == "STOPPED"
    refused(await client.post("/api/v1/optimize/trigger", json={}), 409, "CONFLICT")
    refused(await client.post(UPDATE, json=canary), 409, "CONFLICT")
    refused(await client.post(f"{ADMIN}/pause"), 409, "CONFLICT")
    by_hand = change(config=CONFIG | {"topK": 7}, deploymentStrategy="immediate")
    refused(await client.post(UPDATE, json=by_hand, headers=writer), 409, "CONFLICT")
    assert done(await client.post(UPDATE, json=by_hand))["success"] is True
    assert done(await client.get("/api/v1/config/service/chat"))["config"]["topK"] == 7
    done(await client.post(f"{ADMIN}/resume"))
    assert await loop_state(client) == "IDLE"


async def test_an_emergency_stop_needs_no_temporal(served: Served) -> None:
    async def nowhere() -> Client:
        raise RuntimeError("connection refused")

    async with served(connect_temporal=nowhere) as client:
        done(await client.post(UPDATE, json=change()))
        headers = {"Idempotency-Key": "stop"}
        stop = await client.post(f"{ADMIN}/emergency-stop", json={"reason": "fire"}, headers=headers)
        assert done(stop)["stopped"] is True
        again = await client.post(f"{ADMIN}/emergency-stop", json={"reason": "fire"}, headers=headers)
        assert done(again) == stop.json()
        assert await loop_state(client) == "STOPPED"
        assert done(await client.get("/api/v1/config/service/chat"))["version"] == "chat@1"
