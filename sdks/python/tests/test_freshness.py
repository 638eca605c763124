"""How configurations stay fresh, and what holds where the server does not answer."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from llm_auto_optimizer import Config, NoAnswerError, NotFoundError, OptimizerClient, OptimizerError
from llm_auto_optimizer._config import ScopeKey
from llm_auto_optimizer._config_store import ConfigStore

from .conftest import CANARY_CONFIG, CONFIG, Answer, Peer, config_answer, error_answer
from .test_config import rollout

GARBAGE = Answer(b"<html>proxy</html>", headers={"Content-Type": "text/html"})
TOO_DEEP = Answer(b"[" * 100_000)
TOO_LARGE = config_answer(rollout={**rollout(50), "trafficPercent": 10**400})


def event(version: str, **more: Any) -> str:
    return f": ping\n\nevent: config\ndata: {json.dumps({'version': version, 'config': CONFIG, **more})}\n\n"


def wait_until(true: Any, timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@contextmanager
def client_of(peer: Peer, **options: Any) -> Iterator[OptimizerClient]:
    with OptimizerClient(endpoint=peer.url, **{"retries": 0, **options}) as client:
        yield client
        peer.released.set()


@pytest.fixture
def stream(peer: Peer) -> Queue[str | None]:
    peer.streamed = Queue()
    peer.standing = config_answer("chat@1")
    return peer.streamed


def test_a_change_comes_by_the_stream_and_nothing_is_polled(peer: Peer, stream: Queue[str | None]) -> None:
    stream.put(event("chat@1"))
    with client_of(peer, poll_interval=0.05) as client:
        client.get_config("chat", "/api/chat")
        wait_until(lambda: peer.streams)
        stream.put(event("chat@2"))
        wait_until(lambda: client.get_config("chat", "/api/chat").version == "chat@2")
        asked = len(peer.seen)
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            client.get_config("chat", "/api/chat")
        assert len(peer.seen) == asked
    (seen,) = peer.streams
    assert seen.query["service"] == ["chat"]
    assert seen.query["endpoint"] == ["/api/chat"]
    assert seen.query["unit"] == peer.seen[0].query["unit"]


@pytest.mark.parametrize("broken", [None, "event: config\ndata: <html>\n\n", "event: config\ndata: {}\n\n"])
def test_where_the_stream_breaks_the_server_is_polled(
    broken: str | None, peer: Peer, stream: Queue[str | None]
) -> None:
    stream.put(event("chat@1"))
    stream.put(broken)
    with client_of(peer, poll_interval=0.01) as client:
        client.get_config("chat")
        wait_until(stream.empty)
        peer.standing = config_answer("chat@2")
        wait_until(lambda: client.get_config("chat").version == "chat@2")
        wait_until(lambda: len(peer.streams) >= 2)


def test_a_rollout_of_the_stream_is_watched_by_the_servers_clock(
    peer: Peer, stream: Queue[str | None]
) -> None:
    stream.put(event("chat@1", rollout=rollout(100, watched_for=2)))
    with client_of(peer, poll_interval=3600) as client:
        client.get_config("chat")
        wait_until(lambda: client.get_config("chat").is_canary)
        wait_until(lambda: not client.get_config("chat").is_canary)


def test_subscribers_are_called_at_each_change_of_this_instance(
    peer: Peer, stream: Queue[str | None], caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Config] = []

    def fail(config: Config) -> None:
        raise ZeroDivisionError

    with client_of(peer) as client:
        client.subscribe_config_updates(fail, "chat")
        end = client.subscribe_config_updates(told.append, "chat")
        for text in (event("chat@1"), event("chat@1"), event("chat@2", rollout=rollout(100))):
            stream.put(text)
        wait_until(lambda: len(told) == 2)
        end()
        stream.put(event("chat@3"))
        wait_until(lambda: client.config_for("u", "chat").version == "chat@3")
    assert [config.version for config in told] == ["chat@1", "chat@2"]
    assert told[1].is_canary
    assert told[1].model == CANARY_CONFIG["model"]
    assert "ZeroDivisionError" in caplog.text


def test_subscribers_are_told_without_a_stream_too(peer: Peer) -> None:
    told: list[Config] = []
    peer.standing = config_answer("chat@1")
    with client_of(peer, poll_interval=0.01) as client:
        client.get_config("chat")
        client.subscribe_config_updates(told.append, "chat")
        wait_until(lambda: told)
        peer.standing = config_answer("chat@2")
        wait_until(lambda: len(told) == 2)
    assert [config.version for config in told] == ["chat@1", "chat@2"]


def test_subscribers_are_told_when_nobody_watches_the_canary(peer: Peer) -> None:
    told: list[Config] = []
    peer.standing = config_answer("chat@1", rollout=rollout(100, watched_for=1.5))
    with client_of(peer, poll_interval=3600, stream=False) as client:
        client.subscribe_config_updates(told.append, "chat")
        wait_until(lambda: len(told) == 2)
    assert [config.version for config in told] == ["chat@2", "chat@1"]


def test_a_silent_stream_is_given_up_for_polling(peer: Peer, stream: Queue[str | None]) -> None:
    with client_of(peer, timeout=0.2, poll_interval=0.05) as client:
        client.get_config("chat")
        wait_until(lambda: peer.streams)
        peer.standing = config_answer("chat@2")
        wait_until(lambda: client.get_config("chat").version == "chat@2")


def test_past_the_bound_the_longest_unused_scope_gives_way(peer: Peer) -> None:
    peer.standing = config_answer("chat@1")
    with client_of(peer, stream=False) as client:
        client.subscribe_config_updates(lambda config: None, "watched")
        for number in range(110):
            client.get_config(f"s{number}")
        wait_until(lambda: client.get_current_config("watched"))
        assert client.get_current_config("s109")
        assert client.get_current_config("s0") is None
        wait_until(lambda: sum(t.name == "optimizer-config" for t in threading.enumerate()) <= 100)


def test_many_threads_share_the_first_request(peer: Peer) -> None:
    peer.standing = config_answer("chat@1")
    with client_of(peer, stream=False) as client, ThreadPoolExecutor(8) as pool:
        start = threading.Barrier(8)

        def ask(number: int) -> str:
            start.wait()
            return client.get_config("chat", unit=str(number)).version

        assert set(pool.map(ask, range(8))) == {"chat@1"}
    assert len(peer.seen) == 1


@pytest.mark.parametrize(
    "fault", [Answer(cut=True), GARBAGE, error_answer("DATABASE_ERROR", 503, retryable=True)]
)
def test_a_first_call_that_failed_is_not_waited_for_again(fault: Answer, peer: Peer) -> None:
    peer.standing = fault
    with client_of(peer, stream=False, poll_interval=3600, retries=1) as client:
        with pytest.raises(OptimizerError):
            client.get_config("chat")
        asked = len(peer.seen)
        with pytest.raises(OptimizerError) as raised:
            client.get_config("chat")
        assert raised.value.code in ("NO_ANSWER", "UNEXPECTED_ANSWER", "DATABASE_ERROR")
        assert len(peer.seen) == asked


def test_what_could_not_be_fetched_at_first_comes_by_itself(peer: Peer) -> None:
    peer.standing = Answer(cut=True)
    with client_of(peer, stream=False, poll_interval=0.01) as client:
        with pytest.raises(NoAnswerError):
            client.get_config("chat")
        peer.standing = config_answer("chat@1")
        wait_until(lambda: client.get_current_config("chat"))


def test_subscribers_of_what_was_never_fetched_are_told_the_first(peer: Peer) -> None:
    told: list[Config] = []
    peer.standing = config_answer("chat@1")
    with client_of(peer) as client:
        client.subscribe_config_updates(told.append, "chat")
        wait_until(lambda: told)
    assert [config.version for config in told] == ["chat@1"]


def test_what_has_no_call_to_it_asks_nobody(peer: Peer) -> None:
    peer.standing = config_answer(rollout=rollout(50))
    with client_of(peer) as client:
        assert client.get_current_config("chat") is None
        assert client.config_for("user-1", "chat") is None
        assert peer.seen == []
        client.get_config("chat")
        by_unit = {unit: client.get_config("chat", unit=unit) for unit in ("user-1", "user-2", "user-3", "x")}
        assert {unit: client.config_for(unit, "chat") for unit in by_unit} == by_unit
        assert len({config.version for config in by_unit.values()}) == 2
        assert len({client.get_current_config("chat").version for _ in range(50)}) == 1
    assert len(peer.seen) == 1


@pytest.mark.parametrize(
    "fault", [Answer(cut=True), GARBAGE, TOO_DEEP, TOO_LARGE, error_answer("UNAUTHORIZED", 401)]
)
def test_the_default_holds_until_the_server_answers(fault: Answer, peer: Peer) -> None:
    peer.standing = fault
    with client_of(peer, default_config=CONFIG, poll_interval=0.01, retries=3) as client:
        assert client.get_current_config("chat").to_dict() == CONFIG
        assert client.get_config("chat").version == ""
        assert len(peer.seen) == 1
        peer.standing = config_answer("chat@1")
        wait_until(lambda: client.get_config("chat").version == "chat@1")


def test_the_default_is_no_version_of_the_servers(peer: Peer) -> None:
    peer.standing = Answer(cut=True)
    with client_of(peer, default_config=CONFIG, poll_interval=3600) as client:
        client.get_config("chat")
        peer.standing = Answer({"accepted": 1, "rejected": 0})
        client.report_quality({"timestamp": 1, "service": "chat", "overallScore": 1, "evaluationMethod": "m"})
        with client.track_request(service="chat", endpoint="/") as tracker:
            tracker.set_tokens(input=1, output=1)
        assert client.flush(20)
    assert "configVersion" not in peer.seen[1].body["evaluations"][0]
    (metric,) = peer.seen[2].body["metrics"]
    assert (metric["model"], metric["tags"]) == (CONFIG["model"], {})


def test_a_default_that_is_no_configuration(peer: Peer) -> None:
    with pytest.raises(ValueError, match="default_config"):
        OptimizerClient(endpoint=peer.url, default_config={"model": "m"})


def test_a_slow_server_holds_up_the_first_call_alone(peer: Peer) -> None:
    peer.standing = Answer(hang=True)
    with client_of(peer, default_config=CONFIG, timeout=0.2) as client:
        client.get_config("chat")
        started = time.monotonic()
        for _ in range(1_000):
            client.get_config("chat")
        assert time.monotonic() - started < 20, "one that waited would take 200 s"


def test_the_last_configuration_survives_a_restart(peer: Peer, tmp_path: Path) -> None:
    peer.standing = config_answer("chat@1", rollout=rollout(100))
    with client_of(peer, cache_dir=tmp_path / "kept") as client:
        assert client.get_config("chat").version == "chat@2"
    peer.standing = Answer(cut=True)
    with OptimizerClient(
        endpoint=peer.url, cache_dir=tmp_path / "kept", default_config=CANARY_CONFIG
    ) as client:
        assert client.get_current_config("chat").version == "chat@1"
        assert client.config_for("user-1", "chat").version == "chat@1"
        assert client.get_config("chat").to_dict() == CONFIG
        assert client.get_config("other").version == ""
    assert [path.suffix for path in (tmp_path / "kept").iterdir()] == [".json"]


def test_what_is_kept_is_another_servers_or_garbage(peer: Peer, tmp_path: Path) -> None:
    peer.standing = config_answer("chat@1")
    with client_of(peer, cache_dir=tmp_path) as client:
        client.get_config("chat")
    with OptimizerClient(endpoint="http://127.0.0.1:9", cache_dir=tmp_path) as client:
        assert client.get_current_config("chat") is None
    (kept,) = tmp_path.iterdir()
    whole = kept.read_text()
    for text in ("", "[]", '{"server": 1}', whole[:-20], whole.replace("chat@1", "").replace("version", "")):
        kept.write_text(text)
        with OptimizerClient(endpoint=peer.url, cache_dir=tmp_path) as client:
            assert client.get_current_config("chat") is None


def test_what_any_sdk_kept_is_read_and_kept_under_the_same_name(tmp_path: Path) -> None:
    files = json.loads((Path(__file__).parents[2] / "vectors" / "kept.json").read_text(encoding="utf-8"))
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    store = ConfigStore(tmp_path, "http://127.0.0.1:9")
    with OptimizerClient(endpoint="http://127.0.0.1:9/", cache_dir=tmp_path) as client:
        for name, content in files.items():
            scope = ScopeKey(content.get("service"), content.get("endpoint"))
            config = client.get_current_config(*scope)
            assert config is not None
            assert (config.version, config.to_dict()) == (content["version"], content["config"])
            (tmp_path / name).unlink()
            store.save(scope, config)
            assert json.loads((tmp_path / name).read_text(encoding="utf-8")) == content


def test_a_folder_that_cannot_be_written_fails_nobody(peer: Peer, tmp_path: Path) -> None:
    peer.standing = config_answer("chat@1")
    (tmp_path / "file").touch()
    with client_of(peer, cache_dir=tmp_path / "file") as client:
        assert client.get_config("chat").version == "chat@1"


def test_without_a_default_the_first_call_raises(peer: Peer) -> None:
    with client_of(peer) as client, pytest.raises(NotFoundError):
        client.get_config("chat")
    peer.standing = Answer(cut=True)
    with client_of(peer) as client, pytest.raises(NoAnswerError):
        client.get_config("chat")
