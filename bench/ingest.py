"""What the intake commits, against a raw COPY into the same table: `python -m bench.ingest`.

One `llm-optimizer serve` over a stack of its own takes batches from another process; in turn with it, one
connection copies prepared rows, 1,000 a commit. Rows are counted by SQL, and time ends when the last is seen:
answers count for nothing. Prints one JSON line with the median of the rounds, and exits with 1 where a ratio
falls short of its gate.
"""

import argparse
import asyncio
import itertools
import sys
import time
from collections import defaultdict
from statistics import median
from typing import Any
from urllib.parse import urljoin

import asyncpg
import uvloop

from bench.gates import Gate, concluded
from bench.load import Load, LoadProcess, reports
from bench.replicas import Replicas, replicas
from storage import samples

ROWS_PER_COPY = 1_000
UNLIMITED = {"OPTIMIZER_RATE_LIMITS__REPORTS": "0"}
CONNECTIONS = {100: 32, 1_000: 16}
"""By size of batch."""
SEEN_SECONDS = 60.0
TAKEN_OR_FULL = {"200", "429"}


class Rounds:
    """The paths on one stack, each run with an empty table."""

    def __init__(
        self, where: Replicas, connection: "asyncpg.Connection[asyncpg.Record]", events: int
    ) -> None:
        self._where = where
        self._connection = connection
        self._events = events
        self._prepared = samples.metric_rows(reports(ROWS_PER_COPY, seed=1), lambda *_: None)

    async def copy(self) -> float:
        """Rows a second of a raw COPY, 1,000 a commit."""
        await self._empty()
        received_at = await samples.clock(self._connection)
        rows = [(received_at, *row) for row in self._prepared]
        began = time.perf_counter()
        for _ in range(self._events // ROWS_PER_COPY):
            async with self._connection.transaction():
                await self._connection.copy_records_to_table(
                    "metrics", records=rows, columns=samples.METRIC_COLUMNS
                )
        return self._events / (await self.all_seen() - began)

    async def intake(self, batch: int, ack: str) -> tuple[float, dict[str, Any]]:
        """Rows a second through the API, and what the load tells of its answers."""
        await self._empty()
        client = self._where.clients[0]
        load = Load(
            url=urljoin(str(client.base_url), f"/api/v1/metrics?ack={ack}"),
            key=client.headers["authorization"].removeprefix("Bearer "),
            events=self._events,
            batch=batch,
            connections=CONNECTIONS.get(batch, 16),
        )
        process = await LoadProcess.prepared(load)
        began = time.perf_counter()
        answers = await process.run()
        if (
            answers["statuses"].get("200") != self._events // batch
            or set(answers["statuses"]) > TAKEN_OR_FULL
        ):
            raise RuntimeError(f"not every batch was taken: {answers}")
        return self._events / (await self.all_seen() - began), answers

    async def _empty(self) -> None:
        await self._connection.execute("TRUNCATE metrics")
        await self._connection.execute("CHECKPOINT")

    async def all_seen(self) -> float:
        """When a count found every row."""
        async with asyncio.timeout(SEEN_SECONDS):
            while True:
                asked = time.perf_counter()
                found = await self._connection.fetchval("SELECT count(*) FROM metrics")
                if found == self._events:
                    return asked
                if found > self._events:
                    raise RuntimeError(f"{found} rows of {self._events} events")
                await asyncio.sleep(0.002)


async def run(rounds: int, events: int, batches: list[int], *, limited: bool = False) -> dict[str, Any]:
    """The medians over the rounds, each of which runs every path once."""
    speeds: dict[str, list[float]] = defaultdict(list)
    answers: dict[str, dict[str, Any]] = {}
    async with replicas(1, temporal=False, settings=None if limited else UNLIMITED) as where:
        connection = await samples.connect_for_copy(where.database)
        paths = Rounds(where, connection, events)
        await paths.intake(batches[0], "commit")  # Both sides are warm, and today has its partition.
        for _ in range(rounds):
            speeds["copy"].append(await paths.copy())
            for batch, ack in itertools.product(batches, ("commit", "buffer")):
                name = f"{ack}{batch}"
                speed, answers[name] = await paths.intake(batch, ack)
                speeds[name].append(speed)
        await connection.close()
    return {"rounds": rounds, "events": events, **figures(speeds, answers, batches)}


def figures(
    speeds: dict[str, list[float]], answers: dict[str, dict[str, Any]], batches: list[int]
) -> dict[str, Any]:
    """Medians in rows a second, and of each size of batch the ratios."""
    copied = median(speeds["copy"])
    found: dict[str, Any] = {"copyPerSecond": round(copied)}
    for batch in batches:
        committed, buffered = (median(speeds[f"{ack}{batch}"]) for ack in ("commit", "buffer"))
        found[f"batches{batch}"] = {
            "committedPerSecond": round(committed),
            "bufferedPerSecond": round(buffered),
            "ofCopy": round(committed / copied, 3),
            "bufferedOfCopy": round(buffered / copied, 3),
            "ofBuffered": round(committed / buffered, 3),
            "answers": {ack: answers[f"{ack}{batch}"] for ack in ("commit", "buffer")},
        }
    return found


def judged(found: dict[str, Any], batches: list[int]) -> list[Gate]:
    """The gates of each size of batch."""
    return [
        gate
        for batch in batches
        for gate in (
            Gate(f"committed, batches of {batch} / raw COPY", found[f"batches{batch}"]["ofCopy"], 0.35, 0.5),
            Gate(
                f"committed / buffered, batches of {batch}", found[f"batches{batch}"]["ofBuffered"], 0.6, 0.9
            ),
        )
    ]


def main() -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=100_000, help="a round and path, in thousands")
    parser.add_argument("--batch", type=int, action="append", help="events a request; may be repeated")
    parser.add_argument("--limited", action="store_true", help="leave the default rate limit on")
    given = parser.parse_args()
    batches = given.batch or [100, 1_000]
    found = uvloop.run(run(given.rounds, given.events, batches, limited=given.limited))
    return concluded("ingest", judged(found, batches), **found)


if __name__ == "__main__":
    sys.exit(main())
