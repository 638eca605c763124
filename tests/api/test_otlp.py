"""OTLP/HTTP: spans of LLM calls, made by hand, with all that may be wrong with them."""

import asyncio
import gzip
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from google.protobuf import json_format
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from domain.pricing import price
from domain.rate_limits import RateLimits
from infra.embedded import EmbeddedStack
from storage.database import Database
from tests.api.answers import done
from tests.api.conftest import Served
from tests.api.telemetry import (
    GEN_AI,
    METRICS,
    PROTOBUF,
    TRACES,
    export,
    exported,
    failed,
    request,
    rows,
    span,
)
from tests.storage.records import first_config

JSON = {"Content-Type": "application/json"}


def chose(version: str, key: str = "llm.chat.config") -> tuple[str, dict[str, Any]]:
    """The event of a flag's evaluation."""
    return "feature_flag.evaluation", {"feature_flag.key": key, "feature_flag.result.variant": version}


def judged(name: str, **more: Any) -> tuple[str, dict[str, Any]]:
    """The event of an evaluation's result."""
    given = {f"gen_ai.evaluation.{key.replace('_', '.')}": value for key, value in more.items()}
    return "gen_ai.evaluation.result", {"gen_ai.evaluation.name": name} | given


def hex_ids(message: Any) -> dict[str, Any]:
    """A request as OTLP's JSON has it."""
    document = json_format.MessageToDict(message)
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for found, made in zip(
                scope["spans"], message.resource_spans[0].scope_spans[0].spans, strict=True
            ):
                found["traceId"], found["spanId"] = made.trace_id.hex(), made.span_id.hex()
    return document


async def test_a_span_is_a_report_of_its_call(client: httpx.AsyncClient, database: Database) -> None:
    more = {
        "gen_ai.response.id": "chatcmpl-7",
        "gen_ai.usage.cache_read.input_tokens": 400,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.stop_sequences": ["END"],
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.input.messages": "the secret of a user",
        "llm_optimizer.config_version": "chat@3",
    }
    given = span(GEN_AI | more, seconds=1.5)
    answer = exported(await export(client, request(given, span({"http.route": "/ask"}))))
    assert not answer.HasField("partial_success")
    (row,) = await rows(database)
    assert (row["service"], row["endpoint"], row["provider"]) == ("chat", "chat", "openai")
    assert (row["model"], row["config_version"]) == ("gpt-4o-2024-08-06", "chat@3")
    assert row["latency_ms"] == pytest.approx(1500)
    assert (row["tokens_input"], row["tokens_output"], row["tokens_total"]) == (1000, 500, 1500)
    assert (row["status_code"], row["error_type"], row["request_id"]) == (200, None, "chatcmpl-7")
    assert row["cost_usd"] == pytest.approx(price("openai", "gpt-4o-2024-08-06", 1000, 500))
    assert row["tags"] == {
        "traceId": given.trace_id.hex(),
        "spanId": given.span_id.hex(),
        "requestId": "chatcmpl-7",
        "configVersion": "chat@3",
        "cacheReadTokens": "400",
        "temperature": "0.5",
        "stopSequences": '["END"]',
        "timeToFirstTokenMs": "250",
    }
    assert "secret" not in str(row)
    known = done(await client.get("/api/v1/services"))
    assert [service["service"] for service in known["services"]] == ["chat"], "a new service becomes known"


@pytest.mark.parametrize(
    "attributes",
    [
        {
            "gen_ai.operation.name": "text_completion",
            "gen_ai.system": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.prompt_tokens": 10,
            "gen_ai.usage.completion_tokens": 5.0,
        },
        {
            "openinference.span.kind": "LLM",
            "llm.system": "openai",
            "llm.model_name": "gpt-4o",
            "llm.token_count.prompt": 10,
            "llm.token_count.completion": 5,
        },
        {
            "openinference.span.kind": "LLM",
            "llm.system": "openai",
            "llm.invocation_parameters": '{"model": "gpt-4o", "temperature": 0.1}',
            "llm.token_count.prompt": 10,
            "llm.token_count.completion": 5,
        },
    ],
)
async def test_every_generation_of_names_is_read(
    client: httpx.AsyncClient, database: Database, attributes: dict[str, Any]
) -> None:
    assert not exported(await export(client, request(span(attributes)))).HasField("partial_success")
    (row,) = await rows(database)
    assert (row["provider"], row["model"]) == ("openai", "gpt-4o")
    assert (row["tokens_input"], row["tokens_output"]) == (10, 5)


