"""Analytics over HTTP: questions by address and by body, and what is refused."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio

from domain.analytics import DAY_MS
from storage import analytics
from storage.database import Database
from tests.api.answers import done, refused
from tests.api.conftest import CONFIG, Served

METRICS, HISTORY, BASELINES = (f"/api/v1/analytics/{name}" for name in ("metrics", "history", "baselines"))
NOW = int(time.time() * 1000)
HOUR = {"start": NOW - 3_600_000, "end": NOW}


def metric(**change: Any) -> dict[str, Any]:
    return {
        "timestamp": NOW - 60_000,
        "service": "chat",
        "endpoint": "/answer",
        "model": "gpt-4o",
        "provider": "openai",
        "latencyMs": 100,
        "tokensInput": 150,
        "tokensOutput": 500,
        "tokensTotal": 650,
        "costUsd": 0.5,
        "statusCode": 200,
    } | change


@pytest_asyncio.fixture
async def reported(client: httpx.AsyncClient) -> None:
    """100 calls of two teams, one of which has a model without a known price."""
    batch = [
        metric(latencyMs=number, tags={"team": "red", "configVersion": "chat@1"}) for number in range(50)
    ]
    batch += [metric(latencyMs=1000 + number, service="mail", tags={"team": "blue"}) for number in range(49)]
    unpriced = metric(latencyMs=5, service="mail", model="home-made", provider="home")
    del unpriced["costUsd"]
    assert done(await client.post("/api/v1/metrics", json={"metrics": [*batch, unpriced]}))["rejected"] == 0


async def get(client: httpx.AsyncClient, **params: Any) -> httpx.Response:
    return await client.get(METRICS, params=HOUR | params)


async def post(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await client.post(METRICS, json={"timeRange": HOUR} | body)


@pytest.mark.usefixtures("reported")
async def test_the_question_of_the_specification(client: httpx.AsyncClient) -> None:
    answer = await post(
        client,
        services=["chat"],
        metrics=["latency.p95", "cost.total"],
        aggregation="avg",
        groupBy=["model"],
    )
    point = {"timestamp": HOUR["start"], "dimensions": {"model": "gpt-4o"}}
    latency = pytest.approx(float(np.percentile(range(50), 95)), rel=0.01)
    assert done(answer) == {
        "metrics": [
            {"metric": "latency.p95", "dataPoints": [point | {"value": latency}]},
            {"metric": "cost.total", "dataPoints": [point | {"value": 25.0}]},
        ]
    }


@pytest.mark.usefixtures("reported")
async def test_an_address_asks_the_same_as_a_body(client: httpx.AsyncClient) -> None:
    body = {
        "services": ["chat", "mail"],
        "metrics": ["latency", "requests.count", "cost.avg"],
        "groupBy": ["service", "tags.team", "configVersion"],
        "interval": 1_800_000,
    }
    asked = done(await post(client, **body))
    commas = {name: ",".join(given) if isinstance(given, list) else given for name, given in body.items()}
    assert done(await get(client, **commas)) == asked
    assert done(await get(client, **body)) == asked
    counts = asked["metrics"][1]
    assert (asked["metrics"][0]["metric"], counts["metric"]) == ("latency", "requests.count")
    groups = [
        ({"service": "chat", "tags.team": "red", "configVersion": "chat@1"}, 50),
        ({"service": "mail", "tags.team": "blue"}, 49),
        ({"service": "mail"}, 1),
    ]
    halves = [HOUR["start"], HOUR["start"] + 1_800_000]
    assert counts["dataPoints"] == [
        {"timestamp": at, "value": float(count if at == halves[1] else 0), "dimensions": dimensions}
        for dimensions, count in groups
        for at in halves
    ]
    priced = [point["dimensions"] for point in asked["metrics"][2]["dataPoints"]]
    assert priced == [dimensions for dimensions, _ in groups[:2]]


async def test_quality_is_told_by_the_labels_of_its_request(client: httpx.AsyncClient) -> None:
    calls = [metric(model=model, tags={"requestId": model}) for model in ("gpt-4o", "gpt-4o-mini")]
    done(await client.post("/api/v1/metrics", json={"metrics": calls}))
    scores = [("gpt-4o", 90), ("gpt-4o", 70), ("gpt-4o-mini", 20), ("nobody's", 1)]
    evaluations = [
        {"timestamp": NOW - 1000, "service": "chat", "requestId": request, "overallScore": score}
        for request, score in scores
    ]
    done(await client.post("/api/v1/quality", json={"evaluations": evaluations}))
    (answered,) = done(await get(client, metrics="quality", groupBy="model"))["metrics"]
    assert [(point["dimensions"], point["value"]) for point in answered["dataPoints"]] == [
        ({"model": "gpt-4o"}, 80.0),
        ({"model": "gpt-4o-mini"}, 20.0),
        ({}, 1.0),
    ]


async def test_without_a_group_there_are_no_dimensions(client: httpx.AsyncClient) -> None:
    answer = done(await get(client, metrics="requests.count,latency"))
    nothing = [{"timestamp": HOUR["start"], "value": 0.0}]
    assert answer["metrics"] == [
        {"metric": "requests.count", "dataPoints": nothing},
        {"metric": "latency", "dataPoints": []},
    ]


LONG = {"start": NOW - 90 * DAY_MS - 1, "end": NOW}
BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"metrics": ["latency.p42"]}, "metrics[0]", "latency.p95"),
    ({"metrics": []}, "metrics", ""),
    ({"metrics": ["cost", "errors", "cost"]}, "metrics", "'cost' is named twice"),
    ({"services": ["a b"]}, "service", ""),
    ({"groupBy": ["team"]}, "groupBy[0]", "tags.team for a tag"),
    ({"groupBy": ["model", "tags."]}, "groupBy[1]", "1 to 128"),
    ({"groupBy": ["model", "model"]}, "groupBy", "'model' is named twice"),
    ({"groupBy": [f"tags.{number}" for number in range(6)]}, "groupBy", "at most 5"),
    ({"aggregation": "median"}, "aggregation", "'p99'"),
    ({"interval": 999}, "interval", "1000"),
    ({"interval": 1_000}, "interval", "at least 1440 would do"),
    ({"interval": 30_000, "aggregation": "max"}, "interval", "60000"),
    ({"timeRange": {"start": NOW, "end": NOW}}, "end", "after start"),
    ({"timeRange": LONG}, "end", "90 days"),
    ({"timeRange": {"start": 1_699_564_800, "end": 1_699_568_400}}, "start", "1577836800000"),
    ({"timeRange": {"start": NOW}}, "end", "required"),
    ({"timeRange": {"end": NOW}}, "start", "required"),
]


async def test_a_bad_question_is_refused_by_field(client: httpx.AsyncClient) -> None:
    for change, field, reason in BAD:
        body = {"metrics": ["cost"], "timeRange": HOUR} | change
        address = {name: given for name, given in body.items() if name != "timeRange"} | body["timeRange"]
        for asked in (await client.post(METRICS, json=body), await client.get(METRICS, params=address)):
            message = refused(asked, 400, "INVALID_REQUEST")["message"]
            assert field in message.partition(": ")[0], (change, message)
            assert reason in message, change


BAD_PARAMETERS: list[tuple[str, dict[str, Any], str]] = [
    (METRICS, HOUR | {"metrics": "cost", "group_by": "model"}, "'group_by'"),
    (METRICS, HOUR | {"metrics": "cost,"}, "metrics[1]"),
    (METRICS, HOUR | {"metrics": "cost", "services": ""}, "service ''"),
    (METRICS, HOUR | {"metrics": "cost", "start": "yesterday"}, "start"),
    (METRICS, HOUR | {"metrics": "cost", "end": 10**16}, "end"),
    (HISTORY, {"limit": 0}, "limit"),
    (HISTORY, {"services": "chat,a b"}, "service 'a b'"),
    (HISTORY, {"start": -1}, "start"),
    (HISTORY, {"timeRange": "1"}, "'timeRange'"),
    (BASELINES, {"services": "a b"}, "service 'a b'"),
    (BASELINES, {"service": "chat"}, "'service'"),
]


async def test_a_bad_parameter_is_named(client: httpx.AsyncClient) -> None:
    for path, params, named in BAD_PARAMETERS:
        message = refused(await client.get(path, params=params), 400, "INVALID_REQUEST")["message"]
        assert named in message, params


async def test_a_body_is_read_strictly(client: httpx.AsyncClient) -> None:
    good: dict[str, Any] = {"metrics": ["cost"], "timeRange": HOUR}
    done(await client.post(METRICS, json=good))
    for bad in (
        good | {"start": HOUR["start"]},
        good | {"groupby": ["model"]},
        good | {"metrics": "cost"},
        good | {"timeRange": HOUR | {"start": str(HOUR["start"])}},
        good | {"services": None, "interval": 60_000.5},
        [good],
    ):
        refused(await client.post(METRICS, json=bad), 400, "INVALID_REQUEST")


@pytest.mark.parametrize("path", [METRICS, HISTORY, BASELINES])
async def test_reading_is_for_those_who_may_read(
    client: httpx.AsyncClient, key_with: Callable[..., Any], path: str
) -> None:
    params = HOUR | {"metrics": "cost"} if path == METRICS else {}
    for scope, status in (("read", 200), ("ingest", 403), ("write", 403)):
        headers = {"Authorization": f"Bearer {await key_with(scope)}"}
        answers = [await client.get(path, params=params, headers=headers)]
        if path == METRICS:
            body = {"metrics": ["cost"], "timeRange": HOUR}
            answers.append(await client.post(path, json=body, headers=headers))
        assert {answer.status_code for answer in answers} == {status}
    refused(await client.get(path, params=params, headers={"Authorization": ""}), 401, "UNAUTHORIZED")


async def test_a_question_that_takes_too_long_is_answered_so(
    client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await database.pool()
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE metrics")
        with monkeypatch.context() as short:
            short.setattr(analytics, "QUERY_SECONDS", 0.05)
            refused(await get(client, metrics="cost"), 504, "TIMEOUT")
    done(await get(client, metrics="cost"))


async def test_an_answer_is_given_again_for_a_while_by_every_replica(served: Served) -> None:
    question = {"metrics": ["requests.count"], "timeRange": HOUR}

    async def count(client: httpx.AsyncClient, **change: Any) -> float:
        (answered,) = done(await client.post(METRICS, json=question | change))["metrics"]
        return float(answered["dataPoints"][0]["value"])

    async with served(answer_seconds=60.0) as one, served(answer_seconds=60.0) as other:
        done(await one.post("/api/v1/metrics", json={"metrics": [metric()]}))
        assert await count(one) == 1
        done(await one.post("/api/v1/metrics", json={"metrics": [metric()]}))
        assert [await count(one), await count(other)] == [1, 1]
        assert await count(other, services=["chat"]) == 2
    async with served(answer_seconds=60.0, redis_url=None) as alone:
        assert await count(alone) == 2


async def test_the_history_of_a_change_that_was_taken_back(client: httpx.AsyncClient) -> None:
    update = {"service": "chat", "config": CONFIG, "reason": "first"}
    done(await client.post("/api/v1/config/update", json=update))
    done(await client.post("/api/v1/admin/pause"))
    changed = CONFIG | {"model": "gpt-4o-mini"}
    answer = await client.post(
        "/api/v1/config/update", json=update | {"config": changed, "reason": "cheaper"}
    )
    deployment = done(answer)["deploymentId"]
    done(await client.post(f"/api/v1/deployments/{deployment}/abort", json={"reason": "no need"}))
    body = done(await client.get(HISTORY))
    assert (body["total"], [event["type"] for event in body["events"]]) == (2, ["rollback", "deployment"])
    back, deployed = body["events"]
    assert (deployed["previousConfig"], deployed["proposedConfig"]) == (CONFIG, changed)
    assert (deployed["reasoning"], deployed["executed"], deployed["success"]) == ("cheaper", False, False)
    assert "no need" in back["reasoning"]
    assert "confidence" not in deployed
    assert done(await client.get(HISTORY, params={"limit": 1, "offset": 1})) == {
        "total": 2,
        "events": [deployed],
    }
    assert done(await client.get(HISTORY, params={"services": "mail,search"})) == {"total": 0, "events": []}
    since = {"start": back["timestamp"], "services": ["mail", "chat"]}
    assert done(await client.get(HISTORY, params=since)) == {"total": 1, "events": [back]}
    until = {"end": back["timestamp"]}
    assert done(await client.get(HISTORY, params=until)) == {"total": 1, "events": [deployed]}


async def test_the_document_says_what_may_be_asked(client: httpx.AsyncClient) -> None:
    document = done(await client.get("/openapi.json"))
    query = document["components"]["schemas"]["MetricsQuery"]["properties"]
    assert {"latency", "latency.p95", "requests.rate"} <= set(_enumerated(query["metrics"]["items"]))
    assert "tags" in query["groupBy"]["items"]["pattern"]
    (asked,) = (
        given for given in document["paths"][METRICS]["get"]["parameters"] if given["name"] == "metrics"
    )
    assert asked["required"]


def _enumerated(schema: dict[str, Any]) -> list[str]:
    return schema.get("enum") or [name for one in schema["anyOf"] for name in one["enum"]]
