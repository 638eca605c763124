"""track_request: what it measures, what it fills in, and that it never breaks its caller."""

from __future__ import annotations

import gc
import logging
import time
from typing import Any

import pytest

from llm_auto_optimizer import OptimizerClient, RequestTracker

from .conftest import Answer, Peer, Seen, config_answer, error_answer


def serve(seen: Seen) -> Answer:
    if seen.method == "POST":
        return Answer({"accepted": len(seen.body["metrics"]), "rejected": 0})
    return config_answer()


@pytest.fixture(autouse=True)
def serving(peer: Peer) -> None:
    peer.standing = serve


def reported(peer: Peer, client: OptimizerClient) -> list[dict[str, Any]]:
    assert client.flush(20)
    return [metric for seen in peer.seen if seen.method == "POST" for metric in seen.body["metrics"]]


def test_a_call_is_reported_whole(peer: Peer, client: OptimizerClient) -> None:
    client.get_config("chat")
    before = time.time() * 1000
    with client.track_request(service="chat", endpoint="/api/chat") as tracker:
        tracker.set_tokens(input=150, output=500)
        tracker.set_cost(0.0325)
        tracker.set_request_id("req-1")
        tracker.set_tag("team", "a")
        tracker.set_retries(1)
    (metric,) = reported(peer, client)
    latency, timestamp = metric.pop("latencyMs"), metric.pop("timestamp")
    assert 0 < latency < 20_000
    assert before - 1 <= timestamp <= time.time() * 1000
    assert metric == {
        "service": "chat",
        "endpoint": "/api/chat",
        "provider": "openai",
        "model": "gpt-4-1106-preview",
        "tokensInput": 150,
        "tokensOutput": 500,
        "tokensTotal": 650,
        "costUsd": 0.0325,
        "statusCode": 200,
        "retryCount": 1,
        "tags": {"configVersion": "chat@1", "requestId": "req-1", "team": "a"},
    }


def test_the_trackers_own_configuration(peer: Peer, client: OptimizerClient) -> None:
    with client.track_request(service="chat", endpoint="/", unit="user-1") as tracker:
        assert tracker.config.version == "chat@1"
        tracker.set_tokens(input=1, output=1)
    (metric,) = reported(peer, client)
    assert metric["tags"] == {"configVersion": "chat@1"}
    assert "costUsd" not in metric


def test_an_exception_is_reported_and_raised(peer: Peer, client: OptimizerClient) -> None:
    client.get_config("chat")

    def call(tracker: RequestTracker) -> None:
        tracker.set_tokens(input=9, output=0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), client.track_request(service="chat", endpoint="/") as tracker:
        call(tracker)
    (metric,) = reported(peer, client)
    assert (metric["statusCode"], metric["errorType"], metric["tokensTotal"]) == (500, "ZeroDivisionError", 9)


def test_an_exceptions_own_status_is_reported(peer: Peer, client: OptimizerClient) -> None:
    class RateLimitError(Exception):
        status_code = 429

    client.get_config("chat")
    with pytest.raises(RateLimitError), client.track_request(service="chat", endpoint="/"):
        raise RateLimitError
    (metric,) = reported(peer, client)
    assert (metric["statusCode"], metric["errorType"], metric["tokensTotal"]) == (429, "RateLimitError", 0)


def test_an_interrupted_call_is_not_reported(peer: Peer, client: OptimizerClient) -> None:
    client.get_config("chat")
    with pytest.raises(KeyboardInterrupt), client.track_request(service="chat", endpoint="/"):
        raise KeyboardInterrupt
    assert reported(peer, client) == []


def test_an_error_without_an_exception(peer: Peer, client: OptimizerClient) -> None:
    with client.track_request(service="chat", endpoint="/") as tracker:
        tracker.set_model(provider="google", model="gemini")
        tracker.set_error("content_filter", status_code=400)
    (metric,) = reported(peer, client)
    assert (metric["provider"], metric["model"], metric["tags"]) == ("google", "gemini", {})
    assert (metric["statusCode"], metric["errorType"]) == (400, "content_filter")