async def test_errors_have_their_type_and_status(client: httpx.AsyncClient, database: Database) -> None:
    red = Status(code=Status.STATUS_CODE_ERROR)
    given = [
        span(GEN_AI | {"error.type": "openai.RateLimitError", "http.response.status_code": 429}, seconds=5),
        span(GEN_AI | {"error.type": "503"}, seconds=4),
        span(GEN_AI | {"error.type": "timeout"}, seconds=3),
        span(GEN_AI, status=red, seconds=2),
    ]
    exported(await export(client, request(*given)))
    found = {(row["status_code"], row["error_type"]) for row in await rows(database)}
    assert found == {(429, "openai.RateLimitError"), (503, "503"), (500, "timeout"), (500, "_OTHER")}


async def test_json_has_hex_ids_and_is_answered_in_kind(
    client: httpx.AsyncClient, database: Database
) -> None:
    outer = span(GEN_AI | {"gen_ai.response.id": "r-1"})
    message = request(outer, span(GEN_AI, seconds=1))
    document = hex_ids(message)
    document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["newField"] = {"a": 1}
    answer = await client.post(TRACES, json=document)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {}
    assert len(await rows(database)) == 2
    # The same spans by the other encoding are the same spans.
    exported(await export(client, message))
    assert len(await rows(database)) == 2
    bad = hex_ids(request(span(GEN_AI | {"gen_ai.usage.input_tokens": -1})))
    answer = await client.post(TRACES, json=bad, headers={"Content-Type": "application/json; charset=utf-8"})
    assert answer.json()["partialSuccess"]["rejectedSpans"] == "1"
    assert "tokensInput" in answer.json()["partialSuccess"]["errorMessage"]


async def test_a_span_that_comes_again_is_kept_once(client: httpx.AsyncClient, database: Database) -> None:
    evaluated = span(GEN_AI, events=[judged("accuracy", score_value=0.9)])
    message = request(span(), evaluated)
    answers = await asyncio.gather(*(export(client, message) for _ in range(5)))
    for answer in answers:
        exported(answer)
    # A collector may put it into another batch.
    exported(await export(client, request(span(), evaluated, evaluated)))
    assert len(await rows(database)) == 3
    assert len(await rows(database, "quality")) == 1


async def test_of_nested_spans_of_one_answer_the_innermost_is_kept(
    client: httpx.AsyncClient, database: Database
) -> None:
    answered = GEN_AI | {"gen_ai.response.id": "r-1"}
    outer = span(answered, seconds=3)
    between = span({"http.route": "/"}, parent=outer, seconds=2)
    inner = span(answered | {"gen_ai.response.model": "inner"}, parent=between, seconds=1)
    exported(await export(client, request(outer, between, inner)))
    assert [row["model"] for row in await rows(database)] == ["inner"]
    # In another trace the inner one ends, and is sent, first; and what is between is never seen.
    outer, hidden = span(answered, seconds=3), span({}, seconds=2)
    hidden.trace_id = outer.trace_id
    inner = span(answered | {"gen_ai.response.model": "first"}, parent=hidden, seconds=1)
    outer.end_time_unix_nano += 1_000_000_000
    for one in (inner, outer, inner, outer):
        exported(await export(client, request(one)))
    assert [row["model"] for row in await rows(database)] == ["inner", "first"]
    # Two calls of one trace are two calls.
    above = span({})
    for _ in range(2):
        exported(await export(client, request(span(answered, parent=above))))
    assert len(await rows(database)) == 4


