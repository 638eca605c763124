"""Answers of the running server are of the types that the specification declares, as TypeScript sees it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import select
from temporalio.client import Client

from api.examples import EXAMPLES
from domain.webhooks import Sender, body_of
from storage import baseline_refresh, event_log
from storage.database import Database
from storage.tables import db_clock
from tests.api.answers import done, eventually
from tests.api.conftest import CONFIG
from tests.node.running import node_prints, packages
from tests.specification.blocks import blocks, section
from worker.run import running_worker

HERE = Path(__file__).parent
DECLARED = "\n".join(
    (
        *blocks("typescript", section("## 2. API Interfaces", "### 3.2")),
        blocks("typescript", section("### 3.2", "## 4."))[0],
        blocks("typescript", section("### 6.1", "### 6.2"))[0],
        (HERE / "contract.ts").read_text(encoding="utf-8"),
    )
)
EVENTS = {
    "config.changed": "ConfigChangeEvent",
    "optimization.complete": "OptimizationCompleteEvent",
    "deployment.started": "DeploymentEvent",
    "deployment.progressed": "DeploymentEvent",
    "deployment.completed": "DeploymentEvent",
    "rollback.triggered": "RollbackEvent",
    "rollback.completed": "RollbackEvent",
}
Seen = list[tuple[str, Any]]


async def check(folder: Path, seen: Seen) -> None:
    """Have the compiler hold each value against its type."""
    lines = [f"conforms<{name}>()({json.dumps(value)});" for name, value in seen]
    program = folder / "answers.ts"
    program.write_text("\n".join((DECLARED, *lines)), encoding="utf-8")
    compiler = packages() / "node_modules" / "typescript" / "bin" / "tsc"
    await node_prints(compiler, *("--noEmit", "--strict", "--target", "es2022", "--lib", "es2022"), program)


@pytest_asyncio.fixture(autouse=True)
async def worker(database: Database, temporal: Client) -> AsyncIterator[None]:
    async with running_worker(database, temporal, step_seconds=600.0):
        yield


async def configure(client: httpx.AsyncClient) -> Seen:
    """Configurations, reports, and a rollout that is taken back."""
    seen: Seen = []
    for where in ({}, {"service": "chat"}):
        update = {"config": CONFIG, "reason": "first"} | where
        seen.append(("ConfigUpdateResponse", done(await client.post("/api/v1/config/update", json=update))))
    call = EXAMPLES["reportMetrics"].request["metrics"][0] | {"service": "chat"}
    batch = {"metrics": [call, {"timestamp": 1}]}
    seen.append(("MetricsResponse", done(await client.post("/api/v1/metrics", json=batch))))
    policy = {"rollout": {"stepSeconds": 600, "steps": [40, 100]}}
    done(await client.put("/api/v1/services/chat", json=policy))
    update = {"service": "chat", "config": CONFIG | {"topK": 5}, "reason": "a test"}
    answer = done(await client.post("/api/v1/config/update", json=update))
    address = f"/api/v1/deployments/{answer['deploymentId']}"
    await eventually(client, address, lambda body: body["trafficPercent"] > 0)
    seen.append(("ConfigUpdateResponse", answer))
    seen.append(("ConfigResponse", done(await client.get("/api/v1/config/current"))))
    seen.append(("ServiceConfigResponse", done(await client.get("/api/v1/config/service/chat"))))
    done(await client.post(f"{address}/abort"))
    return seen


async def optimize(client: httpx.AsyncClient) -> Seen:
    """A run, from its trigger to its end."""
    trigger = {"services": ["chat"], "dryRun": True}
    answer = done(await client.post("/api/v1/optimize/trigger", json=trigger), 202)
    address = f"/api/v1/optimize/{answer['optimizationId']}"
    ended = await eventually(client, address, lambda body: body["status"] == "completed")
    return [("OptimizationResponse", answer), ("OptimizationStatusResponse", ended)]


async def look(client: httpx.AsyncClient) -> Seen:
    """What is read, the events, and what steers everything."""
    call = EXAMPLES["reportMetrics"].request["metrics"][0]
    window = {"start": call["timestamp"] - 1000, "end": call["timestamp"] + 1000}
    query = {"metrics": ["latency.p95", "cost.total"], "timeRange": window, "groupBy": ["model"]}
    reads = {
        "HistoryResponse": "/api/v1/analytics/history",
        "BaselineResponse": "/api/v1/analytics/baselines",
        "HealthResponse": "/api/v1/health",
        "StatusResponse": "/api/v1/status",
    }
    seen: Seen = [(name, done(await client.get(path))) for name, path in reads.items()]
    answer = done(await client.post("/api/v1/analytics/metrics", json=query))
    seen.append(("MetricsQueryResponse", answer))
    seen.append(("ErrorResponse", (await client.get("/api/v1/optimize/none")).json()))
    events = done(await client.get("/api/v1/events", params={"limit": 100}))["events"]
    seen += [(EVENTS[event["type"]], event) for event in events if event["type"] in EVENTS]
    seen.append(("PauseResponse", done(await client.post("/api/v1/admin/pause", json={"reason": "why"}))))
    seen.append(("PauseResponse", done(await client.post("/api/v1/admin/resume"))))
    stop = {"reason": "a test"}
    seen.append(("EmergencyStopResponse", done(await client.post("/api/v1/admin/emergency-stop", json=stop))))
    return seen


async def test_answers_events_and_payloads_are_of_the_declared_types(
    client: httpx.AsyncClient, database: Database, tmp_path: Path
) -> None:
    seen = await configure(client) + await optimize(client)
    async with database.transaction() as session:
        now = (await session.execute(select(db_clock()))).scalar_one()
        await baseline_refresh.refresh(session, ["chat"], now)
    seen += await look(client)
    told = {name for name, _ in seen}
    assert set(EVENTS.values()) - {"DeploymentEvent"} <= told
    assert any(value["baselines"] for name, value in seen if name == "BaselineResponse")
    assert any(value["events"] for name, value in seen if name == "HistoryResponse")
    async with database.transaction() as session:
        (event,) = await event_log.after(session, 0, limit=1)
    sender = Sender(version="1.2.3", mode="daemon", instance_id="wrk_1")
    seen.append(("WebhookPayload", body_of(event_log.message(event), sender, 1_764_000_000_000)))
    for name, operation in (
        ("MetricsRequest", "reportMetrics"),
        ("ConfigUpdateRequest", "updateConfig"),
        ("OptimizationRequest", "triggerOptimization"),
        ("MetricsQuery", "queryMetrics"),
        ("EmergencyStopRequest", "emergencyStop"),
    ):
        seen.append((name, EXAMPLES[operation].request))
    await check(tmp_path, seen)


async def test_a_value_of_another_type_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="'string' is not assignable to type 'number'"):
        await check(tmp_path, [("MetricsResponse", {"accepted": "1", "rejected": 0})])
    with pytest.raises(AssertionError, match="'rejected' is missing"):
        await check(tmp_path, [("MetricsResponse", {"accepted": 1})])
