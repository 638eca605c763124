"""Runs over HTTP: taken row first, queued while paused, refused without Temporal."""

import asyncio
from functools import partial
from typing import Any

import httpx
import pytest
from temporalio.client import Client

from storage.database import Database
from tests.api.answers import done, eventually, refused
from tests.api.conftest import CONFIG, Served
from worker.run import running_worker

TRIGGER, OPTIMIZE = "/api/v1/optimize/trigger", "/api/v1/optimize"


async def know(client: httpx.AsyncClient, *services: str) -> None:
    for service in services:
        done(await client.put(f"/api/v1/services/{service}", json={}))


async def until(client: httpx.AsyncClient, path: str, *statuses: str) -> dict[str, Any]:
    return await eventually(client, path, lambda body: body["status"] in statuses)


@pytest.mark.parametrize(
    "body",
    [
        {"services": "chat"},
        {"services": [1]},
        {"services": [""]},
        {"services": ["a"] * 1001},
        {"objectives": []},
        {"objectives": [{"metric": "speed", "goal": "minimize", "weight": 1}]},
        {"objectives": [{"metric": "cost", "goal": "minimize", "weight": -1}]},
        {"objectives": [{"metric": name, "goal": "minimize", "weight": 1} for name in ("cost", "cost.avg")]},
        {"constraints": [{"type": "hard"}]},
        {"constraints": [{"id": "a", "type": "soft", "cooldownMs": 1}] * 2},
        {"dryRun": "yes"},
        {"dry_runn": True},
        [],
        None,
    ],
)
async def test_a_bad_trigger_is_refused_and_leaves_no_run(client: httpx.AsyncClient, body: Any) -> None:
    refused(await client.post(TRIGGER, json=body), 400, "INVALID_REQUEST")
    for wait in ("-1", "61", "nan", "inf", "x"):
        refused(await client.post(f"{TRIGGER}?wait={wait}", json={}), 400, "INVALID_REQUEST")
    assert done(await client.get(OPTIMIZE)) == {"total": 0, "optimizations": []}


async def test_unknown_services_and_runs(client: httpx.AsyncClient) -> None:
    refused(await client.post(TRIGGER, json={}), 404, "NOT_FOUND")
    await know(client, "chat")
    error = refused(await client.post(TRIGGER, json={"services": ["chat", "nobody"]}), 404, "NOT_FOUND")
    assert "nobody" in error["message"]
    refused(await client.get(f"{OPTIMIZE}/opt_none"), 404, "NOT_FOUND")


async def test_a_run_is_taken_carried_out_and_listed(
    client: httpx.AsyncClient, database: Database, temporal: Client
) -> None:
    await know(client, "chat", "mail")
    update = {"config": CONFIG, "reason": "first"}
    done(await client.post("/api/v1/config/update", json=update))
    async with running_worker(database, temporal, step_seconds=3.0, housekeeping=False):
        answer = done(await client.post(TRIGGER, json={"services": []}), 202)
        assert answer["status"] == "queued"
        run = await until(client, f"{OPTIMIZE}/{answer['optimizationId']}", "completed", "failed")
        assert (run["status"], run["progress"]) == ("completed", 100)
        assert (run["result"]["decision"], run["result"]["changesApplied"]) == ("skip", False)
        assert run["result"]["reasoning"]
        wanted = {"services": ["chat"], "dryRun": True}
        ask = partial(client.post, f"{TRIGGER}?wait=30", json=wanted, headers={"Idempotency-Key": "dry"})
        dry = done(await ask(), 202)
        assert dry["status"] == "completed"
        assert done(await ask(), 202) == dry
    listed = done(await client.get(OPTIMIZE, params={"service": "chat"}))
    assert [found["id"] for found in listed["optimizations"]] == [dry["optimizationId"], run["id"]]
    assert done(await client.get(OPTIMIZE, params={"service": "mail", "limit": 1}))["total"] == 1


async def test_a_constraint_named_as_one_of_the_policy_ends_the_run(
    client: httpx.AsyncClient, database: Database, temporal: Client
) -> None:
    constraint = {"id": "same", "type": "hard", "cooldownMs": 1}
    done(await client.put("/api/v1/services/chat", json={"constraints": [constraint]}))
    async with running_worker(database, temporal, step_seconds=3.0, housekeeping=False):
        answer = done(await client.post(TRIGGER, json={"constraints": [constraint]}), 202)
        run = await until(client, f"{OPTIMIZE}/{answer['optimizationId']}", "completed", "failed")
    assert run["status"] == "failed"
    assert "two constraints of one name" in run["error"]


async def test_one_run_at_a_time_per_service(client: httpx.AsyncClient) -> None:
    await know(client, "chat", "mail")
    first = done(await client.post(TRIGGER, json={"services": ["chat"]}), 202)
    error = refused(await client.post(TRIGGER, json={}), 409, "CONFLICT")
    assert error["details"] == {"held": {"chat": first["optimizationId"]}}
    assert done(await client.post(TRIGGER, json={"services": ["mail"]}), 202)


async def test_a_trigger_under_one_key_opens_one_run(client: httpx.AsyncClient) -> None:
    await know(client, "chat")
    headers = {"Idempotency-Key": "trigger-1"}
    answers = await asyncio.gather(*(client.post(TRIGGER, json={}, headers=headers) for _ in range(4)))
    assert len({done(answer, 202)["optimizationId"] for answer in answers}) == 1
    refused(await client.post(TRIGGER, json={"dryRun": True}, headers=headers), 409, "CONFLICT")


async def test_while_paused_a_run_stays_queued_and_after_it_is_carried_out(
    client: httpx.AsyncClient, database: Database, temporal: Client
) -> None:
    await know(client, "chat")
    async with running_worker(database, temporal, step_seconds=3.0):
        done(await client.post("/api/v1/admin/pause", json={"reason": "release"}))
        answer = done(await client.post(f"{TRIGGER}?wait=1", json={}), 202)
        path = f"{OPTIMIZE}/{answer['optimizationId']}"
        assert done(await client.get(path))["status"] == "queued"
        done(await client.post("/api/v1/admin/resume"))
        await until(client, path, "completed", "failed")


async def test_without_temporal_a_trigger_is_refused_and_its_key_stays_free(
    served: Served, client: httpx.AsyncClient
) -> None:
    async def nowhere() -> Client:
        raise RuntimeError("connection refused")

    await know(client, "chat")
    headers = {"Idempotency-Key": "trigger-1"}
    async with served(connect_temporal=nowhere) as lonely:
        answer = await lonely.post(TRIGGER, json={}, headers=headers)
        refused(answer, 503, "SERVICE_UNAVAILABLE")
        assert int(answer.headers["retry-after"]) >= 1
        assert done(await lonely.get(OPTIMIZE))["optimizations"][0]["status"] == "failed"
    assert done(await client.post(TRIGGER, json={}, headers=headers), 202)["status"] == "queued"
