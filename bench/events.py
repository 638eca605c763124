"""How soon a committed event is at a subscriber: `python -m bench.events`.

Two API processes, each with a subscriber to its stream of server-sent events, while a third process (this
one) commits events at a steady rate; with Redis and without. The time is from just before the commit to the
arrival. Prints one JSON line, and exits with 1 if the p99 of any subscriber is a second or more, or if one of
them missed an event or had one out of order.
"""

import argparse
import asyncio
import json
import sys
import time
from typing import Any

import httpx
from httpx_sse import aconnect_sse

from bench.replicas import Replicas, percentile, replicas
from storage.events import alert

LIMIT_SECONDS = 1.0


async def measure(where: Replicas, events: int, rate: float) -> list[dict[str, Any]]:
    """Commit so many events at so many per second, and give each subscriber's figures in seconds."""
    committing: dict[str, float] = {}
    ready = [asyncio.Event() for _ in where.clients]
    subscribers = [
        asyncio.create_task(_subscribe(client, events, open_))
        for client, open_ in zip(where.clients, ready, strict=True)
    ]
    await asyncio.gather(*(event.wait() for event in ready))
    began = time.monotonic()
    for number in range(events):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        async with where.database.transaction() as session:
            alert(session, f"service-{number % 7}", "low", str(number))
            await session.flush()
            committing[str(number)] = time.monotonic()
    return [_figures(committing, await subscriber) for subscriber in subscribers]


async def _subscribe(client: httpx.AsyncClient, events: int, ready: asyncio.Event) -> list[tuple[str, float]]:
    arrived: list[tuple[str, float]] = []
    async with aconnect_sse(client, "GET", "/api/v1/events/stream") as source:
        source.response.raise_for_status()
        ready.set()
        async with asyncio.timeout(60 + events):
            async for event in source.aiter_sse():
                arrived.append((event.json()["data"]["reason"], time.monotonic()))
                if len(arrived) == events:
                    break
    return arrived


def _figures(committing: dict[str, float], arrived: list[tuple[str, float]]) -> dict[str, Any]:
    seconds = [at - committing[name] for name, at in arrived]
    return {
        "events": len(arrived),
        "inOrder": [name for name, _ in arrived] == list(committing),
        **{f"p{share}": round(percentile(seconds, share), 4) for share in (50, 99)},
        "max": round(max(seconds), 4),
    }


async def run(events: int, rate: float) -> dict[str, list[dict[str, Any]]]:
    """The figures of each subscriber, with Redis and without."""
    found = {}
    for name, redis in (("withRedis", True), ("withoutRedis", False)):
        async with replicas(2, redis=redis, temporal=False) as where:
            found[name] = await measure(where, events, rate)
    return found


def main() -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000)
    parser.add_argument("--rate", type=float, default=50.0, help="events per second")
    given = parser.parse_args()
    found = asyncio.run(run(given.events, given.rate))
    print(json.dumps({"bench": "events", "rate": given.rate, **found}))
    every = [figures for measured in found.values() for figures in measured]
    return 0 if all(figures["inOrder"] and figures["p99"] < LIMIT_SECONDS for figures in every) else 1


if __name__ == "__main__":
    sys.exit(main())
