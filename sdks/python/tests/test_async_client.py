"""What the asynchronous client does otherwise than its twin, and that it lacks nothing of it."""

from __future__ import annotations

import asyncio
import inspect
import time
from queue import Queue

import pytest

from llm_auto_optimizer import AsyncOptimizerClient, Config, NotFoundError, OptimizerClient

from .conftest import CONFIG, Answer, Peer, config_answer
from .test_freshness import event


def test_the_twins_have_the_same_calls() -> None:
    def calls(kind: type) -> dict[str, list[str]]:
        functions = inspect.getmembers(kind, inspect.isfunction)
        return {n: list(inspect.signature(f).parameters) for n, f in functions if not n.startswith("_")}

    assert calls(AsyncOptimizerClient) == calls(OptimizerClient)


async def test_many_tasks_are_served_from_memory(peer: Peer) -> None:
    peer.standing = config_answer()
    async with AsyncOptimizerClient(endpoint=peer.url, poll_interval=3600) as client:
        await client.get_config("chat")
        configs = await asyncio.gather(*(client.get_config("chat", unit=str(n)) for n in range(50)))
        assert {config.version for config in configs} == {"chat@1"}
        assert client.config_for("u", "chat") == client.get_current_config("chat") == configs[0]
    assert len(peer.seen) == 1


async def test_a_call_is_tracked(peer: Peer) -> None:
    peer.standing = lambda seen: (
        config_answer() if seen.method == "GET" else Answer({"accepted": 1, "rejected": 0})
    )
    async with AsyncOptimizerClient(endpoint=peer.url) as client:
        async with client.track_request(service="chat", endpoint="/", unit="u") as tracker:
            assert (await tracker.get_config()).version == "chat@1"
            tracker.set_tokens(input=1, output=2)
        with pytest.raises(ZeroDivisionError):
            async with client.track_request(service="chat", endpoint="/"):
                raise ZeroDivisionError
    metrics = [metric for seen in peer.seen if seen.method == "POST" for metric in seen.body["metrics"]]
    assert [(m["tokensTotal"], m.get("errorType")) for m in metrics] == [(3, None), (0, "ZeroDivisionError")]
    assert metrics[0]["tags"] == {"configVersion": "chat@1"}


async def test_the_loop_goes_on_while_the_server_is_slow(peer: Peer) -> None:
    peer.standing = Answer(hang=True)
    async with AsyncOptimizerClient(endpoint=peer.url, timeout=2, default_config=CONFIG) as client:
        fetching = asyncio.create_task(client.get_config("chat"))
        started = time.monotonic()
        await asyncio.sleep(0.01)
        assert time.monotonic() - started < 1
        assert (await fetching).version == ""
        peer.released.set()


async def test_the_first_call_fails_if_there_is_no_answer(peer: Peer) -> None:
    async with AsyncOptimizerClient(endpoint=peer.url) as client:
        with pytest.raises(NotFoundError):
            await client.get_config("chat")


async def test_callbacks_run_on_the_loop(peer: Peer) -> None:
    peer.streamed = Queue()
    told: asyncio.Queue[Config] = asyncio.Queue()

    async def tell(config: Config) -> None:
        asyncio.get_running_loop()
        await told.put(config)

    async with AsyncOptimizerClient(endpoint=peer.url) as client:
        client.subscribe_config_updates(tell, "chat")
        client.subscribe_config_updates(told.put_nowait, "chat")
        peer.streamed.put(event("chat@1"))
        both = [await asyncio.wait_for(told.get(), 20) for _ in range(2)]
    assert [config.version for config in both] == ["chat@1", "chat@1"]
