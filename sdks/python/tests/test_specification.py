"""The specification's own Python (section 5.2) runs as it stands."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from .conftest import Answer, Peer, Seen, config_answer

SPECIFICATION = Path(__file__).parents[3] / "tests" / "specification" / "interfaces.md"
EMPTY_METRICS = re.compile(r"\{ # metric \d \},?\n")


def snippet() -> str:
    section = SPECIFICATION.read_text(encoding="utf-8").split("### 5.2 Python SDK")[1]
    return section.split("```python\n")[1].split("```")[0]


def serve(seen: Seen) -> Answer:
    if seen.path.endswith("/analytics/metrics"):
        return Answer({"metrics": []})
    if seen.method == "POST":
        return Answer({"accepted": len(seen.body["metrics"]), "rejected": 0})
    return config_answer()


def test_the_python_of_the_specification(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIMIZER_API_KEY", "key-1")
    peer.standing = serve
    # `{ # metric 1 },` stands for a metric: as it is, the comment would swallow the brace.
    text, replaced = EMPTY_METRICS.subn("dict(metric),\n", snippet())
    assert replaced == 3
    usage = SimpleNamespace(input_tokens=150, output_tokens=500)
    names: dict[str, Any] = {
        "os": os,
        "time": time,
        "prompt": "what?",
        "metric": {"timestamp": 1699564800000, "service": "chat-service"},
        "call_llm": lambda prompt, config: SimpleNamespace(usage=usage, cost=0.0325),
        "update_llm_settings": lambda config: None,
    }
    exec(text.replace("http://optimizer:8080", peer.url), names)
    names["client"].close()
    posts = [seen for seen in peer.seen if seen.method == "POST"]
    batches = [len(seen.body["metrics"]) for seen in posts if seen.path.endswith("/v1/metrics")]
    assert sorted(batches) == [1, 1, 3]
    (query,) = [seen.body for seen in posts if seen.path.endswith("/analytics/metrics")]
    assert query["metrics"] == ["latency.p95", "cost.total"]
    assert query["timeRange"]["end"] - query["timeRange"]["start"] == 3_600_000
    tracked = [seen.body["metrics"][0] for seen in posts if "tokensTotal" in str(seen.body)]
    assert {metric["tokensTotal"] for metric in tracked} == {650}
    assert {metric["costUsd"] for metric in tracked} == {0.0325}
    assert names["config"].version == names["service_config"].version == "chat@1"
