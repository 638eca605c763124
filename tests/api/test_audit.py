"""The audit log over HTTP: every change is in it, once, with who made it; what changed nothing is not."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio
from temporalio.client import Client

from storage import keys
from storage.database import Database
from tests.api.answers import done, eventually, refused
from tests.api.conftest import CONFIG, Served
from tests.waiting import until
from worker.run import running_worker

AUDIT, UPDATE, KEYS = "/api/v1/audit", "/api/v1/config/update", "/api/v1/keys"
CHAT, TRIGGER = "/api/v1/services/chat", "/api/v1/optimize/trigger"
OTHER = CONFIG | {"topK": 5}
MakeKey = Callable[..., Awaitable[str]]


@pytest_asyncio.fixture
async def worker(database: Database, temporal: Client) -> AsyncIterator[None]:
    async with running_worker(database, temporal, step_seconds=600.0):
        yield


def change(**fields: Any) -> dict[str, Any]:
    return {"service": "chat", "config": CONFIG, "reason": "because"} | fields


async def entries(client: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    answer = done(await client.get(AUDIT, params=params))
    assert answer["total"] == len(answer["entries"])
    found: list[dict[str, Any]] = answer["entries"]
    return found


async def newest(client: httpx.AsyncClient) -> tuple[str, str, dict[str, Any]]:
    """Action, target and details of the newest entry."""
    first = done(await client.get(AUDIT, params={"limit": 1}))["entries"][0]
    return first["action"], first["target"], first.get("details", {})


async def test_an_entry_tells_who_did_what_when_and_by_which_request(client: httpx.AsyncClient) -> None:
    made = done(await client.post(KEYS, json={"name": "release-bot", "scopes": ["write", "read"]}))
    headers = {"Authorization": f"Bearer {made['key']}", "X-Request-Id": "deploy-7"}
    done(await client.post(UPDATE, json=change(), headers=headers))
    update, create = await entries(client)
    assert isinstance(update.pop("timestamp"), int)
    assert update == {
        "sequence": create["sequence"] + 1,
        "principalId": made["id"],
        "principalName": "release-bot",
        "action": "config.update",
        "target": "chat",
        "requestId": "deploy-7",
        "details": {"version": "chat@1", "reason": "because"},
    }
    assert (create["principalId"], create["action"], create["target"]) == (
        "environment",
        "key.create",
        made["id"],
    )
    assert create["details"] == {"name": "release-bot", "scopes": ["read", "write"]}
    assert made["key"] not in json.dumps([update, create])


@pytest.mark.usefixtures("worker")
async def test_every_change_of_a_configuration_and_its_rollout_is_recorded(client: httpx.AsyncClient) -> None:
    policy = {"rollout": {"stepSeconds": 600, "steps": [40, 100], "approval": "before-start"}}
    done(await client.put(CHAT, json=policy))
    assert await newest(client) == ("service.policy", "chat", {"given": ["rollout"]})
    done(await client.post(UPDATE, json=change()))
    deployment = done(await client.post(UPDATE, json=change(config=OTHER)))["deploymentId"]
    assert await newest(client) == (
        "config.update",
        "chat",
        {"version": "chat@2", "deploymentId": deployment, "reason": "because"},
    )
    path = f"/api/v1/deployments/{deployment}"
    await eventually(client, path, lambda body: body["status"] == "awaiting_approval")

    async def approved() -> bool:
        # Its workflow learns a moment later that it waits.
        return (await client.post(f"{path}/approve")).status_code == 200

    await until(approved)
    assert await newest(client) == ("deployment.approve", deployment, {})
    await eventually(client, path, lambda body: body["trafficPercent"] > 0)
    for action in ("pause", "resume", "promote"):
        done(await client.post(f"{path}/{action}", json={"reason": f"to {action}"}))
        assert await newest(client) == (f"deployment.{action}", deployment, {"reason": f"to {action}"})
    done(await client.post(f"{path}/abort", headers={"Idempotency-Key": "abort"}))
    done(await client.post(f"{path}/abort", headers={"Idempotency-Key": "abort"}))
    refused(await client.post(f"{path}/abort"), 409, "CONFLICT")
    assert [entry["action"] for entry in await entries(client, target=deployment)] == [
        "deployment.abort",
        "deployment.promote",
        "deployment.resume",
        "deployment.pause",
        "deployment.approve",
    ]


async def test_a_rollout_that_has_not_begun_is_aborted_with_its_entry(client: httpx.AsyncClient) -> None:
    done(await client.post(UPDATE, json=change()))
    done(await client.post("/api/v1/admin/pause"))
    deployment = done(await client.post(UPDATE, json=change(config=OTHER)))["deploymentId"]
    path = f"/api/v1/deployments/{deployment}"
    refused(await client.post(f"{path}/promote"), 409, "CONFLICT")
    assert (await newest(client))[0] == "config.update"
    aborted = done(await client.post(f"{path}/abort", json={"reason": "no"}))
    assert aborted["status"] == "rolled_back"
    assert await newest(client) == ("deployment.abort", deployment, {"reason": "no"})


@pytest.mark.usefixtures("worker")
async def test_a_rollback_names_the_version_that_it_goes_back_to(client: httpx.AsyncClient) -> None:
    policy = {"rollout": {"strategy": "immediate", "stepSeconds": 0.1, "checkSeconds": 0.1}}
    done(await client.put(CHAT, json=policy))
    for config in (CONFIG, OTHER):
        done(await client.post(UPDATE, json=change(config=config)))
    await eventually(client, "/api/v1/deployments", lambda body: body["total"] == 0, params={"open": True})
    back = {"version": "chat@1", "reason": "better"}
    answer = done(await client.post("/api/v1/config/rollback", json=back))
    action, target, details = await newest(client)
    assert (action, target) == ("config.rollback", "chat")
    assert details == {
        "version": "chat@3",
        "derivedFrom": "chat@1",
        "deploymentId": answer["deploymentId"],
        "reason": "better",
    }


@pytest.mark.usefixtures("worker")
async def test_triggers_are_recorded_unless_they_are_dry(client: httpx.AsyncClient) -> None:
    done(await client.put(CHAT, json={}))
    dry = done(await client.post(TRIGGER, json={"dryRun": True}), 202)["optimizationId"]
    await eventually(
        client, f"/api/v1/optimize/{dry}", lambda body: body["status"] in ("completed", "failed")
    )
    assert (await newest(client))[0] == "service.policy"
    headers = {"Idempotency-Key": "run"}
    run = done(await client.post(TRIGGER, json={}, headers=headers), 202)["optimizationId"]
    assert done(await client.post(TRIGGER, json={}, headers=headers), 202)["optimizationId"] == run
    (entry,) = await entries(client, action="optimization.trigger")
    assert (entry["target"], entry["details"]) == (run, {"services": ["chat"], "count": 1})


async def test_orders_are_recorded_when_they_change_something(client: httpx.AsyncClient) -> None:
    for order, body in (
        ("pause", {"reason": "release"}),
        ("pause", None),
        ("resume", None),
        ("resume", None),
        ("emergency-stop", {"reason": "fire"}),
        ("resume", {"reason": "out"}),
    ):
        done(await client.post(f"/api/v1/admin/{order}", json=body))
    assert [(entry["action"], entry.get("details")) for entry in await entries(client, target="control")] == [
        ("admin.resume", {"reason": "out"}),
        ("admin.emergency-stop", {"reason": "fire"}),
        ("admin.resume", None),
        ("admin.pause", {"reason": "release"}),
    ]


async def test_a_key_that_is_revoked_twice_is_recorded_once(client: httpx.AsyncClient) -> None:
    made = done(await client.post(KEYS, json={"name": "app", "scopes": ["read"]}))
    for _ in range(2):
        done(await client.delete(f"{KEYS}/{made['id']}"))
    assert [entry["action"] for entry in await entries(client, target=made["id"])] == [
        "key.revoke",
        "key.create",
    ]


async def test_what_changes_nothing_is_not_recorded(client: httpx.AsyncClient, key_with: MakeKey) -> None:
    reader = {"Authorization": f"Bearer {await key_with('read')}"}
    refused(await client.post(UPDATE, json=change(), headers=reader), 403, "FORBIDDEN")
    refused(await client.post(UPDATE, json=change(reason="")), 400, "INVALID_REQUEST")
    refused(await client.post(UPDATE, json=change(), headers={"If-Match": '"chat@1"'}), 412, "CONFLICT")
    done(await client.post(UPDATE, json=change(validateOnly=True)))
    refused(await client.post(TRIGGER, json={}), 404, "NOT_FOUND")
    refused(await client.delete(f"{KEYS}/key_none"), 404, "NOT_FOUND")
    assert await entries(client) == []
    headers = {"Idempotency-Key": "first"}
    for _ in range(2):
        done(await client.post(UPDATE, json=change(), headers=headers))
    assert done(await client.post(UPDATE, json=change()))["unchanged"] is True
    assert len(await entries(client)) == 1


async def test_a_refused_configuration_is_recorded_with_its_alert(client: httpx.AsyncClient) -> None:
    policy = {"constraints": [{"id": "only-mini", "type": "hard", "models": ["gpt-4o-mini"]}]}
    done(await client.put(CHAT, json=policy))
    refused(await client.post(UPDATE, json=change()), 422, "CONSTRAINT_VIOLATION")
    assert await newest(client) == (
        "config.refused",
        "chat",
        {"constraints": ["only-mini"], "reason": "because"},
    )


async def test_an_act_that_no_worker_answers_is_recorded_as_of_unknown_outcome(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.deployments.actions.WORKER_SECONDS", 0.5)
    async with served() as client:
        done(await client.post(UPDATE, json=change()))
        deployment = done(await client.post(UPDATE, json=change(config=OTHER)))["deploymentId"]
        path = f"/api/v1/deployments/{deployment}"
        refused(await client.post(f"{path}/promote", json={"reason": "now"}), 504, "TIMEOUT")
        details = {"reason": "now", "outcome": "unknown"}
        assert await newest(client) == ("deployment.promote", deployment, details)


async def test_entries_are_found_by_their_parts_and_by_pages(client: httpx.AsyncClient) -> None:
    for service in ("chat", "mail", "chat"):
        done(await client.put(f"/api/v1/services/{service}", json={}))
    page = done(await client.get(AUDIT, params={"limit": 1, "offset": 1}))
    assert (page["total"], [entry["target"] for entry in page["entries"]]) == (3, ["mail"])
    at = page["entries"][0]["timestamp"]
    assert len(await entries(client, target="chat")) == 2
    assert len(await entries(client, principal="environment", action="service.policy")) == 3
    assert await entries(client, principal="key_none") == []
    assert {entry["target"] for entry in await entries(client, start=at, end=at + 1)} >= {"mail"}
    for bad in (
        {"action": "config.delete"},
        {"target": ""},
        {"principal": ""},
        {"principal": "x" * 513},
        {"start": "-1"},
        {"end": 10**15},
        {"who": "me"},
    ):
        refused(await client.get(AUDIT, params=bad), 400, "INVALID_REQUEST")


async def test_the_log_is_an_admins_to_read_and_nobodys_to_change(
    client: httpx.AsyncClient, key_with: MakeKey
) -> None:
    made: tuple[keys.KeyScope, ...] = ("read", "write", "ingest")
    headers = {"Authorization": f"Bearer {await key_with(*made)}"}
    refused(await client.get(AUDIT, headers=headers), 403, "FORBIDDEN")
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        refused(await client.request(method, AUDIT), 405, "INVALID_REQUEST")
        refused(await client.request(method, f"{AUDIT}/1"), 404, "NOT_FOUND")
