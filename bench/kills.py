"""What a killed API process loses of 10,000 reports a second: `python -m bench.kills`.

Numbered batches are offered at that rate, each until it is acknowledged, while `llm-optimizer serve` is ended
by SIGKILL and started again at its address, several times; answered after the commit, and then from the
buffer. Then what was acknowledged is looked for in the table. Last, every batch is sent once more under its
`Idempotency-Key`: each is to be there, and once.

Prints one JSON line, and exits with 1 where a gate is missed.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx
import msgspec

from bench.gates import Gate, concluded
from bench.replicas import Replicas, listening, replicas
from infra import ports
from storage.intake import EARLY_CAPACITY

BATCH = 100
SENDERS = 20
RETRY_SECONDS = 0.05
RETRYABLE = {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}
UNLIMITED = {"OPTIMIZER_RATE_LIMITS__REPORTS": "0"}
MODES = ("commit", "buffer")
REACHED = 0.9
"""The part of the rate that is to be reached in the second before a kill."""

_STORED = """
    SELECT split_part(request_id, '-', 2)::int AS batch, count(*) AS n, count(DISTINCT request_id) AS names
    FROM metrics GROUP BY 1
"""


@dataclass
class Sender:
    """Who sends numbered batches in a mode; `acknowledged` has when each was, by its number."""

    client: httpx.AsyncClient
    mode: str
    bodies: list[bytes]
    acknowledged: dict[int, float] = field(default_factory=dict)

    async def offer(self, rate: int) -> None:
        """Send all at so many reports a second, as far as the server keeps up."""
        began = time.monotonic()

        def due() -> Iterator[tuple[int, float]]:
            for number in range(len(self.bodies)):
                yield number, began + number * BATCH / rate

        await self._share(due())

    async def repeat(self) -> None:
        """Send all once more."""
        await self._share((number, 0.0) for number in range(len(self.bodies)))

    async def _share(self, due: Iterable[tuple[int, float]]) -> None:
        each = iter(due)

        async def work() -> None:
            for number, at in each:
                await asyncio.sleep(max(0.0, at - time.monotonic()))
                while True:
                    if await self._taken(number):
                        break
                    await asyncio.sleep(RETRY_SECONDS)
                self.acknowledged.setdefault(number, time.monotonic())

        await asyncio.gather(*(work() for _ in range(SENDERS)))

    async def _taken(self, number: int) -> bool:
        headers = {"Idempotency-Key": f"{self.mode}-{number}", "Content-Type": "application/json"}
        try:
            answer = await self.client.post(
                "/api/v1/metrics", params={"ack": self.mode}, content=self.bodies[number], headers=headers
            )
        except httpx.TransportError:
            return False
        if answer.status_code in RETRYABLE:
            return False
        answer.raise_for_status()
        return True

    async def until_acknowledged(self, batches: int) -> None:
        """Return once so many are."""
        while True:
            if len(self.acknowledged) >= batches:
                return
            await asyncio.sleep(RETRY_SECONDS / 10)

    def of_the_last_second(self) -> int:
        """How many reports were acknowledged in it."""
        since = time.monotonic() - 1
        return BATCH * sum(at > since for at in self.acknowledged.values())


def bodies(mode: str, count: int) -> list[bytes]:
    """So many batches of calls, each call with a name of its own."""
    call = {
        "timestamp": time.time_ns() // 1_000_000,
        "endpoint": "/api/chat",
        "provider": "openai",
        "model": "gpt-4o",
        "latencyMs": 120.5,
        "tokensInput": 10,
        "tokensOutput": 20,
        "tokensTotal": 30,
        "statusCode": 200,
    }
    return [
        msgspec.json.encode(
            {
                "metrics": [
                    call | {"service": f"service-{number % 7}", "tags": {"requestId": f"{mode}-{number}-{n}"}}
                    for n in range(BATCH)
                ]
            }
        )
        for number in range(count)
    ]


async def killed(where: Replicas, mode: str, *, kills: int, batches: int, rate: int) -> dict[str, Any]:
    """What became of so many batches while the server was killed so often."""
    serve = ("-m", "cli", "serve", "--port", str(ports.choose(None)))
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {where.key}"}, timeout=30) as client:
        sender = Sender(client, mode, bodies(mode, batches))
        reached, marks = [], []
        offering: asyncio.Task[None] | None = None
        for number in range(1, kills + 1):
            async with listening(*serve, environment=where.environment) as process:
                client.base_url = httpx.URL(process.address)
                offering = offering or asyncio.create_task(sender.offer(rate))
                await sender.until_acknowledged(batches * number // (kills + 1))
                reached.append(sender.of_the_last_second())
                marks.append(len(sender.acknowledged))
                os.kill(process.pid, signal.SIGKILL)
        # The end of the block lets it write its buffer.
        async with listening(*serve, environment=where.environment):
            await asyncio.gather(*filter(None, [offering]))
        stored, acknowledged = await _stored(where), list(sender.acknowledged)
        lost = [
            sum(BATCH - stored.get(number, (0, 0))[1] for number in acknowledged[since:until])
            for since, until in pairwise([0, *marks, len(acknowledged)])
        ]
        async with listening(*serve, environment=where.environment):
            await sender.repeat()
        again = await _stored(where)
    return {
        "reports": batches * BATCH,
        "offeredPerSecond": rate,
        "reachedPerSecond": reached,
        "lost": lost,
        "duplicates": sum(n - names for of in (stored, again) for n, names in of.values()),
        "lostAfterRetry": sum(BATCH - again.get(number, (0, 0))[1] for number in range(batches)),
    }


async def _stored(where: Replicas) -> dict[int, tuple[int, int]]:
    """By batch, how many reports there are and how many different ones."""
    connection = await where.database.connect()
    try:
        return {row["batch"]: (row["n"], row["names"]) for row in await connection.fetch(_STORED)}
    finally:
        await connection.close()


async def run(kills: int, batches: int, rate: int) -> dict[str, Any]:
    """The figures of each mode."""
    found = {}
    for mode in MODES:
        async with replicas(0, temporal=False, settings=UNLIMITED) as where:
            found[mode] = await killed(where, mode, kills=kills, batches=batches, rate=rate)
    return found


def judged(found: dict[str, Any]) -> list[Gate]:
    """The gates of each mode."""
    bounds = {"commit": 0, "buffer": EARLY_CAPACITY}
    return [
        gate
        for mode, figures in found.items()
        for gate in (
            Gate(
                f"acknowledged and lost by a kill, {mode}", max(figures["lost"]), bounds[mode], ceiling=True
            ),
            Gate(f"duplicates after the retry, {mode}", figures["duplicates"], 0, ceiling=True),
            Gate(f"lost after the retry, {mode}", figures["lostAfterRetry"], 0, ceiling=True),
            Gate(
                f"reached before a kill / offered, {mode}",
                round(min(figures["reachedPerSecond"]) / figures["offeredPerSecond"], 2),
                REACHED,
            ),
        )
    ]


def main() -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--batches", type=int, default=1_200, help="of 100 reports")
    parser.add_argument("--rate", type=int, default=10_000, help="reports a second")
    given = parser.parse_args()
    # httpx asks a connection for its socket, of which uvloop knows nothing once the server is gone.
    found = asyncio.run(run(given.kills, given.batches, given.rate))
    return concluded("kills", judged(found), **found)


if __name__ == "__main__":
    sys.exit(main())