async def test_evaluations_in_events_are_scores_of_the_answer(
    client: httpx.AsyncClient, database: Database
) -> None:
    events = [
        judged("accuracy", score_value=0.9, explanation="the secret of a user"),
        judged("tone", score_value=4, score_label="good"),
        judged("safety", score_label="pass"),
        judged("style"),
    ]
    events[1][1]["llm_optimizer.evaluation.scale"] = 5
    call = span(
        GEN_AI | {"gen_ai.response.id": "r-1", "llm_optimizer.config_version": "chat@2"}, events=events
    )
    later = [
        ("gen_ai.evaluation.result", {**judged("accuracy", score_value=0.5)[1], "gen_ai.response.id": "r-9"}),
        judged("accuracy", score_value=7.0),
    ]
    answer = exported(await export(client, request(call, span({"job": "judge"}, events=later))))
    assert answer.partial_success.rejected_spans == 0
    assert "score.value is missing" in answer.partial_success.error_message
    assert "not 0..1" in answer.partial_success.error_message
    first, second = sorted(await rows(database, "quality"), key=lambda row: row["request_id"])
    assert (first["request_id"], first["config_version"]) == ("r-1", "chat@2")
    assert first["overall_score"] == pytest.approx((90 + 80 + 100) / 3)
    assert first["dimension_scores"] == {"accuracy": 90, "tone": 80, "safety": 100}
    assert (second["request_id"], second["overall_score"]) == ("r-9", 50)
    assert "secret" not in f"{first}{second}"
    assert len(await rows(database)) == 1


async def test_the_version_is_that_of_the_flag_that_was_evaluated(
    client: httpx.AsyncClient, database: Database
) -> None:
    async def version(*spans: Any) -> str | None:
        pool = await database.pool()
        await pool.execute("TRUNCATE metrics")
        assert not exported(await export(client, request(*spans))).HasField("partial_success")
        (row,) = await rows(database)
        found: str | None = row["config_version"]
        return found

    assert await version(span(events=[chose("chat@2")])) == "chat@2"
    assert await version(span(events=[chose("chat@2", "llm.chat.model")])) == "chat@2"
    assert await version(span(events=[chose("mail@2", "llm.mail.config")])) is None, "another service's flag"
    assert await version(span(events=[chose("on", "dark-mode")])) is None, "a flag of somebody else"
    named = GEN_AI | {"llm_optimizer.config_version": "chat@9"}
    assert await version(span(named, events=[chose("chat@2")])) == "chat@9"
    root = span({}, events=[chose("chat@3")], seconds=9)
    near = span({}, events=[chose("chat@4")], parent=root, seconds=8)
    assert await version(span(parent=near), near, root) == "chat@4", "the nearest ancestor's"
    bare = span({}, parent=root, seconds=8)
    assert await version(span(parent=bare), bare, root) == "chat@3"
    beside = span({}, events=[chose("chat@5")], parent=bare, seconds=7)
    assert await version(span(parent=bare), beside) == "chat@5", "what else the trace says"
    late = span({}, events=[chose("chat@1"), chose("chat@6")], seconds=9)
    late.events[1].time_unix_nano = time.time_ns() + 10**9
    assert await version(span(parent=late), late) == "chat@1", "not what was chosen after the call"


async def test_a_call_without_a_price_or_usage_costs_nobody_knows_what(
    client: httpx.AsyncClient, database: Database
) -> None:
    unused = GEN_AI | {"gen_ai.usage.input_tokens": None, "gen_ai.usage.output_tokens": None}
    given = [
        span(GEN_AI | {"gen_ai.usage.cost": 0.125}),
        span(GEN_AI | {"gen_ai.response.model": "a-model-of-our-own"}),
        span(unused),
    ]
    for each in given:
        exported(await export(client, request(each)))
    assert [row["cost_usd"] for row in await rows(database)] == [0.125, None, None]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"gen_ai.provider.name": None}, "provider"),
        ({"gen_ai.request.model": None, "gen_ai.response.model": None}, "model"),
        ({"gen_ai.response.model": "m" * 257}, "model"),
        ({"gen_ai.response.model": "m\0"}, "NUL"),
        ({"gen_ai.usage.output_tokens": -5}, "tokensOutput"),
        ({"gen_ai.usage.output_tokens": 10**12}, "tokensOutput"),
        ({"gen_ai.usage.output_tokens": 1e300}, "tokensOutput"),
        ({"gen_ai.usage.output_tokens": 0.5}, "tokensOutput"),
        ({"gen_ai.usage.cost": -0.1}, "costUsd"),
        ({"llm_optimizer.config_version": "v" * 600}, "tags"),
    ],
)
async def test_what_cannot_be_meant_is_rejected_by_span(
    client: httpx.AsyncClient, database: Database, change: dict[str, Any], reason: str
) -> None:
    bad = span(GEN_AI | change)
    answer = exported(await export(client, request(span(), bad)))
    assert answer.partial_success.rejected_spans == 1
    assert answer.partial_success.error_message.startswith(f"span {bad.span_id.hex()}: ")
    assert reason in answer.partial_success.error_message
    assert len(await rows(database)) == 1


