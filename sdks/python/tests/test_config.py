"""What get_config hands out: from memory, by unit and share, never an unwatched canary."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from llm_auto_optimizer import (
    Config,
    NoAnswerError,
    NotFoundError,
    OptimizerClient,
    UnexpectedAnswerError,
)

from .conftest import CANARY_CONFIG, CONFIG, Answer, Peer, Seen, config_answer, error_answer


def rollout(percent: float, *, watched_for: float = 60.0, skew: float = 0.0) -> dict[str, Any]:
    """A rollout whose lease has `watched_for` seconds left by a server whose clock is `skew` s off."""
    return {
        "deploymentId": "dep-1",
        "trafficPercent": percent,
        "watchedUntil": int((time.time() + skew + watched_for) * 1000),
        "control": {"version": "chat@1", "config": CONFIG},
        "canary": {"version": "chat@2", "config": CANARY_CONFIG},
    }


def share_of_canary(client: OptimizerClient, calls: int = 1_000) -> float:
    return sum(client.get_config(service="chat").is_canary for _ in range(calls)) / calls


def test_a_configuration_has_its_fields_by_name(peer: Peer, client: OptimizerClient) -> None:
    full = {**CONFIG, "topK": 40, "stopSequences": ["\n"], "parameters": {"seed": 1}, "modelVersion": "v"}
    peer.standing = Answer({"version": "global@3", "config": {**full, "newField": 1}, "appliedAt": 1})
    config = client.get_config()
    assert (config.version, config.model, config.top_p, config.max_tokens) == (
        "global@3",
        "gpt-4-1106-preview",
        1.0,
        1024,
    )
    assert (config.stop_sequences, config.top_k, config.parameters) == (("\n",), 40, {"seed": 1})
    assert config.to_dict() == full


def test_absent_fields_stay_absent(peer: Peer, client: OptimizerClient) -> None:
    peer.standing = config_answer()
    assert client.get_config("chat").to_dict() == CONFIG


def test_where_it_asks(peer: Peer, client: OptimizerClient) -> None:
    peer.standing = config_answer()
    client.get_config()
    client.get_config("chat")
    client.get_config("chat", "/api/chat", unit="user-1")
    assert [seen.path for seen in peer.seen] == [
        "/api/v1/config/current",
        "/api/v1/config/service/chat",
        "/api/v1/config/service/chat",
    ]
    assert peer.seen[2].query["endpoint"] == ["/api/chat"]
    assert peer.seen[0].headers["authorization"] == "Bearer key-1"
    units = {tuple(seen.query["unit"]) for seen in peer.seen}
    assert len(units) == 1
    assert units != {("user-1",)}


def test_a_service_name_is_one_path_segment(peer: Peer, client: OptimizerClient) -> None:
    peer.standing = config_answer()
    client.get_config("../admin?x=1")
    assert [seen.path for seen in peer.seen] == ["/api/v1/config/service/..%2Fadmin%3Fx%3D1"]


def test_calls_in_between_cost_no_request(peer: Peer) -> None:
    peer.standing = config_answer()
    with OptimizerClient(endpoint=peer.url, poll_interval=3600) as client:
        for _ in range(1_000):
            client.get_config("chat")
    assert len(peer.seen) == 1


def test_a_change_arrives_and_an_unchanged_answer_is_304(peer: Peer) -> None:
    def answer(seen: Seen) -> Answer:
        current = etag[0]
        unchanged = seen.headers.get("if-none-match") == current
        return Answer(status=304) if unchanged else config_answer(version=f"chat@{current}", etag=current)

    etag = ["1"]
    peer.standing = answer
    with OptimizerClient(endpoint=peer.url, poll_interval=0.01) as client:
        assert client.get_config("chat").version == "chat@1"
        while len(peer.seen) < 3:
            assert client.get_config("chat").version == "chat@1"
        etag[0] = "2"
        while client.get_config("chat").version == "chat@1":
            pass
        assert client.get_config("chat").version == "chat@2"
    assert [seen.headers.get("if-none-match") for seen in peer.seen[:3]] == [None, "1", "1"]


def test_no_call_waits_for_a_refresh(peer: Peer) -> None:
    peer.queued.append(config_answer())
    peer.standing = Answer(hang=True)
    with OptimizerClient(endpoint=peer.url, poll_interval=0.3, timeout=60) as client:
        client.get_config("chat")
        while len(peer.seen) < 2:
            assert client.get_config("chat").version == "chat@1"
        assert client.get_config("chat").version == "chat@1"
        peer.released.set()
    assert len(peer.seen) == 2


def test_the_last_answer_holds_while_the_server_is_away(peer: Peer) -> None:
    peer.queued.append(config_answer())
    peer.standing = error_answer("DATABASE_ERROR", 503, retryable=True)
    with OptimizerClient(endpoint=peer.url, poll_interval=0.001) as client:
        while len(peer.seen) < 4:
            assert client.get_config("chat").version == "chat@1"
    refreshes = [seen for seen in peer.seen if seen.path.endswith("/chat")]
    assert len(refreshes) == len(peer.seen)


def test_after_a_long_idle_time_too_no_call_waits(peer: Peer) -> None:
    peer.queued.append(config_answer("chat@1"))
    peer.standing = Answer(hang=True)
    with OptimizerClient(endpoint=peer.url, poll_interval=0.001, timeout=60) as client:
        client.get_config("chat")
        time.sleep(0.05)
        assert client.get_config("chat").version == "chat@1"
        peer.released.set()


def test_the_first_call_fails_if_there_is_no_answer(peer: Peer) -> None:
    peer.standing = Answer(cut=True)
    with OptimizerClient(endpoint=peer.url, retries=0) as client, pytest.raises(NoAnswerError):
        client.get_config("chat")


def test_nothing_is_remembered_of_a_failure(peer: Peer, client: OptimizerClient) -> None:
    peer.queued.append(error_answer("NOT_FOUND", 404))
    peer.standing = config_answer()
    with pytest.raises(NotFoundError):
        client.get_config("chat")
    assert client.get_config("chat").version == "chat@1"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"version": "chat@1", "config": None},
        {"version": "chat@1", "config": {"model": "m"}},
        {"version": "chat@1", "config": CONFIG, "rollout": {"deploymentId": "d"}},
        {"version": "chat@1", "config": CONFIG, "rollout": []},
    ],
)
def test_an_answer_of_another_shape(body: Any, peer: Peer, client: OptimizerClient) -> None:
    peer.standing = Answer(body)
    with pytest.raises(UnexpectedAnswerError):
        client.get_config("chat")


def test_a_unit_keeps_its_arm(peer: Peer) -> None:
    peer.standing = config_answer(rollout=rollout(50))
    with OptimizerClient(endpoint=peer.url, poll_interval=3600) as client:
        arms = {unit: client.get_config("chat", unit=unit) for unit in ("user-1", "user-2", "user-3", "x")}
        for _ in range(20):
            for unit, config in arms.items():
                assert client.get_config("chat", unit=unit) == config
        assert Counter(config.version for config in arms.values()).keys() == {"chat@1", "chat@2"}
        canary = next(config for config in arms.values() if config.is_canary)
        assert (canary.version, canary.model, canary.deployment_id) == (
            "chat@2",
            CANARY_CONFIG["model"],
            "dep-1",
        )
    assert len(peer.seen) == 1


def test_without_a_unit_calls_are_drawn_by_the_share(peer: Peer) -> None:
    peer.standing = config_answer(rollout=rollout(25))
    with OptimizerClient(endpoint=peer.url, poll_interval=3600) as client:
        assert 0.18 < share_of_canary(client) < 0.32


@pytest.mark.parametrize("skew", [-7200.0, 0.0, 7200.0])
def test_a_lapsed_canary_is_not_served_whatever_the_local_clock_says(skew: float, peer: Peer) -> None:
    def date(seconds: float) -> dict[str, str]:
        return {"Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds))}

    watched = config_answer(rollout=rollout(100, watched_for=60, skew=skew))
    lapsed = config_answer(rollout=rollout(100, watched_for=-5, skew=skew))
    for answer, share in ((watched, 1.0), (lapsed, 0.0)):
        answer.headers.update(date(time.time() + skew))
        peer.standing = answer
        with OptimizerClient(endpoint=peer.url, poll_interval=3600) as client:
            assert share_of_canary(client, 100) == share


def test_the_canary_ends_by_itself_when_its_watch_lapses(peer: Peer) -> None:
    peer.queued.append(config_answer(rollout=rollout(100, watched_for=1.5)))
    peer.standing = Answer(cut=True)
    with OptimizerClient(endpoint=peer.url, poll_interval=0.05) as client:
        assert client.get_config("chat").version == "chat@2"
        while client.get_config("chat").version == "chat@2":
            pass
        assert share_of_canary(client, 100) == 0.0


def test_many_threads_share_one_client(peer: Peer) -> None:
    peer.standing = config_answer(rollout=rollout(50))
    with OptimizerClient(endpoint=peer.url, poll_interval=0.01) as client:
        start = threading.Barrier(8)

        def work(unit: str) -> set[str | None]:
            start.wait()
            return {client.get_config("chat", unit=unit).version for _ in range(500)}

        with ThreadPoolExecutor(8) as pool:
            versions = list(pool.map(work, [f"user-{n}" for n in range(8)]))
    assert all(len(seen) == 1 for seen in versions)


def test_a_configuration_can_be_sent_back(peer: Peer, client: OptimizerClient) -> None:
    peer.standing = Answer({"success": True, "validationResult": {"isValid": True, "violations": []}})
    config = Config.from_answer({"version": "chat@1", "config": CONFIG})
    client.update_config(config, reason="as it was", service="chat", deployment_strategy="immediate")
    assert peer.seen[0].body == {
        "config": CONFIG,
        "reason": "as it was",
        "service": "chat",
        "deploymentStrategy": "immediate",
    }
