"""What an API process holds in memory while ten million reports a day come: `python -m bench.memory`.

One `llm-optimizer serve` is told as many labels, and as long ones, as it takes in a day. Then it takes
batches of 100 as fast as it can, far faster than a day brings them, while a dashboard asks for its metrics
every second. Prints one JSON line with the largest resident size that was seen, and exits with 1 where that
is more than 300 MB.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator
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
USUAL = 10_000
LONG = 200
"""Characters of a label."""
LABELLED = 1_000
MOST_LABELLED = 500
"""Batches of new labels, of which the last are to be refused."""
UNLIMITED = {"OPTIMIZER_RATE_LIMITS__REPORTS": "0", "OPTIMIZER_RATE_LIMITS__READS": "0"}


async def run(events: int) -> dict[str, Any]:
    """The process's resident size in MB: at first, with all its labels, at most, and at the end."""
    async with replicas(1, temporal=False, settings=UNLIMITED) as where:
        process = psutil.Process(where.processes[0].pid)
        sizes = [_size(process)]
        await _take(where, USUAL)  # Its labels are in use when others become too many.
        labelled = await _fill_labels(where)
        sizes.append(_size(process))
        beside = [asyncio.create_task(_watch(process, sizes)), asyncio.create_task(_ask(where))]
        seconds = await _take(where, events)
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        sizes.append(_size(process))
    return {
        "events": events,
        "perSecond": round(events / seconds),
        "labelled": labelled,
        "firstMb": sizes[0],
        "labelledMb": sizes[1],
        "largestMb": max(sizes),
        "lastMb": sizes[-1],
    }


async def _take(where: Replicas, events: int) -> float:
    """Seconds in which a load of so many reports is taken."""
    load = await LoadProcess.prepared(
        Load(
            url=urljoin(where.processes[0].address, "/api/v1/metrics"),
            key=where.key,
            events=events,
            batch=BATCH,
            connections=CONNECTIONS,
        )
    )
    began = time.perf_counter()
    answers = await load.run()
    if answers["statuses"] != {"200": events // BATCH}:
        raise RuntimeError(f"not every batch was taken: {answers}")
    return time.perf_counter() - began


async def _fill_labels(where: Replicas) -> int:
    """Report calls with labels that nobody had before until no more are let through; gives how many were."""
    taken = 0
    for number in range(MOST_LABELLED):
        answer = await where.clients[0].post("/api/v1/metrics", json={"metrics": list(_labelled(number))})
        told: dict[str, int] = answer.raise_for_status().json()
        taken += told["accepted"]
        if told["rejected"]:
            return taken
    raise RuntimeError(f"{taken} reports with new labels were taken, and none was refused")


def _labelled(number: int) -> Iterator[dict[str, Any]]:
    now = time.time_ns() // 1_000_000
    for each in range(number * LABELLED, (number + 1) * LABELLED):
        yield {
            "timestamp": now,
            "service": f"labelled-{number}",
            "endpoint": f"/{each:0{LONG}}",
            "provider": "openai",
            "model": f"model-{each % 400:0{LONG}}",
            "latencyMs": 100,
            "tokensInput": 1,
            "tokensOutput": 1,
            "tokensTotal": 2,
            "statusCode": 200,
            "tags": {"configVersion": f"{each:0{LONG}}@1"},
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
