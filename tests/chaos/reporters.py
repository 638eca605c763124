"""Applications that report at a steady rate, and again whatever was not acknowledged."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import httpx

from tests.chaos.processes import API_KEY
from tests.waiting import until

BATCH = 100
REPORTERS = 20
RETRY_SECONDS = 0.05
AT = time.time_ns() // 1_000_000


def batch(number: int) -> bytes:
    """A hundred calls, each with a name of its own; the same whenever the batch is sent."""
    call = {
        "timestamp": AT,
        "service": f"service-{number % 7}",
        "endpoint": "/api/chat",
        "provider": "openai",
        "model": "gpt-4o",
        "latencyMs": 120.5,
        "tokensInput": 10,
        "tokensOutput": 20,
        "tokensTotal": 30,
        "statusCode": 200,
    }
    calls = [call | {"tags": {"requestId": f"{number}-{n}"}} for n in range(BATCH)]
    return json.dumps({"metrics": calls}).encode()


@dataclass
class Reporters:
    """Who sends numbered batches, each until it is acknowledged.

    `acknowledged` has their numbers in the order of their answers. `refused` has the answers other than
    success; where the server was not there at all nothing is noted.
    """

    client: httpx.AsyncClient
    ack: str
    acknowledged: list[int] = field(default_factory=list)
    refused: list[httpx.Response] = field(default_factory=list)

    async def send(self, number: int) -> None:
        """Send one batch until it is acknowledged."""
        body = batch(number)
        headers = {"Idempotency-Key": f"batch-{number}", "Content-Type": "application/json"}
        while True:
            try:
                answer = await self.client.post(
                    "/api/v1/metrics", params={"ack": self.ack}, content=body, headers=headers
                )
            except httpx.TransportError:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if answer.status_code == 200:
                self.acknowledged.append(number)
                return
            self.refused.append(answer)
            await asyncio.sleep(RETRY_SECONDS)

    async def run(self, batches: int, events_per_second: int) -> None:
        """Send so many batches at a rate, as far as the server keeps up."""
        await self.run_all(range(batches), events_per_second)

    async def run_all(self, wanted: Iterable[int], events_per_second: int) -> None:
        """Send the batches of these numbers, likewise."""
        began, numbers = time.monotonic(), enumerate(wanted)

        async def report() -> None:
            for place, number in numbers:
                due = began + place * BATCH / events_per_second
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await self.send(number)

        await asyncio.gather(*(report() for _ in range(REPORTERS)))

    async def until_acknowledged(self, batches: int) -> None:
        """Return once so many batches are."""

        async def so_many() -> bool:
            return len(self.acknowledged) >= batches

        await until(so_many)


@asynccontextmanager
async def reporters(address: str, ack: str = "commit") -> AsyncIterator[Reporters]:
    """Applications that report to an address."""
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with httpx.AsyncClient(base_url=address, headers=headers, timeout=30) as client:
        yield Reporters(client, ack)


async def stored(connection: "asyncpg.Connection[asyncpg.Record]") -> list[int]:
    """The numbers of the batches that are stored, of which none is there in part or twice."""
    rows = await connection.fetch(
        "SELECT split_part(request_id, '-', 1)::int AS batch, count(*) AS calls, "
        "count(DISTINCT request_id) AS names FROM metrics GROUP BY 1 ORDER BY 1"
    )
    assert {(row["calls"], row["names"]) for row in rows} <= {(BATCH, BATCH)}
    return [row["batch"] for row in rows]