@pytest.mark.parametrize(("tokens", "missing"), [(True, "model"), (False, "tokensTotal")])
def test_what_is_not_known_is_not_made_up(
    tokens: bool, missing: str, peer: Peer, client: OptimizerClient, caplog: pytest.LogCaptureFixture
) -> None:
    if not tokens:
        client.get_config("chat")
    with caplog.at_level(logging.WARNING), client.track_request(service="chat", endpoint="/") as tracker:
        if tokens:
            tracker.set_tokens(input=1, output=1)
    assert reported(peer, client) == []
    assert client.dropped_reports == 1
    assert missing in caplog.text


def test_a_value_that_json_has_not_breaks_nothing(peer: Peer, client: OptimizerClient) -> None:
    client.get_config("chat")
    for cost in (float("nan"), 0.5):
        with client.track_request(service="chat", endpoint="/") as tracker:
            tracker.set_tokens(input=1, output=1)
            tracker.set_cost(cost)
    assert [metric["costUsd"] for metric in reported(peer, client)] == [0.5]
    assert client.dropped_reports == 1


def test_a_server_that_hangs_holds_no_caller_up(peer: Peer) -> None:
    with OptimizerClient(endpoint=peer.url, poll_interval=3600) as client:
        client.get_config("chat")
        peer.standing = Answer(hang=True)
        for _ in range(100):
            with client.track_request(service="chat", endpoint="/") as tracker:
                tracker.set_tokens(input=1, output=1)
        peer.wait_for(2)
        assert client.flush(0.01) is False
        peer.standing = serve
        peer.released.set()
        assert client.flush(60)
        assert client.dropped_reports == 0


def test_a_batch_that_failed_is_sent_again_under_its_key(peer: Peer) -> None:
    with OptimizerClient(endpoint=peer.url, retries=0) as client:
        client.get_config("chat")
        away = error_answer("DATABASE_ERROR", 503, retryable=True)
        peer.queued.extend([away, Answer(cut=True), Answer(b"<html>"), Answer({})])
        with client.track_request(service="chat", endpoint="/") as tracker:
            tracker.set_tokens(input=1, output=1)
        assert client.flush(20)
    posts = [seen for seen in peer.seen if seen.method == "POST"]
    assert len(posts) == 5
    assert len({seen.headers["idempotency-key"] for seen in posts}) == 1
    assert posts[0].body == posts[-1].body
    assert client.dropped_reports == 0


def test_what_the_server_refuses_is_counted(peer: Peer, client: OptimizerClient) -> None:
    client.get_config("chat")
    refused = {"accepted": 0, "rejected": 1, "errors": [{"index": 0, "reason": "no"}]}
    for answer in (Answer(refused), error_answer("FORBIDDEN", 403)):
        peer.queued.append(answer)
        with client.track_request(service="chat", endpoint="/") as tracker:
            tracker.set_tokens(input=1, output=1)
        assert client.flush(20)
    assert client.dropped_reports == 2


def test_past_the_bound_the_oldest_give_way(peer: Peer) -> None:
    with OptimizerClient(endpoint=peer.url, queue_size=10, poll_interval=3600) as client:
        client.get_config("chat")
        peer.queued.append(Answer(hang=True))
        for n in range(25):
            with client.track_request(service="chat", endpoint="/") as tracker:
                tracker.set_tokens(input=n, output=0)
        peer.released.set()
        assert client.flush(20)
        kept = [m["tokensInput"] for seen in peer.seen if seen.method == "POST" for m in seen.body["metrics"]]
        assert set(kept) >= set(range(15, 25))
        assert client.dropped_reports == 25 - len(set(kept))


def test_closing_reports_what_waits_and_takes_no_more(peer: Peer) -> None:
    client = OptimizerClient(endpoint=peer.url)
    config = client.get_config("chat")
    with client.track_request(service="chat", endpoint="/") as tracker:
        tracker.set_tokens(input=1, output=1)
    client.close()
    assert sum(seen.method == "POST" for seen in peer.seen) == 1
    with client.track_request(service="chat", endpoint="/") as tracker:
        tracker.set_config(config)
        tracker.set_tokens(input=1, output=1)
    assert client.dropped_reports == 1
    client.close()


def test_a_forgotten_client_reports_what_waits(peer: Peer) -> None:
    client = OptimizerClient(endpoint=peer.url)
    client.get_config("chat")
    with client.track_request(service="chat", endpoint="/") as tracker:
        tracker.set_tokens(input=1, output=1)
    del client, tracker
    gc.collect()
    peer.wait_for(2)
    assert peer.seen[-1].method == "POST"
