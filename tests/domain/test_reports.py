"""Batches of reports: every field wrong in every way is named, and the good items are kept."""

import json
import re
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidRequest
from domain.label_limits import LabelLimits
from domain.reports import (
    EARLIEST_MS,
    MAX_AHEAD_MS,
    MAX_ITEMS,
    BatchTooLarge,
    Rejection,
    parse_metrics,
    parse_quality,
    storable,
)

NOW = 1_760_000_000_000
METRIC = {
    "timestamp": NOW,
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
}
EVALUATION = {
    "timestamp": NOW,
    "service": "chat-service",
    "requestId": "req-123",
    "overallScore": 92,
    "dimensionScores": {"accuracy": 95, "relevance": 90},
    "evaluationMethod": "llm-as-judge",
}
REQUIRED = [name for name in METRIC if name != "costUsd"]
NAN, INF = float("nan"), float("inf")
HUGE = 10**30

BAD_METRICS: list[tuple[str, object]] = [
    *product(REQUIRED, (None, [], {}, True)),
    *((field, "1") for field in REQUIRED if field not in ("service", "endpoint", "model", "provider")),
    *((field, bad) for field in ("endpoint", "model", "provider") for bad in ("", "x" * 257, 7, "a\0b")),
    *((field, "lone \ud800") for field in ("endpoint", "model", "provider", "errorType")),
    *((field, bad) for field in ("tokensInput", "tokensOutput", "tokensTotal") for bad in (-1, 1.5, HUGE)),
    *((field, bad) for field in ("latencyMs", "costUsd") for bad in (-0.1, NAN, INF, -INF, HUGE, "1")),
    *(("timestamp", bad) for bad in (EARLIEST_MS - 1, NOW + MAX_AHEAD_MS + 1, 1699564800, NOW + 0.5, NAN)),
    *(("service", bad) for bad in ("", "global", "a b", "-a", "x" * 129, "a\n", "a:b", "ä", 1)),
    *(("statusCode", bad) for bad in (99, 600, 200.5)),
    *(("errorType", bad) for bad in ("", 1, "x\0")),
    *(("retryCount", bad) for bad in (-1, 1.5, HUGE, "1")),
    *product(["tags"], ([], {"a": 1}, {"a": None}, {"": "x"}, {"a": "\0"}, {"a\0": "x"}, "x")),
    ("tags", {str(number): "" for number in range(65)}),
    ("tags", {"a": "x" * 513}),
]
BAD_EVALUATIONS: list[tuple[str, object]] = [
    *product(["timestamp", "service", "overallScore"], (None, [], True)),
    *(("overallScore", bad) for bad in (-1, 100.5, NAN, INF, "92")),
    *product(["dimensionScores"], ({"a": 101}, {"a": "x"}, {"a": NAN}, {"": 1}, {"a\0": 1}, [])),
    *(("requestId", bad) for bad in ("", 1, "x" * 257, "a\0")),
    *(("configVersion", bad) for bad in ("", 1, "x" * 513)),
    ("evaluationMethod", ""),
    ("service", "global"),
    ("timestamp", NOW + MAX_AHEAD_MS + 1),
]


def batch(field: str, *items: Any) -> bytes:
    return json.dumps({field: list(items)}).encode()


@pytest.mark.parametrize(("field", "value"), BAD_METRICS)
def test_a_bad_field_of_a_metric_is_named_and_the_others_are_kept(field: str, value: Any) -> None:
    parsed = parse_metrics(batch("metrics", METRIC, METRIC | {field: value}, METRIC), NOW, LabelLimits())
    assert [rejection.index for rejection in parsed.rejected] == [1]
    assert parsed.rejected[0].reason.startswith(field)
    assert len(parsed.accepted) == 2


