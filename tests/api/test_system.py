"""Health, status, probes and measurements."""

import asyncio
import time
from typing import Any

import httpx
from temporalio.client import Client

from infra.embedded import EmbeddedStack, started
from storage.database import Database
from tests.api.answers import done, eventually, refused
from tests.api.conftest import CONFIG, Served
from worker.run import running_worker

NO_KEY = {"Authorization": ""}


async def health(client: httpx.AsyncClient) -> dict[str, Any]:
    return done(await client.get("/api/v1/health", headers=NO_KEY))


async def until_health(client: httpx.AsyncClient, status: str) -> dict[str, bool]:
    body = await eventually(client, "/api/v1/health", lambda body: body["status"] == status)
    return {check["name"]: check["healthy"] for check in body["checks"]}


async def test_health_looks_at_everything(
    client: httpx.AsyncClient, database: Database, temporal: Client, stack: EmbeddedStack
) -> None:
    async with running_worker(database, temporal, step_seconds=3.0, housekeeping=False):
        await until_health(client, "healthy")
    body = await health(client)
    assert (body["version"], [check["name"] for check in body["checks"]]) == (
        "1.2.3",
        ["postgresql", "redis", "temporal", "worker", "disk"],
    )
    assert body["uptime"] > 0
    assert all(check["latency"] >= 0 for check in body["checks"])
    await started(stack.redis).kill()
    try:
        seen = await until_health(client, "degraded")
        assert [name for name, healthy in seen.items() if not healthy] == ["redis"]
        await started(stack.postgres).kill()
        try:
            assert (await until_health(client, "unhealthy"))["postgresql"] is False
            assert done(await client.get("/readyz", headers=NO_KEY)) == {"status": "ok"}
        finally:
            await started(stack.postgres).start()
    finally:
        await started(stack.redis).start()
    await until_health(client, "healthy")


async def test_without_temporal_health_is_degraded_and_the_loop_in_error(served: Served) -> None:
    async def nowhere() -> Client:
        raise RuntimeError("connection refused")

    async with served(connect_temporal=nowhere, redis_url=None) as client:
        body = await health(client)
        assert body["status"] == "degraded"
        failing = [check for check in body["checks"] if not check["healthy"]]
        assert [check["name"] for check in failing] == ["redis", "temporal", "worker"]
        assert all(check["message"] for check in failing)
        assert done(await client.get("/api/v1/status"))["controlLoop"]["state"] == "ERROR"


async def test_without_postgresql_at_the_start_nothing_is_ready(served: Served) -> None:
    async with served(database=Database("postgresql://nobody:x@127.0.0.1:1/none")) as client:
        done(await client.get("/livez", headers=NO_KEY))
        refused(await client.get("/readyz", headers=NO_KEY), 503, "SERVICE_UNAVAILABLE")
        refused(await client.get("/api/v1/config/current"), 503, "DATABASE_ERROR")
        unknown = {"Authorization": "Bearer lao_something"}
        refused(await client.get("/api/v1/config/current", headers=unknown), 503, "DATABASE_ERROR")
        assert (await health(client))["status"] == "unhealthy"


async def test_status_tells_what_goes_on(client: httpx.AsyncClient) -> None:
    status = done(await client.get("/api/v1/status"))
    assert status["mode"] == "standalone"
    assert status["controlLoop"] == {"state": "IDLE", "lastRun": 0, "nextRun": 0}
    assert status["deployments"] == {"active": 0, "pending": 0}
    assert status["metrics"] == {"bufferSize": 0, "ingestionRate": 0, "lastFlush": 0}
    assert status["resources"]["memoryUsageMb"] > 10
    report = {
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
    done(await client.post("/api/v1/metrics", json={"metrics": [report] * 50}))
    metrics = done(await client.get("/api/v1/status"))["metrics"]
    assert metrics["ingestionRate"] == 5
    assert abs(metrics["lastFlush"] - time.time() * 1000) < 60_000


async def test_rollouts_are_counted(client: httpx.AsyncClient, database: Database, temporal: Client) -> None:
    update = {"service": "chat", "config": CONFIG, "reason": "first"}
    done(await client.post("/api/v1/config/update", json=update))
    done(await client.post("/api/v1/admin/pause"))
    waiting = update | {"config": CONFIG | {"topK": 1}}
    deployment = done(await client.post("/api/v1/config/update", json=waiting))["deploymentId"]
    assert done(await client.get("/api/v1/status"))["deployments"] == {"active": 0, "pending": 1}
    done(await client.post("/api/v1/admin/resume"))
    begun = {"active": 1, "pending": 0}
    async with running_worker(database, temporal, step_seconds=600.0):
        status = await eventually(client, "/api/v1/status", lambda body: body["deployments"] == begun)
        assert status["controlLoop"]["state"] == "MONITORING"
        done(await client.post(f"/api/v1/deployments/{deployment}/abort"))


async def test_a_schedule_tells_the_next_run(
    client: httpx.AsyncClient, database: Database, temporal: Client, served: Served
) -> None:
    schedule = {"schedule": {"everySeconds": 3600, "enabled": True}}
    done(await client.put("/api/v1/services/chat", json=schedule))
    async with running_worker(database, temporal, step_seconds=600.0), asyncio.timeout(60):
        while True:
            # What Temporal says is kept for a while; a fresh server asks anew.
            async with served() as fresh:
                loop = done(await fresh.get("/api/v1/status"))["controlLoop"]
            if loop["nextRun"]:
                break
    jitter = 360  # seconds: a tenth of the interval, so that services do not all run at once
    assert 0 < loop["nextRun"] - time.time() * 1000 < (3600 + jitter) * 1000
    await temporal.get_schedule_handle("schedule/chat").delete()


async def test_prometheus_counts_by_route(client: httpx.AsyncClient) -> None:
    await client.get("/api/v1/services/chat")
    await client.get("/api/v1/services/mail")
    await client.get("/nowhere/1")
    text = (await client.get("/metrics", headers=NO_KEY)).text
    route = 'method="GET",route="/api/v1/services/{service}",status="404"'
    assert f"llm_optimizer_http_requests_total{{{route}}} 2.0" in text
    assert "/nowhere" not in text
    assert "llm_optimizer_reports_committed_total 0.0" in text