async def test_spans_of_no_service_id_or_time_are_rejected(
    client: httpx.AsyncClient, database: Database
) -> None:
    for service in (None, "unknown_service", "unknown_service:node", "global", "a b"):
        answer = exported(await export(client, request(span(), span({}), service=service)))
        assert answer.partial_success.rejected_spans == 1, service
        assert "service" in answer.partial_success.error_message
    backwards, timeless, ahead, nameless = span(seconds=-1), span(), span(), span()
    timeless.ClearField("end_time_unix_nano")
    ahead.end_time_unix_nano = 2**64 - 1
    nameless.trace_id = b"short"
    answer = exported(await export(client, request(backwards, timeless, ahead, nameless)))
    assert answer.partial_success.rejected_spans == 4
    assert await rows(database) == []


async def test_numbers_that_are_none_are_passed_over(client: httpx.AsyncClient, database: Database) -> None:
    odd = {
        "gen_ai.usage.cost": float("nan"),
        "gen_ai.usage.input_tokens": "many",
        "gen_ai.request.top_p": True,
    }
    assert not exported(await export(client, request(span(GEN_AI | odd)))).HasField("partial_success")
    (row,) = await rows(database)
    assert (row["tokens_input"], row["tokens_output"]) == (0, 500)
    assert row["cost_usd"] == pytest.approx(price("openai", "gpt-4o-2024-08-06", 0, 500))