@pytest.mark.parametrize(("field", "value"), BAD_EVALUATIONS)
def test_a_bad_field_of_an_evaluation_is_named_and_the_others_are_kept(field: str, value: Any) -> None:
    parsed = parse_quality(batch("evaluations", EVALUATION | {field: value}, EVALUATION), NOW, LabelLimits())
    assert [rejection.index for rejection in parsed.rejected] == [0]
    assert parsed.rejected[0].reason.startswith(field)
    assert len(parsed.accepted) == 1


@pytest.mark.parametrize("field", REQUIRED)
def test_a_missing_field_is_named(field: str) -> None:
    item = {name: value for name, value in METRIC.items() if name != field}
    parsed = parse_metrics(batch("metrics", item), NOW, LabelLimits())
    assert parsed.rejected == [Rejection(0, f"object missing required field `{field}`")]


@pytest.mark.parametrize("name", ["latency_ms", "cost", "x\0", "\ud800"])
def test_an_unknown_field_is_refused(name: str) -> None:
    parsed = parse_metrics(batch("metrics", METRIC | {name: 1}), NOW, LabelLimits())
    assert re.search("unknown field|name of a field", parsed.rejected[0].reason)
    assert storable(parsed.rejected[0].reason)


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": EARLIEST_MS},
        {"timestamp": NOW + MAX_AHEAD_MS},
        {"costUsd": None},
        {"costUsd": 0, "latencyMs": 0, "tokensInput": 0, "tokensTotal": 0},
        {"latencyMs": 12.25, "statusCode": 599, "errorType": "overloaded", "retryCount": 2},
        {"tags": {"configVersion": "chat-service:/api@12", "requestId": "req-1", "anything": "日本"}},
        {"model": "\\u0000 written out"},
    ],
)
def test_what_is_allowed_is_accepted(change: dict[str, Any]) -> None:
    parsed = parse_metrics(batch("metrics", METRIC | change), NOW, LabelLimits())
    assert parsed.rejected == []
    assert parsed.accepted[0].timestamp == (METRIC | change)["timestamp"]


def test_version_and_request_are_read_from_the_tags() -> None:
    tags = {"configVersion": "chat-service@3", "requestId": "req-1"}
    report = parse_metrics(batch("metrics", METRIC | {"tags": tags}, METRIC), NOW, LabelLimits()).accepted
    assert (report[0].config_version, report[0].request_id) == ("chat-service@3", "req-1")
    assert (report[1].config_version, report[1].request_id) == (None, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"null",
        b'{"metrics": {}}',
        b'{"metrics": null}',
        b'{"metrics": [], "service": "x"}',
        b'{"evaluations": []}',
        b'{"metrics": ["\xff"]}',
        b'{"metrics": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_batch_at_all_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_metrics(body, NOW, LabelLimits())


def test_an_empty_batch_is_a_batch() -> None:
    assert parse_metrics(b'{"metrics": []}', NOW, LabelLimits()).accepted == []


def test_the_number_of_items_is_bounded() -> None:
    with pytest.raises(BatchTooLarge, match=r"at most 10,000 items, not 100,000"):
        parse_metrics(batch("metrics", *[1] * 100_000), NOW, LabelLimits())
    assert (
        len(parse_metrics(batch("metrics", *[METRIC] * MAX_ITEMS), NOW, LabelLimits()).accepted) == MAX_ITEMS
    )
    with pytest.raises(BatchTooLarge):
        parse_metrics(batch("metrics", *[METRIC] * (MAX_ITEMS + 1)), NOW, LabelLimits())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.sampled_from([*METRIC, "tags", "errorType", "other"]), min_size=1, max_size=3), JSON)
def test_any_value_at_any_place_spares_the_other_items(fields: list[str], value: Any) -> None:
    odd = METRIC | dict.fromkeys(fields, value)
    parsed = parse_metrics(batch("metrics", METRIC, odd, METRIC, value), NOW, LabelLimits())
    assert len(parsed.accepted) + len(parsed.rejected) == 4
    assert {rejection.index for rejection in parsed.rejected} <= {1, 3}
    assert 3 in {rejection.index for rejection in parsed.rejected}
    for rejection in parsed.rejected:
        assert storable(rejection.reason)
