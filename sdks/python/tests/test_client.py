"""The client's construction, its names, and the calls that steer the optimizer."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import Any, Callable

import httpx
import pytest

import llm_auto_optimizer
from llm_auto_optimizer import OptimizerClient

from .conftest import Answer, Peer, config_answer


def test_names_are_sorted_and_there() -> None:
    names = llm_auto_optimizer.__all__
    assert names == sorted(names)
    assert all(hasattr(llm_auto_optimizer, name) for name in names)
    public = {
        name
        for name, value in vars(llm_auto_optimizer).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert set(names) == public


def test_no_server_dependency_is_imported() -> None:
    script = (
        "import sys, llm_auto_optimizer; "
        "print(sorted({m.partition('.')[0] for m in sys.modules} & "
        "{'domain', 'storage', 'api', 'pydantic', 'temporalio', 'fastapi', 'sqlalchemy', 'numpy'}))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("endpoint", ["", "optimizer:8080", "ftp://optimizer", "http://", "/api"])
def test_an_endpoint_that_is_no_address(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        OptimizerClient(endpoint=endpoint)


def test_the_key_comes_from_the_environment(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    peer.standing = Answer({"status": "healthy"})
    monkeypatch.setenv("OPTIMIZER_API_KEY", " key-2\n")
    with OptimizerClient(endpoint=peer.url + "/") as client:
        client.get_health()
    monkeypatch.delenv("OPTIMIZER_API_KEY")
    with OptimizerClient(endpoint=peer.url) as client:
        client.get_health()
    assert [seen.headers.get("authorization") for seen in peer.seen] == ["Bearer key-2", None]
    assert peer.seen[0].path == "/api/v1/health"
    assert peer.seen[0].headers["user-agent"].startswith("llm-auto-optimizer-python/")


def test_a_key_that_no_header_can_carry() -> None:
    with pytest.raises(ValueError, match="api_key"):
        OptimizerClient(endpoint="http://optimizer", api_key="kéy")


def test_a_client_of_ones_own_stays_open(peer: Peer) -> None:
    peer.standing = Answer({"status": "healthy"})
    with httpx.Client(headers={"X-Team": "a"}) as http_client:
        with OptimizerClient(endpoint=peer.url, http_client=http_client) as client:
            client.get_health()
        assert not http_client.is_closed
    assert peer.seen[0].headers["x-team"] == "a"


@pytest.mark.parametrize(
    ("call", "method", "path", "body"),
    [
        (
            lambda c: c.trigger_optimization(
                services=["chat"],
                objectives=[{"metric": "cost", "goal": "minimize", "weight": 0.7}],
                constraints=[{"type": "hard", "metric": "quality.avg", "min": 55}],
                dry_run=True,
            ),
            "POST",
            "/api/v1/optimize/trigger",
            {
                "services": ["chat"],
                "objectives": [{"metric": "cost", "goal": "minimize", "weight": 0.7}],
                "constraints": [{"type": "hard", "metric": "quality.avg", "min": 55}],
                "dryRun": True,
            },
        ),
        (lambda c: c.trigger_optimization(), "POST", "/api/v1/optimize/trigger", {}),
        (lambda c: c.get_optimization("opt/1"), "GET", "/api/v1/optimize/opt%2F1", None),
        (lambda c: c.get_deployment("dep-1"), "GET", "/api/v1/deployments/dep-1", None),
        (lambda c: c.get_versions("chat", limit=5), "GET", "/api/v1/config/versions", None),
        (lambda c: c.get_policy("chat"), "GET", "/api/v1/services/chat", None),
        (
            lambda c: c.put_policy("chat", {"automatic": False}),
            "PUT",
            "/api/v1/services/chat",
            {"automatic": False},
        ),
        (
            lambda c: c.update_config({"model": "m"}, reason="why", validate_only=True),
            "POST",
            "/api/v1/config/update",
            {"config": {"model": "m"}, "reason": "why", "validateOnly": True},
        ),
    ],
)
def test_a_call_on_the_wire(
    call: Callable[[OptimizerClient], Any],
    method: str,
    path: str,
    body: Any,
    peer: Peer,
    client: OptimizerClient,
) -> None:
    peer.standing = Answer({"answer": 42})
    assert call(client) == {"answer": 42}
    (seen,) = peer.seen
    assert (seen.method, seen.path, seen.body) == (method, path, body)


def test_reports_that_wait_are_sent_when_the_interpreter_ends(peer: Peer) -> None:
    peer.queued.append(config_answer())
    peer.standing = Answer({"accepted": 1, "rejected": 0})
    script = (
        "from llm_auto_optimizer import OptimizerClient\n"
        f"client = OptimizerClient(endpoint={peer.url!r})\n"
        "client.get_config('chat')\n"
        "with client.track_request(service='chat', endpoint='/') as tracker:\n"
        "    tracker.set_tokens(input=1, output=1)\n"
    )
    result = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert [seen.method for seen in peer.seen] == ["GET", "POST"]
