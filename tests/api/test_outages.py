"""Every endpoint while PostgreSQL, Redis or Temporal is away, and after it has come back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from api.examples import EXAMPLES
from infra.embedded import EmbeddedStack, started
from storage.database import Database
from tests.api.answers import done, eventually, refused
from tests.api.conftest import CONFIG, Served
from tests.storage.records import change, make

# Answered from this process's memory, or about it.
WITHOUT_POSTGRESQL = {
    "getCurrentConfig",
    "getServiceConfig",
    "streamConfig",
    "evaluateFlag",
    "evaluateFlags",
    "streamRefetches",
    "getHealth",
    "getLiveness",
    "getReadiness",
    "getPrometheusMetrics",
}
# Told in gRPC's own terms.
OTLP = {"exportTraces", "exportMetrics"}
UNAVAILABLE = 14
BY_WORKFLOW = {
    "abortDeployment",
    "triggerOptimization",
    "pauseDeployment",
    "resumeDeployment",
    "approveDeployment",
    "promoteDeployment",
    "updateConfig",
}


NOW = 1_760_000_000_000
QUERY = {"metrics": ["cost.total"], "timeRange": {"start": NOW, "end": NOW + 60_000}}
CALL = {
    **{"timestamp": NOW, "service": "chat", "endpoint": "/a", "model": "gpt-4o", "provider": "openai"},
    **{"latencyMs": 12, "tokensInput": 1, "tokensOutput": 2, "tokensTotal": 3, "statusCode": 200},
}
BODIES: dict[str, Any] = {
    "reportMetrics": {"metrics": [CALL]},
    "reportQuality": {"evaluations": [{"timestamp": NOW, "service": "chat", "overallScore": 90}]},
    "updateConfig": {"service": "chat", "config": CONFIG | {"temperature": 0.9}, "reason": "a test"},
    "rollBackConfig": {"version": "chat@1", "reason": "a test"},
    "triggerOptimization": {"services": ["chat"], "dryRun": True},
    "putService": {"objectives": [{"metric": "cost.avg", "goal": "minimize", "weight": 1}]},
    "queryMetrics": QUERY,
    "setGoldenBaseline": {"service": "chat"},
    "dryRunRules": {"rules": [], "start": NOW, "end": NOW + 60_000},
    "createWebhook": {"url": "https://example.com/hook"},
    "replaceWebhook": {"url": "https://example.com/hook"},
    "createKey": {"name": "application", "scopes": ["ingest", "read"]},
    "evaluateFlag": {"context": {"targetingKey": "user-1"}},
    "evaluateFlags": {"context": {"targetingKey": "user-1"}},
    "exportTraces": EXAMPLES["exportTraces"].request,
    "exportMetrics": EXAMPLES["exportMetrics"].request,
}
PARAMETERS: dict[str, Any] = {
    "diffConfigs": {"from": "chat@1", "to": "global@1"},
    "getMetrics": {"metrics": "cost.total", "start": NOW, "end": NOW + 60_000},
    "streamRefetches": {"targetingKey": "user-1"},
}


@dataclass(frozen=True)
class Operation:
    """A route of the document, with an address and a body for it."""

    name: str
    method: str
    path: str

    async def ask(self, client: httpx.AsyncClient) -> httpx.Response:
        """The answer; of a stream its beginning."""
        arguments = {"json": BODIES[self.name]} if self.name in BODIES else {}
        arguments["params"] = PARAMETERS.get(self.name, {})
        async with asyncio.timeout(30), client.stream(self.method, self.path, **arguments) as answer:
            if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                await answer.aread()
            return answer


async def operations(client: httpx.AsyncClient, named: dict[str, str]) -> list[Operation]:
    """Every route that the application describes, but for those that stop or pause everything."""
    document = done(await client.get("/openapi.json"))
    found = []
    for template, methods in document["paths"].items():
        path = template
        for name, value in named.items():
            path = path.replace(f"{{{name}}}", quote(value, safe=""))
        for method, operation in methods.items():
            name = operation["operationId"]
            if name not in ("pause", "emergencyStop"):
                found.append(Operation(name, method.upper(), path))
    assert all("{" not in operation.path for operation in found), found
    assert set(BODIES) | set(PARAMETERS) <= {operation.name for operation in found}
    return found


@dataclass(frozen=True)
class System:
    """A served application with something of each kind in it."""

    client: httpx.AsyncClient
    operations: list[Operation]

    async def answers(self) -> dict[str, httpx.Response]:
        """Each operation's answer, all asked at once."""
        answered = await asyncio.gather(*(operation.ask(self.client) for operation in self.operations))
        return {op.name: answer for op, answer in zip(self.operations, answered, strict=True)}


