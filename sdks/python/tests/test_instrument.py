"""Clients of openai and anthropic, instrumented: what they send, what is reported, and that it fails open."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from llm_auto_optimizer import OptimizerClient

from .conftest import CONFIG, Answer, Peer, Seen

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")

CHAT = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "42"}},
    ],
    "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
}
MESSAGE = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "text", "text": "42"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 2},
}
RESPONSE = {"id": "r", "object": "response", "output": [], "usage": {"input_tokens": 7, "output_tokens": 2}}
PROMPT: list[Any] = [{"role": "user", "content": "what?"}]


def sse(*parts: Any) -> Answer:
    lines = [f"event: {part.get('type', 'message')}\ndata: {json.dumps(part)}\n\n" for part in parts]
    return Answer("".join(lines).encode(), headers={"Content-Type": "text/event-stream"})


class Provider(Peer):
    """Stands for OpenAI and Anthropic."""

    @property
    def sent(self) -> Any:
        (seen,) = self.seen
        return seen.body


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.close()


@pytest.fixture
def gpt(provider: Provider) -> Iterator[Any]:
    with openai.OpenAI(api_key="k", base_url=provider.url, max_retries=0) as client:
        yield client


@pytest.fixture(autouse=True)
def serving(peer: Peer) -> None:
    serve(peer, CONFIG)


def serve(peer: Peer, config: Any) -> None:
    def answer(seen: Seen) -> Answer:
        if seen.method == "POST":
            return Answer({"accepted": len(seen.body["metrics"]), "rejected": 0})
        return Answer({"version": "chat@1", "config": config})

    peer.standing = answer


def reported(peer: Peer, client: OptimizerClient) -> dict[str, Any]:
    assert client.flush(20)
    (metric,) = [metric for seen in peer.seen if seen.method == "POST" for metric in seen.body["metrics"]]
    return {
        "model": metric["model"],
        "tokens": (metric["tokensInput"], metric["tokensOutput"]),
        "status": metric["statusCode"],
        "version": metric["tags"].get("configVersion"),
    }


SERVED = {"model": CONFIG["model"], "tokens": (7, 2), "status": 200, "version": "chat@1"}


def instrumented(client: OptimizerClient, target: Any) -> Any:
    client.instrument(target, service="chat", endpoint="/")
    client.instrument(target, service="chat", endpoint="/")
    return target


def test_a_call_is_made_by_the_configuration(
    peer: Peer, client: OptimizerClient, provider: Provider, gpt: Any
) -> None:
    provider.standing = Answer(CHAT)
    answer = instrumented(client, gpt).chat.completions.create(messages=PROMPT)
    assert answer.choices[0].message.content == "42"
    assert provider.sent == {
        "messages": PROMPT,
        "model": CONFIG["model"],
        "temperature": 0.7,
        "max_completion_tokens": 1024,
    }
    assert reported(peer, client) == SERVED


def test_what_the_caller_gives_beats_the_configuration(
    peer: Peer, client: OptimizerClient, provider: Provider, gpt: Any
) -> None:
    provider.standing = Answer(CHAT)
    instrumented(client, gpt).chat.completions.create(
        messages=PROMPT, model="mine", temperature=0, max_tokens=5
    )
    assert provider.sent == {"messages": PROMPT, "model": "mine", "temperature": 0, "max_tokens": 5}
    assert reported(peer, client) == {**SERVED, "model": "mine", "version": None}


def test_responses(peer: Peer, client: OptimizerClient, provider: Provider, gpt: Any) -> None:
    provider.standing = Answer(RESPONSE)
    instrumented(client, gpt).responses.create(input="what?")
    assert provider.sent["max_output_tokens"] == 1024
    assert reported(peer, client) == SERVED


def test_a_stream_is_as_it_was_and_reported_at_its_end(
    peer: Peer, client: OptimizerClient, provider: Provider, gpt: Any
) -> None:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    words = [{**chunk, "choices": [{"index": 0, "delta": {"content": word}}]} for word in "ab"]
    provider.standing = sse(*words, {**chunk, "choices": [], "usage": CHAT["usage"]})
    stream = instrumented(client, gpt).chat.completions.create(messages=PROMPT, stream=True)
    assert isinstance(stream, openai.Stream)
    assert [part.choices[0].delta.content for part in stream] == ["a", "b"]
    assert provider.sent["stream_options"] == {"include_usage": True}
    assert reported(peer, client) == SERVED


def test_a_failed_call_is_reported_and_raised(
    peer: Peer, client: OptimizerClient, provider: Provider, gpt: Any
) -> None:
    provider.standing = Answer({"error": {"message": "slow down"}}, 429)
    with pytest.raises(openai.RateLimitError):
        instrumented(client, gpt).chat.completions.create(messages=PROMPT)
    assert reported(peer, client) == {**SERVED, "tokens": (0, 0), "status": 429}


async def test_an_asynchronous_client(peer: Peer, client: OptimizerClient, provider: Provider) -> None:
    provider.standing = Answer(CHAT)
    async with openai.AsyncOpenAI(api_key="k", base_url=provider.url, max_retries=0) as gpt:
        answer = await instrumented(client, gpt).chat.completions.create(messages=PROMPT)
    assert answer.choices[0].message.content == "42"
    assert reported(peer, client) == SERVED


def test_anthropic(peer: Peer, client: OptimizerClient, provider: Provider) -> None:
    serve(peer, {**CONFIG, "provider": "anthropic", "topK": 5, "stopSequences": ["\n"]})
    provider.standing = Answer(MESSAGE)
    with anthropic.Anthropic(api_key="k", base_url=provider.url, max_retries=0) as claude:
        instrumented(client, claude).messages.create(messages=PROMPT)
    assert provider.sent == {
        "messages": PROMPT,
        "model": CONFIG["model"],
        "temperature": 0.7,
        "top_k": 5,
        "max_tokens": 1024,
        "stop_sequences": ["\n"],
    }
    assert reported(peer, client) == SERVED


async def test_an_asynchronous_stream_of_anthropic(
    peer: Peer, client: OptimizerClient, provider: Provider
) -> None:
    serve(peer, {**CONFIG, "provider": "anthropic"})
    started = {"type": "message_start", "message": {**MESSAGE, "content": []}}
    ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}
    provider.standing = sse(started, ended, {"type": "message_stop"})
    async with anthropic.AsyncAnthropic(api_key="k", base_url=provider.url, max_retries=0) as claude:
        stream = await instrumented(client, claude).messages.create(messages=PROMPT, stream=True)
        kinds = [part.type async for part in stream]
    assert kinds == ["message_start", "message_delta", "message_stop"]
    assert reported(peer, client) == SERVED


@pytest.mark.parametrize("fault", ["away", "another provider's"])
def test_it_fails_open(fault: str, peer: Peer, client: OptimizerClient, provider: Provider, gpt: Any) -> None:
    serve(peer, {**CONFIG, "provider": "anthropic"})
    if fault == "away":
        peer.queued.append(Answer(status=401))
    provider.standing = Answer(CHAT)
    instrumented(client, gpt).chat.completions.create(messages=PROMPT, model="mine")
    assert provider.sent == {"messages": PROMPT, "model": "mine"}
    assert reported(peer, client) == {**SERVED, "model": "mine", "version": None}


def test_what_is_no_such_client(client: OptimizerClient) -> None:
    with pytest.raises(TypeError, match="object"):
        client.instrument(object(), service="chat", endpoint="/")
