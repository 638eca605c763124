"""The callback of LiteLLM, by the payloads that its documentation shows."""

from __future__ import annotations

import importlib
import sys
from datetime import datetime, timedelta, timezone
from types import ModuleType
from typing import Any

import pytest

from llm_auto_optimizer import OptimizerClient

from .conftest import Answer, Peer

END = datetime(2026, 1, 1, tzinfo=timezone.utc)
START = END - timedelta(seconds=1.5)
SUCCESS = {
    "id": "chatcmpl-1",
    "status": "success",
    "custom_llm_provider": "openai",
    "model": "gpt-4o",
    "prompt_tokens": 10,
    "completion_tokens": 20,
    "response_cost": 0.25,
    "response_time": 1.5,
    "error_information": None,
}
FAILURE = {
    **SUCCESS,
    "status": "failure",
    "completion_tokens": 0,
    "response_cost": 0,
    "error_information": {"error_code": "429", "error_class": "RateLimitError"},
}


@pytest.fixture
def callback(client: OptimizerClient, monkeypatch: pytest.MonkeyPatch) -> Any:
    """LiteLLM is too large to install for a base class without behaviour."""
    logger = ModuleType("litellm.integrations.custom_logger")
    logger.CustomLogger = type("CustomLogger", (), {})  # type: ignore[attr-defined]  # a module made here
    for module in (ModuleType("litellm"), ModuleType("litellm.integrations"), logger):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "llm_auto_optimizer.litellm", raising=False)
    module = importlib.import_module("llm_auto_optimizer.litellm")
    return module.OptimizerLogger(client, service="chat", endpoint="/")


async def test_calls_are_reported(peer: Peer, client: OptimizerClient, callback: Any) -> None:
    peer.standing = Answer({"accepted": 1, "rejected": 0})
    callback.log_success_event({"standard_logging_object": SUCCESS}, None, START, END)
    await callback.async_log_success_event({"standard_logging_object": SUCCESS}, None, START, END)
    callback.log_failure_event({"standard_logging_object": FAILURE}, None, START, END)
    await callback.async_log_failure_event({"standard_logging_object": FAILURE}, None, START, END)
    callback.log_success_event({}, None, START, END)
    assert client.flush(20)
    metrics = [metric for seen in peer.seen for metric in seen.body["metrics"]]
    succeeded = {
        "timestamp": int(END.timestamp() * 1000),
        "service": "chat",
        "endpoint": "/",
        "provider": "openai",
        "model": "gpt-4o",
        "latencyMs": 1500.0,
        "tokensInput": 10,
        "tokensOutput": 20,
        "tokensTotal": 30,
        "costUsd": 0.25,
        "statusCode": 200,
        "tags": {"requestId": "chatcmpl-1"},
    }
    assert metrics[:2] == [succeeded, succeeded]
    assert [(m["statusCode"], m["errorType"], "costUsd" in m) for m in metrics[2:]] == [
        (429, "RateLimitError", False)
    ] * 2
    assert client.dropped_reports == 1
