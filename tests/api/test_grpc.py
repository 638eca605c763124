"""gRPC: the reads and the intake of REST, by another way."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToDict

from api.configs.rendering import MAX_UNIT
from api.grpc.optimizer_pb2 import ConfigRequest, ConfigStreamRequest, Metric, MetricsRequest
from domain.assignment import assigned_to_canary
from domain.config import LLMConfig
from domain.reports import MAX_ITEMS
from storage import configs
from storage.database import Database
from tests.api.answers import done
from tests.api.conftest import CONFIG, Served
from tests.api.grpc_client import Both, failed, refused, served_both
from tests.storage.records import change, enter, first_config, make

INVALID = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
PARAMETERS = {"seed": 7, "nested": {"list": [1.5, "two", None, True]}}
WHOLE = CONFIG | {
    "modelVersion": "2026-10-01",
    "topK": 0,
    "stopSequences": ["END", "###"],
    "functionCalling": True,
    "parameters": PARAMETERS,
}


def metric(**change: Any) -> Metric:
    fields: dict[str, Any] = {
        "timestamp": int(time.time() * 1000),
        "service": "chat",
        "endpoint": "/api/chat",
        "model": "gpt-4o",
        "provider": "openai",
        "latency_ms": 1234.5,
        "tokens_input": 150,
        "tokens_output": 500,
        "tokens_total": 650,
        "status_code": 200,
    }
    return Metric(**(fields | change))


def batch(*metrics: Metric) -> MetricsRequest:
    return MetricsRequest(metrics=metrics)


async def rows(database: Database) -> list[Any]:
    pool = await database.pool()
    found: list[Any] = await pool.fetch("SELECT * FROM metrics ORDER BY latency_ms")
    return found


@pytest_asyncio.fixture
async def both(served: Served) -> AsyncIterator[Both]:
    async with served_both(served) as opened:
        yield opened


async def test_a_configuration_is_that_of_rest(both: Both, database: Database) -> None:
    await refused(both.grpc.GetConfig(), grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    async with database.transaction() as session:
        state = await configs.lock_scope(session, "chat")
        wanted = LLMConfig.model_validate(WHOLE)
        await configs.apply_first(session, state, wanted, by="ada", change_type="manual", reason="first")
    # Over the API, which shows at once what it has changed, and that before it.
    done(await both.rest.post("/api/v1/config/update", json={"config": CONFIG, "reason": "first"}))
    for service, endpoint, version in (
        ("", "", "global@1"),
        ("chat", "/a", "chat@1"),
        ("mail", "", "global@1"),
    ):
        call = both.grpc.GetConfig(ConfigRequest(service=service, endpoint=endpoint))
        answer = await call
        path = f"service/{service}" if service else "current"
        expected = done(await both.rest.get(f"/api/v1/config/{path}"))
        assert answer.version == expected["version"] == version
        found = MessageToDict(answer.config, always_print_fields_with_no_presence=True)
        if not found["stopSequences"]:
            del found["stopSequences"]
        assert found == expected["config"]
        assert not answer.HasField("rollout")
        assert dict(await call.trailing_metadata())["x-request-id"].startswith("req_")
    whole = (await both.grpc.GetConfig(ConfigRequest(service="chat"))).config
    assert whole.HasField("top_k"), "none is not zero"
    assert not (await both.grpc.GetConfig()).config.HasField("top_k")


async def test_units_are_assigned_as_everywhere(both: Both, database: Database) -> None:
    await first_config(database, "chat", "gpt-4o")
    opened = await make(database, change("chat", "gpt-4o-mini"))
    assert opened.deployment_id is not None
    await enter(database, opened.deployment_id, 1)
    chat = ConfigRequest(service="chat")
    async with asyncio.timeout(10):
        while (rollout := (await both.grpc.GetConfig(chat)).rollout).traffic_percent != 25:  # noqa: ASYNC110  # the server tells nobody
            await asyncio.sleep(0.01)
    rest = done(await both.rest.get("/api/v1/config/service/chat"))["rollout"]
    assert (rollout.deployment_id, rollout.traffic_percent) == (opened.deployment_id, 25)
    assert rollout.watched_until == rest["watchedUntil"]
    assert (rollout.control.version, rollout.canary.version) == ("chat@1", "chat@2")
    assert (rollout.control.config.model, rollout.canary.config.model) == ("gpt-4o", "gpt-4o-mini")
    for unit in (f"user-{number}" for number in range(40)):
        got = await both.grpc.GetConfig(ConfigRequest(service="chat", unit=unit))
        side = rollout.canary if assigned_to_canary(rollout.deployment_id, unit, 25) else rollout.control
        assert (got.version, got.config) == (side.version, side.config)
    drawn = {(await both.grpc.GetConfig(ConfigRequest(service="chat"))).version for _ in range(100)}
    assert drawn == {"chat@1", "chat@2"}, "each answer draws"


@pytest.mark.parametrize("given", [{"endpoint": "/a"}, {"service": "a b"}, {"unit": "u" * (MAX_UNIT + 1)}])
async def test_a_read_that_cannot_be_meant_is_refused(both: Both, given: dict[str, str]) -> None:
    await refused(both.grpc.GetConfig(ConfigRequest(**given)), *INVALID)
    await refused(both.grpc.StreamConfig(ConfigStreamRequest(**given)), *INVALID)


async def test_good_metrics_are_kept_and_bad_ones_named(both: Both, database: Database) -> None:
    given = batch(
        metric(
            latency_ms=1,
            error_type="overloaded",
            status_code=529,
            retry_count=0,
            tags={"configVersion": "chat@3"},
        ),
        metric(latency_ms=-1),
        metric(latency_ms=float("nan")),
        metric(timestamp=0),
        metric(service="global"),
        metric(tags={"note": "a\0b"}),
        metric(latency_ms=2, model=""),
        metric(latency_ms=3),
    )
    answer = await both.grpc.ReportMetrics(given)
    assert (answer.accepted, answer.rejected) == (2, 6)
    reasons = {error.index: error.reason.partition(":")[0] for error in answer.errors}
    assert reasons == {1: "latencyMs", 2: "latencyMs", 3: "timestamp", 4: "service", 5: "tags", 6: "model"}
    first, second = await rows(database)
    assert (first["status_code"], first["error_type"], first["config_version"]) == (
        529,
        "overloaded",
        "chat@3",
    )
    assert (first["retry_count"], second["retry_count"], second["error_type"]) == (0, None, None)
    assert (second["tokens_input"], second["tokens_output"], second["tokens_total"]) == (150, 500, 650)


async def test_a_cost_that_is_not_given_is_not_zero(both: Both, database: Database) -> None:
    await both.grpc.ReportMetrics(
        batch(
            metric(latency_ms=1),
            metric(latency_ms=2, cost_usd=0),
            metric(latency_ms=3, cost_usd=0.25),
            metric(latency_ms=4, model="nobody-knows-it", provider="nobody"),
        )
    )
    priced, free, given, unknown = (row["cost_usd"] for row in await rows(database))
    assert priced == pytest.approx(150 * 2.5e-6 + 500 * 10e-6)
    assert (free, given, unknown) == (0, 0.25, None)


async def test_a_retry_under_one_key_is_no_duplicate(both: Both, database: Database) -> None:
    key = ("idempotency-key", "batch-1")
    given = batch(metric(tags={"a": "1", "b": "2", "c": "3"}), metric(status_code=0))
    answers = [await both.grpc.ReportMetrics(given, key) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert (answers[0].accepted, len(answers[0].errors)) == (1, 1)
    # The same map, its entries written in another order.
    again = batch(*given.metrics)
    for name in ("c", "a", "b"):
        del again.metrics[0].tags[name]
    for name, value in (("c", "3"), ("b", "2"), ("a", "1")):
        again.metrics[0].tags[name] = value
    assert await both.grpc.ReportMetrics(again, key) == answers[0]
    assert len(await rows(database)) == 1
    other = both.grpc.ReportMetrics(batch(metric(latency_ms=9)), key)
    await refused(other, grpc.StatusCode.FAILED_PRECONDITION, "CONFLICT")
    await refused(both.grpc.ReportMetrics(given, ("idempotency-key", "a b")), *INVALID)
    await refused(both.grpc.ReportMetrics(given, ("idempotency-key", "k" * 256)), *INVALID)


async def test_a_large_batch_is_taken_and_one_that_is_too_large_is_not(
    both: Both, database: Database
) -> None:
    one = metric(tags={f"tag-{number}": "x" * 20 for number in range(10)})
    assert (await both.grpc.ReportMetrics(batch(*[one] * MAX_ITEMS))).accepted == MAX_ITEMS
    assert len(await rows(database)) == MAX_ITEMS
    await refused(both.grpc.ReportMetrics(batch(*[one] * (MAX_ITEMS + 1))), *INVALID)
    assert (await both.grpc.ReportMetrics()).accepted == 0


async def test_a_message_larger_than_a_body_may_be_is_refused(served: Served) -> None:
    async with served_both(served, max_body_bytes=1000, max_bodies_bytes=1500) as both:
        await refused(both.grpc.ReportMetrics(batch(metric(model="m" * 1200))), *INVALID)
        packed = both.grpc.ReportMetrics(batch(metric(model="m" * 1200)), compression=grpc.Compression.Gzip)
        await refused(packed, *INVALID)
        # gRPC itself does not even receive it.
        error = await failed(both.grpc.ReportMetrics(batch(metric(model="m" * 5000))))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in error.details()
        assert (
            await both.grpc.ReportMetrics(batch(metric()), compression=grpc.Compression.Gzip)
        ).accepted == 1
    async with served_both(served, max_bodies_bytes=10) as both:
        full = both.grpc.ReportMetrics(batch(metric()))
        await refused(full, grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")


async def test_calls_are_measured(both: Both) -> None:
    await failed(both.grpc.GetConfig())
    await both.grpc.ReportMetrics(batch(metric()))
    text = (await both.rest.get("/metrics")).text
    prefix = 'llm_optimizer_grpc_requests_total{code="%s",method="/optimizer.OptimizerService/%s"} 1.0'
    assert prefix % ("NOT_FOUND", "GetConfig") in text
    assert prefix % ("OK", "ReportMetrics") in text
    assert "llm_optimizer_grpc_request_duration_seconds_bucket" in text
