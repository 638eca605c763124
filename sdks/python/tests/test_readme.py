"""The README's first lines work as they stand."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .conftest import Answer, Peer, config_answer

README = Path(__file__).parents[1] / "README.md"


@dataclass
class Response:
    text: str
    input_tokens: int
    output_tokens: int


def test_the_first_lines(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    peer.standing = lambda seen: (
        config_answer() if seen.method == "GET" else Answer({"accepted": 1, "rejected": 0})
    )
    monkeypatch.setenv("OPTIMIZER_API_KEY", "key-1")
    snippet = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[0]
    prompted = []

    def call_llm(prompt: str, config: Any) -> Response:
        prompted.append((prompt, config.model))
        return Response("42", 7, 1)

    names: dict[str, Any] = {"call_llm": call_llm}
    exec(snippet.replace("http://localhost:8080", peer.url), names)
    assert names["answer"]("what?", "user-1") == "42"
    names["client"].close()
    assert prompted == [("what?", "gpt-4-1106-preview")]
    (metric,) = peer.seen[-1].body["metrics"]
    assert (metric["tokensInput"], metric["tokensOutput"]) == (7, 1)
    assert metric["tags"] == {"configVersion": "chat@1"}
    assert peer.seen[-1].headers["authorization"] == "Bearer key-1"
