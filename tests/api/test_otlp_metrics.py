"""OTLP/HTTP: cumulative histograms of services that send no spans."""

import asyncio
import time
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from domain.reports import MAX_ITEMS
from storage.database import Database
from tests.api.telemetry import METRICS, SECOND, export, exported, histograms, request, rows, span

LABELS: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.response.model": "gpt-4o",
}
FAILED = LABELS | {"error.type": "timeout"}
INPUT, OUTPUT = LABELS | {"gen_ai.token.type": "input"}, LABELS | {"gen_ai.token.type": "output"}


def taken(answer: httpx.Response) -> ExportMetricsServiceResponse:
    """The answer to points that were taken, in part at least."""
    assert answer.status_code == 200, answer.content
    return ExportMetricsServiceResponse.FromString(answer.content)


async def sent(client: httpx.AsyncClient, message: ExportMetricsServiceRequest) -> str:
    """What the answer says is wrong, nothing being the usual."""
    return taken(await export(client, message, METRICS)).partial_success.error_message


async def test_cumulative_histograms_count_what_came_since(
    client: httpx.AsyncClient, database: Database
) -> None:
    now = time.time_ns()
    start, first, second = now - 120 * SECOND, now - 60 * SECOND, now
    one = histograms(
        (LABELS, [2, 1, 0], 5.0),
        (FAILED, [0, 0, 1], 20.0),
        usage=[(INPUT, 3, 301), (OUTPUT, 3, 60)],
        start=start,
        at=first,
    )
    answers = await asyncio.gather(*(sent(client, one) for _ in range(4)))
    assert answers == [""] * 4
    found = await rows(database)
    good = [row for row in found if row["status_code"] == 200]
    assert len(good) == 3
    assert sum(row["latency_ms"] for row in good) == pytest.approx(5000)
    assert sum(row["latency_ms"] <= 1000 for row in good) == 2
    assert sorted(row["tokens_input"] for row in good) == [100, 100, 101]
    assert sum(row["tokens_output"] for row in good) == 60
    assert all(row["cost_usd"] > 0 for row in good)
    (bad,) = [row for row in found if row["status_code"] != 200]
    assert (bad["error_type"], bad["latency_ms"], bad["tokens_input"]) == (
        "timeout",
        pytest.approx(20_000),
        0,
    )
    two = histograms(
        (LABELS, [2, 3, 0], 15.0),
        (FAILED, [0, 0, 1], 20.0),
        usage=[(INPUT, 5, 501), (OUTPUT, 5, 100)],
        start=start,
        at=second,
    )
    assert await sent(client, two) == ""
    assert await sent(client, one) == "", "an older point that comes late tells nothing"
    assert await sent(client, two) == ""
    found = await rows(database)
    assert len(found) == 6
    later = [row for row in found if row["ts"].timestamp() * SECOND > first + SECOND]
    assert [row["tokens_input"] for row in later] == [100, 100]
    assert sum(row["latency_ms"] for row in later) == pytest.approx(10_000)
    # The process was started anew.
    fresh = histograms((LABELS, [1, 0, 0], 0.5), start=second, at=second + SECOND)
    assert await sent(client, fresh) == ""
    assert len(await rows(database)) == 7


async def test_delta_histograms_count_whole(client: httpx.AsyncClient, database: Database) -> None:
    now = time.time_ns()
    for back in (3, 2, 1, 2):
        at = now - back * SECOND
        message = histograms((LABELS, [1, 0, 0], 0.5), start=at - SECOND, at=at, temporality=1)
        assert await sent(client, message) == ""
        assert await sent(client, message) == ""
    assert len(await rows(database)) == 3


async def test_processes_count_apart_and_milliseconds_are_read(
    client: httpx.AsyncClient, database: Database
) -> None:
    now = time.time_ns()
    for instance in ("a", "b"):
        message = histograms((LABELS, [1, 0, 0], 0.5), start=now - SECOND, at=now, unit="ms")
        resource = message.resource_metrics[0].resource
        resource.attributes.add(key="service.instance.id").value.string_value = instance
        assert await sent(client, message) == ""
    assert [row["latency_ms"] for row in await rows(database)] == [0.5, 0.5]


