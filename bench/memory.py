"""What an API process holds in memory while ten million reports a day come: `python -m bench.memory`.

One `llm-optimizer serve` takes batches of 100 as fast as it can, far faster than a day brings them, while a
dashboard asks for its metrics every second. Prints one JSON line with the largest resident size that was
seen, and exits with 1 where that is more than 300 MB.
"""

import argparse
import asyncio
import sys
import time
from typing import Any
from urllib.parse import urljoin

import psutil

from bench.gates import Gate, concluded
from bench.load import Load, LoadProcess
from bench.replicas import Replicas, replicas

LIMIT_MB = 300.0
LOOK_SECONDS = 0.1
ASK_SECONDS = 1.0
CONNECTIONS = 32
BATCH = 100
UNLIMITED = {"OPTIMIZER_RATE_LIMITS__REPORTS": "0", "OPTIMIZER_RATE_LIMITS__READS": "0"}


async def run(events: int) -> dict[str, Any]:
    """The process's resident size in MB: before the first report, at most, and at the end."""
    async with replicas(1, temporal=False, settings=UNLIMITED) as where:
        process = psutil.Process(where.processes[0].pid)
        sizes = [_size(process)]
        load = await LoadProcess.prepared(
            Load(
                url=urljoin(where.processes[0].address, "/api/v1/metrics"),
                key=where.key,
                events=events,
                batch=BATCH,
                connections=CONNECTIONS,
            )
        )
        beside = [asyncio.create_task(_watch(process, sizes)), asyncio.create_task(_ask(where))]
        began = time.perf_counter()
        answers = await load.run()
        seconds = time.perf_counter() - began
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        sizes.append(_size(process))
    if answers["statuses"] != {"200": events // BATCH}:
        raise RuntimeError(f"not every batch was taken: {answers}")
    return {
        "events": events,
        "perSecond": round(events / seconds),
        "firstMb": sizes[0],
        "largestMb": max(sizes),
        "lastMb": sizes[-1],
    }


def _size(process: psutil.Process) -> float:
    return round(process.memory_info().rss / 2**20, 1)


async def _watch(process: psutil.Process, sizes: list[float]) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        sizes.append(_size(process))


async def _ask(where: Replicas) -> None:
    """A dashboard's question about the last hour."""
    while True:
        now = time.time_ns() // 1_000_000
        question = {
            "metrics": ["latency.p95", "cost.total", "errors.rate"],
            "groupBy": ["service", "model"],
            "timeRange": {"start": now - 3_600_000, "end": now},
        }
        (await where.clients[0].post("/api/v1/analytics/metrics", json=question)).raise_for_status()
        await asyncio.sleep(ASK_SECONDS)


def main() -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="in hundreds")
    given = parser.parse_args()
    found = asyncio.run(run(given.events))
    gate = Gate("resident size of an API process, MB", found["largestMb"], LIMIT_MB, ceiling=True)
    return concluded("memory", [gate], **found)


if __name__ == "__main__":
    sys.exit(main())
