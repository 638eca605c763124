"""How soon an emergency stop is obeyed: `python -m bench.stop`.

Two API processes serve many scopes, each in the middle of a canary. One is told to stop; the time is from
that call until every answer of both processes is that of the last version known good, for units that had the
canary. Prints one JSON line, and exits with 1 if the p99 over all rounds is a second or more.
"""

import argparse
import asyncio
import json
import sys
import time
from typing import Any

import httpx

from bench.canaries import CANARY, CONTROL, open_canary
from bench.replicas import Replicas, percentile, replicas
from domain.assignment import assigned_to_canary
from storage.database import Database

LIMIT_SECONDS = 1.0
STEP = 2


async def open_canaries(database: Database, scopes: int) -> list[tuple[str, str]]:
    """A rollout in its third step for each of so many services; gives each with a unit of its canary."""
    found = []
    for number in range(scopes):
        service = f"service-{number}"
        deployment_id = await open_canary(database, service, step=STEP)
        units = (f"unit-{number}" for number in range(1_000))
        found.append((service, next(unit for unit in units if assigned_to_canary(deployment_id, unit, 50))))
    return found


async def stop_once(where: Replicas, scopes: int) -> float:
    """Seconds from the call until every process serves what is known good for every scope."""
    served = await open_canaries(where.database, scopes)
    for client in where.clients:
        await _until_model(client, served, CANARY)
    began = time.monotonic()
    order = asyncio.create_task(
        where.clients[0].post("/api/v1/admin/emergency-stop", json={"reason": "a measurement"})
    )
    await asyncio.gather(*(_until_model(client, served, CONTROL) for client in where.clients))
    took = time.monotonic() - began
    (await order).raise_for_status()
    (await where.clients[0].post("/api/v1/admin/resume")).raise_for_status()
    return took


async def _until_model(client: httpx.AsyncClient, served: list[tuple[str, str]], model: str) -> None:
    for service, unit in served:
        while True:
            answer = await client.get(f"/api/v1/config/service/{service}", params={"unit": unit})
            answer.raise_for_status()
            if answer.json()["config"]["model"] == model:
                break


async def run(rounds: int, scopes: int) -> dict[str, Any]:
    """The figures over all rounds, in seconds."""
    async with replicas(2) as where:
        seconds = [await stop_once(where, scopes) for _ in range(rounds)]
    shares = {f"p{share}": round(percentile(seconds, share), 4) for share in (50, 99)}
    return {"rounds": rounds, "scopes": scopes, **shares, "max": round(max(seconds), 4)}


def main() -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--scopes", type=int, default=20)
    given = parser.parse_args()
    found = asyncio.run(run(given.rounds, given.scopes))
    print(json.dumps({"bench": "stop", **found}))
    return 0 if found["p99"] < LIMIT_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