@asynccontextmanager
async def system(served: Served, database: Database, **options: Any) -> AsyncIterator[System]:
    async with served(**options) as client:
        for where in ({}, {"service": "chat"}):
            update = {"config": CONFIG, "reason": "first", "deploymentStrategy": "immediate"} | where
            done(await client.post("/api/v1/config/update", json=update))
        opened = await make(database, change("mail", "gpt-4o-mini"))
        assert opened.deployment_id is not None
        named = {
            "service": "chat",
            "version": "global@1",
            "deploymentId": opened.deployment_id,
            "optimizationId": "opt_none",
            "webhookId": "whk_none",
            "deliveryId": "dlv_none",
            "keyId": "key_none",
            "key": "llm.chat.model",
        }
        yield System(client, await operations(client, named))


def unwell(health: dict[str, Any]) -> set[str]:
    """The names of the checks that fail."""
    return {check["name"] for check in health["checks"] if not check["healthy"]}


async def test_without_postgresql_what_is_served_is_answered_and_the_rest_refused_as_retryable(
    served: Served, database: Database, stack: EmbeddedStack
) -> None:
    async with system(served, database) as running:
        before = await running.client.get("/api/v1/config/service/chat")
        await started(stack.postgres).kill()
        try:
            answers = await running.answers()
            health = done(await running.client.get("/api/v1/health"))
            while_away = await running.client.get("/api/v1/config/service/chat")
        finally:
            await started(stack.postgres).start()
        for name, answer in answers.items():
            if name in WITHOUT_POSTGRESQL:
                assert answer.status_code == 200, (name, answer.text)
            else:
                if name in OTLP:
                    assert (answer.status_code, answer.json()["code"]) == (503, UNAVAILABLE), name
                else:
                    refused(answer, 503, "DATABASE_ERROR")
                assert int(answer.headers["retry-after"]) >= 1, name
        assert while_away.json() == before.json()
        assert health["status"] == "unhealthy"
        assert "postgresql" in unwell(health)
        # Nothing need be started again.
        await eventually(running.client, "/api/v1/health", lambda body: body["status"] != "unhealthy")
        recovered = await running.answers()
        assert {name for name, answer in recovered.items() if answer.status_code >= 500} == set()


async def test_without_temporal_only_what_a_workflow_must_do_is_refused(
    served: Served, database: Database, stack: EmbeddedStack
) -> None:
    async with system(served, database) as running:
        await started(stack.temporal).kill()
        try:
            answers = await running.answers()
            status = done(await running.client.get("/api/v1/status"))
            health = done(await running.client.get("/api/v1/health"))
        finally:
            await started(stack.temporal).start()
        unavailable = {name for name, answer in answers.items() if answer.status_code >= 500}
        assert unavailable == BY_WORKFLOW
        for name in BY_WORKFLOW:
            refused(answers[name], 503, "SERVICE_UNAVAILABLE")
            assert int(answers[name].headers["retry-after"]) >= 1, name
        assert status["controlLoop"]["state"] == "ERROR"
        assert health["status"] == "degraded"
        trigger = {"services": ["chat"], "dryRun": True}
        await eventually(running.client, "/api/v1/health", lambda body: "temporal" not in unwell(body))
        done(await running.client.post("/api/v1/optimize/trigger", json=trigger), 202)


async def test_without_redis_all_goes_on(served: Served, database: Database, stack: EmbeddedStack) -> None:
    async with system(served, database) as running:
        await started(stack.redis).kill()
        try:
            answers = await running.answers()
            health = done(await running.client.get("/api/v1/health"))
        finally:
            await started(stack.redis).start()
        failed = {name for name, answer in answers.items() if answer.status_code >= 500}
        # No worker runs here that could obey.
        assert failed <= {"approveDeployment", "promoteDeployment"}
        assert health["status"] == "degraded"
        assert unwell(health) - {"worker"} == {"redis"}
        await eventually(running.client, "/api/v1/health", lambda body: "redis" not in unwell(body))