async def test_a_version_among_the_labels_is_the_calls(client: httpx.AsyncClient, database: Database) -> None:
    now = time.time_ns()
    labels = LABELS | {"llm_optimizer.config_version": "chat@2", "llm_optimizer.endpoint": "/answer"}
    assert await sent(client, histograms((labels, [1, 0, 0], 0.5), start=now - SECOND, at=now)) == ""
    (row,) = await rows(database)
    assert (row["config_version"], row["endpoint"]) == ("chat@2", "/answer")


async def test_of_a_service_that_sends_spans_no_points_are_counted(
    client: httpx.AsyncClient, database: Database
) -> None:
    exported(await export(client, request(span())))
    now = time.time_ns()
    assert await sent(client, histograms((LABELS, [5, 0, 0], 2.5), start=now - SECOND, at=now)) == ""
    assert len(await rows(database)) == 1
    # Once it has sent none for long, what its series had counted until then is not counted again.
    pool = await database.pool()
    await pool.execute("UPDATE span_services SET last_at = now() - interval '2 days'")
    message = histograms((LABELS, [6, 0, 0], 3.0), start=now - SECOND, at=now + SECOND)
    assert await sent(client, message) == ""
    assert len(await rows(database)) == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"service": None}, "service.name"),
        ({"unit": "min"}, "the unit"),
        ({"buckets": [1, 2]}, "buckets"),
        ({"count": 9}, "buckets"),
        ({"bounds": [10, 1]}, "ascend"),
        ({"bounds": [float("nan"), 1]}, "ascend"),
        ({"bounds": [1, float("inf")]}, "out of range"),
        ({"sum": float("nan")}, "sum"),
        ({"sum": -1.0}, "sum"),
        ({"sum": 1e300}, "sum"),
        ({"at": 0}, "time"),
        ({"at": 2**64 - 1}, "time"),
        ({"model": None}, "model"),
        ({"sum": 1e12}, "latencyMs"),
    ],
)
async def test_points_that_cannot_be_meant_are_rejected(
    client: httpx.AsyncClient, database: Database, change: dict[str, Any], reason: str
) -> None:
    now = time.time_ns()
    labels = LABELS | ({"gen_ai.response.model": None} if "model" in change else {})
    named = {name: change[name] for name in ("service", "unit") if name in change}
    message = histograms((labels, [0, 0, 2], 50.0), start=now - SECOND, at=now, **named)
    (point,) = message.resource_metrics[0].scope_metrics[0].metrics[0].histogram.data_points
    point.sum = change.get("sum", point.sum)
    point.count = change.get("count", point.count)
    point.time_unix_nano = change.get("at", point.time_unix_nano)
    if "bounds" in change:
        point.explicit_bounds[:] = change["bounds"]
    if "buckets" in change:
        point.bucket_counts[:] = change["buckets"]
    answer = taken(await export(client, message, METRICS))
    assert answer.partial_success.rejected_data_points == 1
    assert reason in answer.partial_success.error_message
    assert await rows(database) == []


async def test_metrics_that_are_no_histograms_are_rejected_and_others_passed_over(
    client: httpx.AsyncClient, database: Database
) -> None:
    message = ExportMetricsServiceRequest()
    resource = message.resource_metrics.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "chat"
    metrics = resource.scope_metrics.add().metrics
    exponential = metrics.add(name="gen_ai.client.operation.duration", unit="s").exponential_histogram
    exponential.data_points.add(count=1)
    exponential.data_points.add(count=1)
    metrics.add(name="gen_ai.client.token.usage")
    metrics.add(name="http.server.duration", unit="s").gauge.data_points.add(as_double=1)
    answer = taken(await export(client, message, METRICS))
    assert answer.partial_success.rejected_data_points == 2
    assert "explicit buckets" in answer.partial_success.error_message
    assert await rows(database) == []


async def test_too_many_calls_at_once_are_rejected_and_the_series_goes_on(
    client: httpx.AsyncClient, database: Database
) -> None:
    now = time.time_ns()
    many = MAX_ITEMS + 1
    message = histograms((LABELS, [many, 0, 0], 0.5 * many), start=now - SECOND, at=now)
    assert "too many" in await sent(client, message)
    message = histograms((LABELS, [many + 2, 0, 0], 0.5 * many + 1), start=now - SECOND, at=now + SECOND)
    assert await sent(client, message) == ""
    assert len(await rows(database)) == 2
