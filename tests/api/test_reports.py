"""Reports over HTTP: kept in part, once, and never half."""

import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from domain.label_limits import ERROR_TYPES
from domain.reports import MAX_ITEMS
from infra.embedded import EmbeddedStack, started
from storage.database import Database
from storage.intake import EARLY_CAPACITY
from tests.api.answers import done, refused
from tests.api.conftest import CONFIG, UNLIMITED, Served

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


BY_ROUTE = "application/json; charset=utf-8"
"""A header that takes a closer look, which leaves the request to the framework."""


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        (METRICS, {}, {"metrics": [metric(), metric(latencyMs=-1)]}, 200),
        (METRICS + "?ack=commit", {}, {"metrics": [metric()]}, 200),
        (METRICS + "?ack=buffer", {}, {"metrics": [metric(), metric(model="")]}, 200),
        (QUALITY, {}, {"evaluations": [evaluation(), {}]}, 200),
        (QUALITY + "?ack=buffer", {}, {"evaluations": [evaluation()]}, 200),
        (METRICS, {}, {"metrics": {}}, 400),
        (METRICS, {}, {"metrics": [1] * 10_001}, 413),
        (METRICS, {}, {"metrics": ["x" * 3_000]}, 413),
        (METRICS, {"Authorization": "Bearer none"}, {"metrics": []}, 401),
        (METRICS, {"Authorization": ""}, {"metrics": []}, 401),
        (METRICS + "?ack=soon", {}, {"metrics": []}, 400),
        (METRICS + "?ack=", {}, {"metrics": []}, 400),
        (METRICS + "?ack=buffer&other=1", {}, {"metrics": []}, 400),
        (METRICS, {"Idempotency-Key": "a b"}, {"metrics": []}, 400),
        (METRICS, {"Content-Encoding": "gzip"}, {"metrics": []}, 415),
        (METRICS, {"X-Request-Id": "my-own"}, {"metrics": []}, 200),
    ],
)
async def test_plain_batches_are_answered_as_the_route_answers_them(
    served: Served, path: str, headers: dict[str, str], body: dict[str, Any], status: int
) -> None:
    limit = 2_000 if "x" * 3_000 in str(body) else 1_000_000
    async with served(
        max_body_bytes=limit, rate_limits=UNLIMITED.model_copy(update={"reports": 50})
    ) as client:
        answers = []
        for kind in ("application/json", BY_ROUTE):
            given = {"Content-Type": kind, **headers}
            answers.append(await client.post(path, content=json.dumps(body), headers=given))
        plain, routed = answers
        assert (plain.status_code, routed.status_code) == (status, status)
        assert _comparable(plain) == _comparable(routed)
        exposed = (await client.get("/metrics")).text
        assert re.findall(rf'http_requests_total{{.*status="{status}"}} (.*)', exposed) == ["2.0"]


async def test_a_body_without_a_length_is_bounded_likewise(served: Served) -> None:
    async def too_long() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 1_000

    async with served(max_body_bytes=10_000) as client:
        for kind in ("application/json", BY_ROUTE):
            answer = await client.post(METRICS, content=too_long(), headers={"Content-Type": kind})
            refused(answer, 413, "INVALID_REQUEST")


def _comparable(answer: httpx.Response) -> tuple[dict[str, Any], dict[str, str]]:
    """An answer without what differs from one to the next."""
    body = {name: value for name, value in answer.json().items() if name not in ("requestId", "timestamp")}
    own = answer.headers["x-request-id"]
    headers = dict(answer.headers) | {"x-request-id": own if own == "my-own" else ""}
    del headers["date"]
    return body, {name: re.sub(r"r=\d+;t=\d+|\d+", "", value) for name, value in headers.items()}


async def test_a_key_that_may_not_report_is_told_so(client: httpx.AsyncClient, key_with: Any) -> None:
    for scope, status in (("ingest", 200), ("read", 403)):
        headers = {"Authorization": f"Bearer {await key_with(scope)}"}
        answer = await client.post(METRICS, json={"metrics": []}, headers=headers)
        assert answer.status_code == status


