"""Load for `POST /api/v1/metrics` from a process of its own, and the events that it consists of.

`python -m bench.load` reads a `Load` as one line of JSON, answers `ready` once its requests are encoded,
sends them all at the next line, and tells how they were answered as one line of JSON.
"""

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
import numpy as np
import uvloop

from bench.replicas import percentile
from domain.reports import MetricReport

SERVICES, ENDPOINTS = 20, 3
MODELS = (("openai", "gpt-4o"), ("openai", "gpt-4o-mini"), ("anthropic", "claude-sonnet-4"))
DISTINCT_BODIES = 40
FULL = 429
TAKEN_OR_FULL = {"200", str(FULL)}
# Far less than `Retry-After` asks for, so that the server and not the load is what is measured.
BACKOFF_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Load:
    """So many events in batches over so many connections, each with one request under way."""

    url: str
    key: str
    events: int
    batch: int
    connections: int
    seed: int = 1


def reports(count: int, seed: int) -> list[MetricReport]:
    """Calls of several services, endpoints and models, each served by a configuration's version."""
    rng = np.random.default_rng(seed)
    now = time.time_ns() // 1_000_000
    services, endpoints = rng.integers(SERVICES, size=count), rng.integers(ENDPOINTS, size=count)
    models, latencies = rng.integers(len(MODELS), size=count), rng.lognormal(6.2, 0.8, count)
    tokens, failed = rng.integers(1, 4000, size=(count, 2)), rng.random(count) < 0.01
    return [
        MetricReport(
            timestamp=now - int(rng.integers(10_000)),
            service=f"service-{services[n]}",
            endpoint=f"/api/{endpoints[n]}",
            provider=MODELS[models[n]][0],
            model=MODELS[models[n]][1],
            latency_ms=round(float(latencies[n]), 1),
            tokens_input=int(tokens[n, 0]),
            tokens_output=int(tokens[n, 1]),
            tokens_total=int(tokens[n].sum()),
            cost_usd=round(float(tokens[n].sum()) * 5e-6, 6),
            status_code=529 if failed[n] else 200,
            error_type="overloaded" if failed[n] else None,
            tags={"configVersion": f"service-{services[n]}@3"},
        )
        for n in range(count)
    ]


def requests(load: Load) -> list[bytes]:
    """Whole requests as they go over the wire."""
    target = urlsplit(load.url)
    address = urlunsplit(("", "", target.path, target.query, ""))
    head = (
        f"POST {address} HTTP/1.1\r\nHost: {target.netloc}\r\n"
        f"Authorization: Bearer {load.key}\r\nContent-Type: application/json\r\nContent-Length: "
    ).encode()
    distinct = min(DISTINCT_BODIES, -(-load.events // load.batch))
    bodies = [
        msgspec.json.encode({"metrics": _given(reports(load.batch, load.seed + number))})
        for number in range(distinct)
    ]
    return [head + f"{len(body)}\r\n\r\n".encode() + body for body in bodies]


def _given(batch: list[MetricReport]) -> list[dict[str, Any]]:
    """As callers send them, what they leave out left out."""
    return [
        {name: value for name, value in item.items() if value is not None}
        for item in msgspec.to_builtins(batch)
    ]


async def send(load: Load, encoded: list[bytes]) -> dict[str, Any]:
    """Send them, each again while the server is full.

    Gives how many answers had which status, and what those to batches that were taken took in ms.
    """
    statuses: Counter[int] = Counter()
    taken: list[float] = []
    work = itertools.islice(itertools.cycle(encoded), load.events // load.batch)
    await asyncio.gather(*(_connection(load.url, work, statuses, taken) for _ in range(load.connections)))
    return {
        "statuses": dict(statuses),
        **{f"p{share}": round(percentile(taken, share) * 1000, 1) for share in (50, 99)},
    }


async def _connection(url: str, work: Iterator[bytes], statuses: Counter[int], taken: list[float]) -> None:
    target = urlsplit(url)
    reader, writer = await asyncio.open_connection(target.hostname, target.port)
    for request in work:
        status = FULL
        while status == FULL:
            began = time.perf_counter()
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            status = int(head.split(b" ", 2)[1])
            statuses[status] += 1
            if status == FULL:
                await asyncio.sleep(BACKOFF_SECONDS)
        taken.append(time.perf_counter() - began)
    writer.close()
    await writer.wait_closed()


class LoadProcess:
    """The load in a process of its own, ready to begin."""

    def __init__(self, process: asyncio.subprocess.Process, load: Load) -> None:
        self._process = process
        self._batches = load.events // load.batch

    @classmethod
    async def prepared(cls, load: Load) -> "LoadProcess":
        """Start the process, and wait until it has encoded its requests."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.load", stdin=pipe, stdout=pipe
        )
        started = cls(process, load)
        await started._tell(json.dumps(asdict(load)))
        await started._hear()
        return started

    async def run(self) -> dict[str, Any]:
        """Send everything, and give what `send` gives.

        Raises:
            RuntimeError: not every batch was taken in the end, or one was refused though there was room.
        """
        await self._tell("go")
        found: dict[str, Any] = json.loads(await self._hear())
        await self._process.wait()
        statuses = found["statuses"]
        if statuses.get("200") != self._batches or not set(statuses) <= TAKEN_OR_FULL:
            raise RuntimeError(f"not every batch was taken: {found}")
        return found

    async def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()

    async def _hear(self) -> str:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load's process ended early")
        return line.decode()


def main() -> None:
    """Run as the child of a benchmark."""
    load = Load(**json.loads(sys.stdin.readline()))
    encoded = requests(load)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(uvloop.run(send(load, encoded))), flush=True)


if __name__ == "__main__":
    main()
