"""Reports as they travel: completed with the version that served the call, and nothing else changed."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from llm_auto_optimizer import OptimizerClient

from .conftest import Answer, Peer, Seen, config_answer

METRIC: dict[str, Any] = {"timestamp": 1, "service": "chat", "endpoint": "/api/chat", "model": "m"}


def serve(seen: Seen) -> Answer:
    if seen.method == "POST":
        items = seen.body.get("metrics") or seen.body.get("evaluations")
        return Answer({"accepted": len(items), "rejected": 0})
    service = seen.path.rpartition("/")[2]
    return config_answer(f"{'global' if service == 'current' else service}@1")


@pytest.fixture(autouse=True)
def serving(peer: Peer) -> None:
    peer.standing = serve


def posted(peer: Peer) -> list[dict[str, Any]]:
    return [seen.body for seen in peer.seen if seen.method == "POST"]


def version_of(client: OptimizerClient, peer: Peer, service: str = "chat") -> Any:
    client.report_metrics({**METRIC, "service": service})
    return posted(peer)[-1]["metrics"][0].get("tags", {}).get("configVersion")


def test_a_report_is_sent_as_it_is(peer: Peer, client: OptimizerClient) -> None:
    result = client.report_metrics_batch([METRIC, {**METRIC, "tags": {"team": "é"}}])
    assert result == {"accepted": 2, "rejected": 0}
    assert posted(peer) == [{"metrics": [METRIC, {**METRIC, "tags": {"team": "é"}}]}]
    assert peer.seen[0].path == "/api/v1/metrics"


def test_a_report_carries_the_version_last_handed_out(peer: Peer, client: OptimizerClient) -> None:
    assert version_of(client, peer) is None
    client.get_config()
    assert version_of(client, peer) == "global@1"
    client.get_config("chat")
    assert version_of(client, peer) == "chat@1"
    assert version_of(client, peer, "search") == "global@1"


def test_the_callers_own_version_stands(peer: Peer, client: OptimizerClient) -> None:
    client.get_config("chat")
    metric = {**METRIC, "tags": {"configVersion": "chat@9", "team": "a"}}
    client.report_metrics(metric)
    assert posted(peer)[-1]["metrics"] == [metric]


def test_the_callers_report_is_not_changed(client: OptimizerClient) -> None:
    client.get_config("chat")
    metric = {**METRIC, "tags": {"team": "a"}}
    client.report_metrics(metric)
    assert metric == {**METRIC, "tags": {"team": "a"}}


def test_threads_do_not_see_each_others_versions(peer: Peer, client: OptimizerClient) -> None:
    client.get_config("chat")
    thread = threading.Thread(target=lambda: version_of(client, peer))
    thread.start()
    thread.join()
    assert "tags" not in posted(peer)[-1]["metrics"][0]


async def test_tasks_do_not_see_each_others_versions(peer: Peer, client: OptimizerClient) -> None:
    both = asyncio.Barrier(2)

    async def call(service: str) -> Any:
        client.get_config(service)
        await both.wait()
        return version_of(client, peer, service), version_of(client, peer, "other")

    assert await asyncio.gather(call("chat"), call("search")) == [("chat@1", None), ("search@1", None)]


def test_quality_names_a_version_only_where_no_request_is_named(peer: Peer, client: OptimizerClient) -> None:
    client.get_config("chat")
    by_version = {"timestamp": 1, "service": "chat", "overallScore": 92, "evaluationMethod": "judge"}
    by_request = {**by_version, "requestId": "req-1", "dimensionScores": {"accuracy": 95}}
    client.report_quality(by_request)
    client.report_quality_batch([by_version])
    assert posted(peer) == [
        {"evaluations": [by_request]},
        {"evaluations": [{**by_version, "configVersion": "chat@1"}]},
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_has_not_are_refused_before_they_are_sent(
    value: float, peer: Peer, client: OptimizerClient
) -> None:
    with pytest.raises(ValueError, match="JSON"):
        client.report_metrics({**METRIC, "costUsd": value})
    assert peer.seen == []
