"""Reports over HTTP: kept in part, once, and never half."""

import json
import time
from typing import Any

import httpx
import pytest

from domain.reports import MAX_ITEMS
from infra.embedded import EmbeddedStack
from storage.database import Database
from tests.api.answers import done, refused
from tests.api.conftest import CONFIG

METRICS, QUALITY = "/api/v1/metrics", "/api/v1/quality"


def metric(**change: Any) -> dict[str, Any]:
    return {
        "timestamp": int(time.time() * 1000),
        "service": "chat-service",
        "endpoint": "/api/chat",
        "model": "claude-sonnet-4",
        "provider": "anthropic",
        "latencyMs": 1234,
        "tokensInput": 150,
        "tokensOutput": 500,
        "tokensTotal": 650,
        "costUsd": 0.0325,
        "statusCode": 200,
    } | change


def evaluation(**change: Any) -> dict[str, Any]:
    return {
        "timestamp": int(time.time() * 1000),
        "service": "chat-service",
        "requestId": "req-123",
        "overallScore": 92,
        "dimensionScores": {"accuracy": 95, "relevance": 90, "coherence": 90},
        "evaluationMethod": "llm-as-judge",
    } | change


async def count(database: Database, table: str) -> int:
    connection = await database.connect()
    try:
        found: int = await connection.fetchval(f"SELECT count(*) FROM {table}")
        return found
    finally:
        await connection.close()


async def test_good_items_are_kept_and_bad_ones_named(client: httpx.AsyncClient, database: Database) -> None:
    batch = [metric(), metric(latencyMs=-1), metric(), metric(timestamp=1699564800), metric(service="global")]
    answer = done(await client.post(METRICS, json={"metrics": batch}))
    assert (answer["accepted"], answer["rejected"]) == (2, 3)
    assert [(bad["index"], bad["reason"].split(":")[0]) for bad in answer["errors"]] == [
        (1, "latencyMs"),
        (3, "timestamp"),
        (4, "service"),
    ]
    assert await count(database, "metrics") == 2
    known = done(await client.get("/api/v1/services"))
    assert [service["service"] for service in known["services"]] == ["chat-service"]


async def test_evaluations_are_taken_likewise(client: httpx.AsyncClient, database: Database) -> None:
    batch = [evaluation(), evaluation(overallScore=101), evaluation(configVersion="chat-service@2")]
    answer = done(await client.post(QUALITY, json={"evaluations": batch}))
    assert (answer["accepted"], answer["rejected"]) == (2, 1)
    assert answer["errors"] == [{"index": 1, "reason": "overallScore: expected `float` <= 100.0"}]
    assert await count(database, "quality") == 2


async def test_a_batch_without_faults_has_no_errors_field(client: httpx.AsyncClient) -> None:
    assert done(await client.post(METRICS, json={"metrics": [metric()]})) == {"accepted": 1, "rejected": 0}
    assert done(await client.post(METRICS, json={"metrics": []})) == {"accepted": 0, "rejected": 0}


async def test_the_size_of_a_batch_is_bounded(client: httpx.AsyncClient, database: Database) -> None:
    refused(await client.post(METRICS, json={"metrics": [{}] * 100_000}), 413, "INVALID_REQUEST")
    refused(await client.post(METRICS, json={"metrics": [metric()] * 100_000}), 413, "INVALID_REQUEST")
    assert await count(database, "metrics") == 0
    largest = {"metrics": [metric()] * MAX_ITEMS}
    assert done(await client.post(METRICS, json=largest))["accepted"] == MAX_ITEMS
    assert await count(database, "metrics") == MAX_ITEMS


async def test_a_retry_under_one_key_is_no_duplicate(client: httpx.AsyncClient, database: Database) -> None:
    body = json.dumps({"metrics": [metric(), metric(model="")]})
    headers = {"Idempotency-Key": "batch-1", "Content-Type": "application/json"}
    first = done(await client.post(METRICS, content=body, headers=headers))
    assert done(await client.post(METRICS, content=body, headers=headers)) == first
    other = await client.post(METRICS, json={"metrics": []}, headers=headers)
    refused(other, 409, "CONFLICT")
    assert await count(database, "metrics") == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "\xe4"])
async def test_a_key_that_is_none(client: httpx.AsyncClient, key: str) -> None:
    headers = {"Idempotency-Key": key.encode("latin-1")}
    refused(await client.post(METRICS, json={"metrics": [metric()]}, headers=headers), 400, "INVALID_REQUEST")


async def test_without_postgresql_reports_are_refused_as_retryable_and_configurations_served(
    client: httpx.AsyncClient, stack: EmbeddedStack, database: Database
) -> None:
    update = {"reason": "first", "config": CONFIG}
    done(await client.post("/api/v1/config/update", json=update))
    await stack.postgres.kill()
    try:
        for path, body in ((METRICS, {"metrics": [metric()]}), (QUALITY, {"evaluations": [evaluation()]})):
            answer = await client.post(path, json=body)
            refused(answer, 503, "DATABASE_ERROR")
            assert int(answer.headers["retry-after"]) >= 1
        refused(await client.get("/api/v1/services"), 503, "DATABASE_ERROR")
        assert done(await client.get("/api/v1/config/current"))["version"] == "global@1"
    finally:
        await stack.postgres.start()
    assert done(await client.post(METRICS, json={"metrics": [metric()]}))["accepted"] == 1
