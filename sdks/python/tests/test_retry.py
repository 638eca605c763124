"""What is tried again, how often, after how long, and under which key."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest

from llm_auto_optimizer import (
    ConflictError,
    NoAnswerError,
    OptimizerClient,
    OptimizerError,
    ServiceUnavailableError,
    UnexpectedAnswerError,
)
from llm_auto_optimizer._retry import RetryPolicy, parse_retry_after

from .conftest import Answer, Peer, error_answer

TAKEN = Answer({"accepted": 1, "rejected": 0})
METRIC: dict[str, Any] = {"service": "chat", "model": "m"}


def test_a_post_keeps_its_idempotency_key_over_all_tries(peer: Peer, client: OptimizerClient) -> None:
    peer.queued.extend([error_answer("DATABASE_ERROR", 503, retryable=True), Answer(cut=True), TAKEN, TAKEN])
    assert client.report_metrics(METRIC) == {"accepted": 1, "rejected": 0}
    client.report_metrics(METRIC)
    keys = [seen.headers["idempotency-key"] for seen in peer.seen]
    assert len(keys) == 4
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert peer.seen[0].body == peer.seen[2].body == {"metrics": [METRIC]}


def test_what_is_not_retryable_is_tried_once(peer: Peer, client: OptimizerClient) -> None:
    peer.standing = error_answer("CONFLICT", 409)
    with pytest.raises(ConflictError):
        client.trigger_optimization(services=["chat"])
    assert len(peer.seen) == 1


def test_the_server_decides_what_is_retryable_not_the_status(peer: Peer, client: OptimizerClient) -> None:
    peer.standing = error_answer("SERVICE_UNAVAILABLE", 503, retryable=False)
    with pytest.raises(ServiceUnavailableError):
        client.get_health()
    assert len(peer.seen) == 1


def test_retries_end_with_the_last_error(peer: Peer) -> None:
    peer.standing = error_answer("TIMEOUT", 504, retryable=True)
    with OptimizerClient(endpoint=peer.url, retries=2) as client, pytest.raises(OptimizerError):
        client.get_health()
    assert len(peer.seen) == 3


def test_a_gateways_page_is_retryable(peer: Peer, client: OptimizerClient) -> None:
    peer.queued.extend([Answer(b"<html>", 502), Answer({"status": "healthy"})])
    assert client.get_health()["status"] == "healthy"


def test_a_page_with_a_lasting_fault_is_not(peer: Peer, client: OptimizerClient) -> None:
    peer.standing = Answer(b"<html>", 404)
    with pytest.raises(UnexpectedAnswerError):
        client.get_health()
    assert len(peer.seen) == 1


def test_a_server_that_hangs_is_given_up(peer: Peer) -> None:
    peer.standing = Answer(hang=True)
    with OptimizerClient(endpoint=peer.url, timeout=0.2, retries=1) as client:
        with pytest.raises(NoAnswerError):
            client.get_health()
        peer.released.set()
    assert len(peer.seen) == 2


def test_retry_after_is_waited_out(peer: Peer, client: OptimizerClient) -> None:
    unavailable = error_answer("SERVICE_UNAVAILABLE", 503, retryable=True, Retry_After="1")
    peer.queued.extend([unavailable, Answer({"status": "healthy"})])
    started = time.monotonic()
    client.get_health()
    assert time.monotonic() - started >= 1.0


def test_a_long_retry_after_is_the_callers_to_wait(peer: Peer, client: OptimizerClient) -> None:
    peer.standing = error_answer("RATE_LIMITED", 429, retryable=True, Retry_After="3600")
    with pytest.raises(OptimizerError) as raised:
        client.get_health()
    assert raised.value.retry_after == 3600
    assert len(peer.seen) == 1


def test_delays_double_with_jitter_up_to_the_limit() -> None:
    policy = RetryPolicy(max_retries=9, initial_delay=0.2, max_delay=8.0)
    error = NoAnswerError("", retryable=True)
    for attempt, full in enumerate([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 8.0, 8.0, 8.0]):
        delays = [policy.delay(attempt, error) or 0.0 for _ in range(200)]
        assert full / 2 <= min(delays) < max(delays) <= full
    assert policy.delay(9, error) is None


def test_retry_after_as_seconds_as_a_date_and_as_nonsense() -> None:
    assert parse_retry_after("7") == 7.0
    later = parse_retry_after(formatdate(time.time() + 100, usegmt=True))
    assert later is not None
    assert 90 < later <= 100
    assert parse_retry_after(formatdate(time.time() - 100, usegmt=True)) == 0.0
    assert parse_retry_after("soon") is None
    assert parse_retry_after(None) is None
