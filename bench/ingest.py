"""What the intake commits, against a raw COPY into the same table: `python -m bench.ingest`.

One `llm-optimizer serve` over a stack of its own takes batches from another process; in turn with it, one
connection copies prepared rows, 1,000 a commit. Rows are counted by SQL, and time ends when the last is seen:
answers count for nothing. Then what was committed last is rolled up, as the worker does; and two API
processes take half of the load each, before one database, and in turn with a database for each of them: the
same cores and the same disk, and nothing that they share but these.

Prints one JSON line with the median of the rounds, and exits with 1 where a ratio falls short of its gate.
"""

import argparse
import asyncio
import contextlib
import itertools
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from statistics import median
from typing import Any
from urllib.parse import urljoin

import asyncpg
import uvloop

from bench.gates import Gate, concluded
from bench.load import Load, LoadProcess, reports
from bench.replicas import Replicas, replicas
from storage import samples
from storage.rollups import MARGIN, Roller

ROWS_PER_COPY = 1_000
UNLIMITED = {"OPTIMIZER_RATE_LIMITS__REPORTS": "0"}
CONNECTIONS = {100: 32, 1_000: 16}
"""By size of batch."""
SEEN_SECONDS = 60.0
COEXISTENCE = 0.8


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
        return self._events / (await self.all_seen(self._events) - began)

    async def intake(self, batch: int, ack: str) -> tuple[float, dict[str, Any]]:
        """Rows a second through the API, and what the load tells of its answers."""
        await self._empty()
        load = await self._load(0, batch, ack, 1)
        began = time.perf_counter()
        answers = await load.run()
        return self._events / (await self.all_seen(self._events) - began), answers

    async def side_by_side(self, other: "Rounds", batch: int) -> tuple[float, float]:
        """Rows a second of two processes before one database, and of two that have one each."""
        together = await self._halves(batch, [(self, 0), (self, 1)])
        return together, await self._halves(batch, [(self, 0), (other, 0)])

    async def _halves(self, batch: int, places: list[tuple["Rounds", int]]) -> float:
        """Rows a second of two processes, each of a stack and by its number there, that take half of them."""
        half = self._events // len(places)
        stacks = Counter(stack for stack, _ in places)
        for stack in stacks:
            await stack._empty()
        loads = [await stack._load(number, batch, "commit", len(places)) for stack, number in places]
        began = time.perf_counter()
        await asyncio.gather(*(load.run() for load in loads))
        seen = [await stack.all_seen(half * processes) for stack, processes in stacks.items()]
        return half * len(places) / (max(seen) - began)

    async def _load(self, number: int, batch: int, ack: str, processes: int) -> LoadProcess:
        """What an API process, by its number, is to take: all, or its part where so many share it."""
        return await LoadProcess.prepared(
            Load(
                url=urljoin(self._where.processes[number].address, f"/api/v1/metrics?ack={ack}"),
                key=self._where.key,
                events=self._events // processes,
                batch=batch,
                connections=CONNECTIONS.get(batch, 16) // processes,
            )
        )

    async def rolling(self) -> float:
        """Rows a second of rolling up what was committed last."""
        await asyncio.sleep(2 * MARGIN.total_seconds())
        connection = await self._where.database.connect()
        began = time.perf_counter()
        rolled = await Roller(connection).run()
        seconds = time.perf_counter() - began
        await connection.close()
        if rolled != self._events:
            raise RuntimeError(f"{rolled} reports were rolled up of {self._events}")
        return rolled / seconds

    async def _empty(self) -> None:
        await self._connection.execute("TRUNCATE metrics")
        await self._connection.execute("CHECKPOINT")

    async def all_seen(self, rows: int) -> float:
        """When a count found every row."""
        async with asyncio.timeout(SEEN_SECONDS):
            while True:
                asked = time.perf_counter()
                found = await self._connection.fetchval("SELECT count(*) FROM metrics")
                if found == rows:
                    return asked
                if found > rows:
                    raise RuntimeError(f"{found} rows of {rows} events")
                await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def _on_a_stack(processes: int, events: int, settings: dict[str, str] | None) -> AsyncIterator[Rounds]:
    async with replicas(processes, temporal=False, settings=settings) as where:
        connection = await samples.connect_for_copy(where.database)
        yield Rounds(where, connection, events)
        await connection.close()


async def run(rounds: int, events: int, batches: list[int], *, limited: bool = False) -> dict[str, Any]:
    """The medians over the rounds, each of which runs every path once."""
    speeds: dict[str, list[float]] = defaultdict(list)
    answers: dict[str, dict[str, Any]] = {}
    sides: list[tuple[float, float]] = []
    async with contextlib.AsyncExitStack() as opened:
        settings = None if limited else UNLIMITED
        paths, other = [
            await opened.enter_async_context(_on_a_stack(number, events, settings)) for number in (2, 1)
        ]
        # All are warm, and today has its partition.
        await paths.intake(batches[0], "commit")
        await paths.side_by_side(other, batches[0])
        for _ in range(rounds):
            speeds["copy"].append(await paths.copy())
            for batch, ack in itertools.product(batches, ("commit", "buffer")):
                name = f"{ack}{batch}"
                speed, answers[name] = await paths.intake(batch, ack)
                speeds[name].append(speed)
            speeds["rollingUp"].append(await paths.rolling())
            sides.append(await paths.side_by_side(other, batches[0]))
    return {
        "rounds": rounds,
        "events": events,
        **figures(speeds, answers, batches),
        "twoProcesses": {
            "onePerSecond": round(median(found for found, _ in sides)),
            "eachPerSecond": round(median(apart for _, apart in sides)),
            "ofApart": round(median(found / apart for found, apart in sides), 3),
        },
    }


def figures(
    speeds: dict[str, list[float]], answers: dict[str, dict[str, Any]], batches: list[int]
) -> dict[str, Any]:
    """Medians in rows a second, and of each size of batch the ratios."""
    copied = median(speeds["copy"])
    rolled, committed = median(speeds["rollingUp"]), median(speeds[f"commit{batches[-1]}"])
    found: dict[str, Any] = {
        "copyPerSecond": round(copied),
        "rolledUpPerSecond": round(rolled),
        "rolledUpOfCommitted": round(rolled / committed, 3),
    }
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
    """The gates of each size of batch, of the worker that rolls up, and of two processes."""
    gates = []
    for batch in batches:
        of = found[f"batches{batch}"]
        gates += [
            Gate(f"committed, batches of {batch} / raw COPY", of["ofCopy"], 0.35, 0.5),
            Gate(f"committed / buffered, batches of {batch}", of["ofBuffered"], 0.6, 0.9),
        ]
    return [
        *gates,
        Gate(f"rolled up / committed, batches of {batches[-1]}", found["rolledUpOfCommitted"], 1.0),
        Gate(
            "two processes before one database / with one each", found["twoProcesses"]["ofApart"], COEXISTENCE
        ),
    ]


def main() -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=100_000, help="a round and path, in thousands")
    parser.add_argument("--batch", type=int, action="append", help="events a request; may be repeated")
    parser.add_argument("--limited", action="store_true", help="leave the default rate limit on")
    given = parser.parse_args()
    batches = given.batch or [100, 1_000]
    found = uvloop.run(run(given.rounds, given.events, batches, limited=given.limited))
    return concluded("ingest", judged(found, batches), **found)


if __name__ == "__main__":
    sys.exit(main())