async def test_an_answer_from_the_buffer_says_so_and_status_counts_what_waits(
    client: httpx.AsyncClient, database: Database
) -> None:
    answer = done(await client.post(METRICS, params={"ack": "buffer"}, json={"metrics": [metric()] * 3}))
    assert answer == {"accepted": 3, "rejected": 0, "ack": "buffer"}
    assert done(await client.get("/api/v1/status"))["metrics"]["bufferSize"] == 3
    exposed = (await client.get("/metrics")).text
    assert "llm_optimizer_reports_buffered_early 3.0" in exposed
    assert "llm_optimizer_reports_lost_total 0.0" in exposed
    assert await count(database, "metrics") == 0
    done(await client.post(METRICS, json={"metrics": [metric()]}))
    assert await count(database, "metrics") == 4
    assert done(await client.get("/api/v1/status"))["metrics"]["bufferSize"] == 0


async def test_the_buffer_is_bounded_and_written_when_the_server_stops(
    served: Served, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.intake.FLUSH_ROWS", 1_000_000)
    whole = json.dumps({"metrics": [metric()] * (EARLY_CAPACITY - 1)})
    async with served() as client:
        headers = {"Content-Type": "application/json"}
        done(await client.post(METRICS, params={"ack": "buffer"}, content=whole, headers=headers))
        two = {"metrics": [metric()] * 2}
        answer = await client.post(METRICS, params={"ack": "buffer"}, json=two)
        refused(answer, 429, "RATE_LIMITED")
        assert int(answer.headers["retry-after"]) >= 1
        assert await count(database, "metrics") == 0
    assert await count(database, "metrics") == EARLY_CAPACITY - 1


async def test_a_key_for_the_buffer_is_one_for_good(client: httpx.AsyncClient, database: Database) -> None:
    headers = {"Idempotency-Key": "batch-1", "Content-Type": "application/json"}
    target, body = f"{METRICS}?ack=buffer", json.dumps({"metrics": [metric(), {}]})
    first = done(await client.post(target, content=body, headers=headers))
    for _ in range(2):
        assert done(await client.post(target, content=body, headers=headers)) == first
        other = await client.post(target, json={"metrics": [metric()]}, headers=headers)
        refused(other, 409, "CONFLICT")
        # What is in the buffer the first time is committed the second time.
        done(await client.post(METRICS, json={"metrics": [metric()]}))
    assert await count(database, "metrics") == 3


async def test_a_label_with_too_many_values_is_refused_by_item(client: httpx.AsyncClient) -> None:
    batch = [metric(errorType=f"error-{number}") for number in range(ERROR_TYPES)]
    assert done(await client.post(METRICS, json={"metrics": batch}))["accepted"] == ERROR_TYPES
    batch = [
        metric(errorType="one-more"),
        metric(errorType="error-0"),
        metric(service="other", errorType="x"),
    ]
    answer = done(await client.post(METRICS, json={"metrics": batch}))
    reason = "errorType: more than 200 different values of service 'chat-service' today"
    assert answer["errors"] == [{"index": 0, "reason": reason}]
    assert answer["accepted"] == 2


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "\xe4"])
async def test_a_key_that_is_none(client: httpx.AsyncClient, key: str) -> None:
    headers = {b"Idempotency-Key": key.encode("latin-1")}
    refused(await client.post(METRICS, json={"metrics": [metric()]}, headers=headers), 400, "INVALID_REQUEST")


async def test_without_postgresql_reports_are_refused_as_retryable_and_configurations_served(
    client: httpx.AsyncClient, stack: EmbeddedStack, database: Database
) -> None:
    update = {"reason": "first", "config": CONFIG}
    done(await client.post("/api/v1/config/update", json=update))
    await started(stack.postgres).kill()
    try:
        for path, body in ((METRICS, {"metrics": [metric()]}), (QUALITY, {"evaluations": [evaluation()]})):
            answer = await client.post(path, json=body)
            refused(answer, 503, "DATABASE_ERROR")
            assert int(answer.headers["retry-after"]) >= 1
        refused(await client.get("/api/v1/services"), 503, "DATABASE_ERROR")
        assert done(await client.get("/api/v1/config/current"))["version"] == "global@1"
    finally:
        await started(stack.postgres).start()
    assert done(await client.post(METRICS, json={"metrics": [metric()]}))["accepted"] == 1