async def test_an_empty_request_is_a_success(client: httpx.AsyncClient) -> None:
    for path in (TRACES, METRICS):
        answer = await client.post(path, headers=PROTOBUF)
        assert (answer.status_code, answer.content) == (200, b"")
        assert (await client.post(path, json={})).json() == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"resourceSpans": 7}',
        b'{"resourceSpans": [7]}',
        b'{"resourceSpans": {"scopeSpans": [[]]}}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "xyz"}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "\\ud800"}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "\\ud800"}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "soon"}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": [null, 7]}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"endTimeUnixNano": 1' + b"0" * 5000 + b"}]}]}]}",
        b'{"resourceSpans":' * 5000,
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
async def test_json_that_is_none_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post(TRACES, content=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    status = answer.json()
    assert (status["code"], status["details"][0]["reason"]) == (3, "INVALID_REQUEST")
    assert status["details"][0]["metadata"]["requestId"] == answer.headers["x-request-id"]


async def test_bodies_that_are_none_are_refused(served: Served, database: Database) -> None:
    most = 200_000
    async with served(max_body_bytes=most) as client:

        async def post(body: bytes, **headers: str) -> httpx.Response:
            return await client.post(TRACES, content=body, headers=PROTOBUF | headers)

        zipped = {"Content-Encoding": "gzip"}
        message = request(span()).SerializeToString()
        exported(await post(gzip.compress(message), **zipped))
        assert len(await rows(database)) == 1
        failed(await post(b"\xff" * 10), 400, "INVALID_REQUEST")
        failed(await post(message, **zipped), 400, "INVALID_REQUEST")
        failed(await post(gzip.compress(message)[:-9], **zipped), 400, "INVALID_REQUEST")
        failed(await post(gzip.compress(message) * 2, **zipped), 400, "INVALID_REQUEST")
        failed(await post(gzip.compress(b"\0" * 10**8), **zipped), 413, "INVALID_REQUEST")
        failed(await post(gzip.compress(b"\0" * (most + 1)), **zipped), 413, "INVALID_REQUEST")
        failed(await post(b"\0" * (most + 1)), 413, "INVALID_REQUEST")

        async def parts() -> Any:
            for _ in range(50):
                yield b"\0" * 10_000

        failed(await client.post(TRACES, content=parts(), headers=PROTOBUF), 413, "INVALID_REQUEST")
        failed(await post(message, **{"Content-Encoding": "br"}), 415, "INVALID_REQUEST")
        failed(await client.post(TRACES, content=message), 415, "INVALID_REQUEST")
        failed(await post(message, **{"Content-Type": "text/plain"}), 415, "INVALID_REQUEST")
        wrong = await client.get(TRACES)
        failed(wrong, 405, "INVALID_REQUEST")
        assert wrong.headers["allow"] == "POST"
        failed(await client.post("/v1/logs", content=b"", headers=PROTOBUF), 404, "NOT_FOUND")
    assert len(await rows(database)) == 1


async def test_more_spans_than_a_batch_may_have_are_rejected(
    client: httpx.AsyncClient, database: Database
) -> None:
    answer = exported(await export(client, request(*(span() for _ in range(10_003)))))
    assert answer.partial_success.rejected_spans == 3
    assert answer.partial_success.error_message.count(";") == 2
    assert len(await rows(database)) == 10_000


async def test_keys_and_limits_are_those_of_reports(
    served: Served, client: httpx.AsyncClient, key_with: Callable[..., Any]
) -> None:
    stranger = await export(client, request(span()), Authorization="Bearer wrong")
    assert failed(stranger, 401, "UNAUTHORIZED").code == 16
    assert stranger.headers["www-authenticate"] == "Bearer"
    reader = await key_with("read")
    failed(await export(client, request(span()), Authorization=f"Bearer {reader}"), 403, "FORBIDDEN")
    nobody = await client.post(TRACES, content=b"", headers=JSON | {"Authorization": ""})
    assert (nobody.status_code, nobody.json()["code"]) == (401, 16)
    exported(await export(client, request(span()), Authorization=f"Bearer {await key_with('ingest')}"))
    async with served(rate_limits=RateLimits(reports=2, reads=0, writes=0, wrong_keys=0)) as limited:
        answers = [await export(limited, request(span())) for _ in range(4)]
    assert failed(answers[-1], 429, "RATE_LIMITED").code == 8
    assert int(answers[-1].headers["retry-after"]) >= 1


async def test_the_policy_s_own_prices_hold(client: httpx.AsyncClient, database: Database) -> None:
    model = {"provider": "openai", "model": "ours", "pricePerMTokIn": 10, "pricePerMTokOut": 20}
    policy = {"service": "chat", "searchSpace": {"models": [model]}}
    done(await client.put("/api/v1/services/chat", json=policy))
    exported(await export(client, request(span(GEN_AI | {"gen_ai.response.model": "ours"}))))
    assert [row["cost_usd"] for row in await rows(database)] == [pytest.approx(0.02)]


async def test_scores_meet_their_calls_in_analytics(client: httpx.AsyncClient, database: Database) -> None:
    await first_config(database, "chat", "gpt-4o")
    call = span(
        GEN_AI | {"llm_optimizer.config_version": "chat@1"}, events=[judged("accuracy", score_value=0.75)]
    )
    exported(await export(client, request(call, span(GEN_AI | {"llm_optimizer.config_version": "chat@1"}))))
    now = int(time.time() * 1000)
    query = {
        "services": ["chat"],
        "metrics": ["quality.avg", "requests.count"],
        "timeRange": {"start": now - 60_000, "end": now + 60_000},
        "groupBy": ["configVersion"],
    }
    found = done(await client.post("/api/v1/analytics/metrics", json=query))
    values = {series["metric"]: series["dataPoints"][0] for series in found["metrics"]}
    assert values["requests.count"]["value"] == 2
    assert values["quality.avg"]["value"] == 75
    assert values["quality.avg"]["dimensions"] == {"configVersion": "chat@1"}


async def test_without_postgresql_the_answer_says_when_to_try_again(
    served: Served, stack: EmbeddedStack
) -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/nothing")
    async with served(database=away) as client:
        answer = await export(client, request(span()))
    assert failed(answer, 503, "DATABASE_ERROR").code == 14
    assert int(answer.headers["retry-after"]) >= 1
    await away.close()
