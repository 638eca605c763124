"""The Python SDK's part of `bench.sdks`: prints one JSON line of figures."""

import gc
import json
import logging
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import httpx
from llm_auto_optimizer import OptimizerClient

ROUNDS, CALLS, QUEUED = 21, 500, 10_000
SCENARIO = (Path(__file__).parent / "scenario.json").read_bytes()


def answer(request: httpx.Request) -> httpx.Response:
    """The server: a service under rollout, and no database for reports."""
    if request.method == "GET":
        return httpx.Response(200, content=SCENARIO)
    return httpx.Response(503)


def bare() -> int:
    """An LLM call that costs nothing."""
    return 1


def microseconds(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """The best round's time per call: other work of the machine only makes rounds longer."""
    rounds = []
    for _ in range(ROUNDS):
        started = clock()
        for _ in range(CALLS):
            call()
        rounds.append((clock() - started) / CALLS * 1e6)
    return min(rounds)


def main() -> None:
    """Measures a tracked call beside a bare one, and what those that wait hold."""
    logging.getLogger("llm_auto_optimizer").setLevel(logging.CRITICAL)
    http_client = httpx.Client(transport=httpx.MockTransport(answer))

    def client_of() -> OptimizerClient:
        return OptimizerClient(endpoint="http://optimizer", stream=False, http_client=http_client)

    def tracked(client: OptimizerClient) -> None:
        with client.track_request(service="chat", endpoint="/api/chat", unit="user-1") as tracker:
            assert tracker.config.model
            bare()
            tracker.set_tokens(input=150, output=500)
            tracker.set_cost(0.0325)
            tracker.set_request_id("550e8400-e29b-41d4-a716-446655440000")

    client = client_of()
    tracked(client)
    figures = {
        "bareUs": microseconds(bare),
        "trackedUs": microseconds(lambda: tracked(client)),
        "callersCpuUs": microseconds(lambda: tracked(client), time.thread_time),
    }
    client.close(timeout=0)

    client = client_of()
    tracked(client)
    gc.collect()
    tracemalloc.start()
    for _ in range(QUEUED):
        tracked(client)
    gc.collect()
    figures["queuedMB"] = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    client.close(timeout=0)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
