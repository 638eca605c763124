"""What the Python SDK costs an application: `python -m bench.sdk_python`.

That is the caller's time for a tracked call beside a bare one, and the memory of 10,000 metrics that wait.
The server answers nothing but a configuration: reports pile up, as they do while it is away.
"""

import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable

import httpx
from llm_auto_optimizer import OptimizerClient

from bench.gates import Gate, concluded

ROUNDS, CALLS = 15, 500
QUEUED = 10_000
CONFIG = {
    "provider": "openai",
    "model": "gpt-4o-mini",
    "temperature": 0.7,
    "topP": 1.0,
    "maxTokens": 1024,
    "streaming": False,
    "functionCalling": False,
    "visionEnabled": False,
}


def answer(request: httpx.Request) -> httpx.Response:
    """The server: it has a configuration, and no database for reports."""
    if request.method == "GET":
        return httpx.Response(200, json={"version": "chat@1", "config": CONFIG})
    return httpx.Response(503)


def bare() -> int:
    """An LLM call that costs nothing."""
    return 1


def microseconds(call: Callable[[], object]) -> float:
    """The median over rounds of the time per call."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(CALLS):
            call()
        rounds.append((time.perf_counter() - started) / CALLS * 1e6)
    return statistics.median(rounds)


def main() -> int:
    """Prints the figures beside their gates."""
    http_client = httpx.Client(transport=httpx.MockTransport(answer))
    client = OptimizerClient(
        endpoint="http://optimizer", poll_interval=3600, retries=0, stream=False, http_client=http_client
    )

    def tracked() -> None:
        with client.track_request(service="chat", endpoint="/api/chat", unit="user-1") as tracker:
            assert tracker.config.model
            bare()
            tracker.set_tokens(input=150, output=500)
            tracker.set_cost(0.0325)
            tracker.set_request_id("req-123")

    tracked()
    bare_us, tracked_us = microseconds(bare), microseconds(tracked)
    started = time.thread_time()
    for _ in range(CALLS):
        tracked()
    cpu_us = (time.thread_time() - started) / CALLS * 1e6
    client.close(timeout=0)

    gc.collect()
    tracemalloc.start()
    full = OptimizerClient(endpoint="http://optimizer", stream=False, http_client=http_client)
    for number in range(QUEUED):
        full.queue_metric(
            {
                "timestamp": 1764000000000 + number,
                "service": "chat",
                "endpoint": "/api/chat",
                "provider": "openai",
                "model": "gpt-4o-mini",
                "latencyMs": 1234.5,
                "tokensInput": 150,
                "tokensOutput": 500,
                "tokensTotal": 650,
                "costUsd": 0.0325,
                "statusCode": 200,
                "tags": {"configVersion": "chat@1", "requestId": f"req-{number}"},
            }
        )
    gc.collect()
    megabytes = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    dropped = full.dropped_reports
    full.close(timeout=0)
    http_client.close()
    return concluded(
        "sdk-python",
        [
            Gate("tracked call beyond a bare one, us", round(tracked_us - bare_us, 2), 50, ceiling=True),
            Gate("10,000 queued metrics, MB", round(megabytes, 2), 20, ceiling=True),
        ],
        ratioToBareCall=round(tracked_us / bare_us),
        bareUs=round(bare_us, 3),
        callersCpuUs=round(cpu_us, 2),
        droppedWhileQueueing=dropped,
    )


if __name__ == "__main__":
    raise SystemExit(main())
