"""Where the time of a report's intake goes: `python -m bench.stages`.

Microseconds of CPU per report, of each stage by itself in this process, and of a whole `llm-optimizer serve`
under load; what the stages leave of that is HTTP, the event loop and the grouping of batches. Prints one JSON
line. There is no gate: this explains those of `bench.ingest`. With `--draw FOLDER` such a server runs under
cProfile as well, and `ingest.svg` is drawn of the functions that its time goes to.
"""

import argparse
import asyncio
import itertools
import os
import pstats
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import matplotlib as mpl
import psutil
from matplotlib.figure import Figure

from bench.gates import concluded
from bench.load import Load, LoadProcess, reports, requests
from bench.replicas import Replicas, listening, replicas
from domain.label_limits import LabelLimits
from domain.reports import parse_metrics
from storage import samples
from storage.partitions import ensure_partitions

BATCH = 100
CONNECTIONS = 32
FUNCTIONS = 20
"""How many are drawn."""
UNLIMITED = {"OPTIMIZER_RATE_LIMITS__REPORTS": "0"}


async def run(events: int) -> dict[str, Any]:
    """The figures, from so many events each."""
    given = [reports(BATCH, seed) for seed in range(events // BATCH)]
    load = Load("http://127.0.0.1:1/api/v1/metrics", "key", events, BATCH, CONNECTIONS)
    bodies = [request.partition(b"\r\n\r\n")[2] for request in requests(load)]
    now, limits = time.time_ns() // 1_000_000 + 60_000, LabelLimits()
    decoding = _micros(events, lambda: [parse_metrics(body, now, limits) for body in _cycled(bodies, events)])
    rows: list[samples.Row] = []

    def make_rows() -> None:
        for batch in given:
            rows.extend(samples.metric_rows(batch, lambda *_: None))

    making = _micros(events, make_rows)
    async with replicas(1, temporal=False, settings=UNLIMITED) as where:
        copying = await _copied(where, rows)
        served = await _served(where, events)
    stages = {"decodeAndJudge": decoding, "makeRows": making, "copy": copying}
    return {
        "events": events,
        "micros": {
            **stages,
            "serve": served,
            "httpAndLoop": round(served - sum(stages.values()), 2),
        },
    }


def _cycled(bodies: list[bytes], events: int) -> "itertools.islice[bytes]":
    return itertools.islice(itertools.cycle(bodies), events // BATCH)


def _micros(events: int, work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return round((time.process_time() - began) / events * 1e6, 2)


async def _copied(where: Replicas, rows: list[samples.Row]) -> float:
    connection = await samples.connect_for_copy(where.database)
    await ensure_partitions(connection)
    received_at = await samples.clock(connection)
    began = time.process_time()
    for first in range(0, len(rows), 5_000):
        await samples.copy_rows(connection, "metrics", rows[first : first + 5_000], received_at)
    seconds = time.process_time() - began
    await connection.close()
    return round(seconds / len(rows) * 1e6, 2)


async def _served(where: Replicas, events: int) -> float:
    process = psutil.Process(where.processes[0].pid)
    address = urljoin(where.processes[0].address, "/api/v1/metrics")
    load = await LoadProcess.prepared(Load(address, where.key, events, BATCH, CONNECTIONS))
    before = process.cpu_times()
    await load.run()
    after = process.cpu_times()
    return round((after.user + after.system - before.user - before.system) / events * 1e6, 2)


async def draw(folder: Path, events: int) -> None:
    """Write `ingest.svg` into a folder: what the functions of a server under load take by themselves."""
    with tempfile.TemporaryDirectory() as made:
        written = str(Path(made) / "profile")
        async with (
            replicas(0, temporal=False, settings=UNLIMITED) as where,
            listening("-m", "bench.profiled", written, environment=where.environment) as process,
        ):
            address = urljoin(process.address, "/api/v1/metrics")
            load = await LoadProcess.prepared(Load(address, where.key, events, BATCH, CONNECTIONS))
            os.kill(process.pid, signal.SIGUSR1)
            await load.run()
        stats = pstats.Stats(written).stats  # type: ignore[attr-defined]  # typeshed leaves it out
    # By file, line and name: calls, calls without recursion, seconds by itself and with what it calls.
    own = {_named(*function): seconds for function, (_, _, seconds, *_) in stats.items()}
    taken = sorted(own.items(), key=lambda item: item[1])[-FUNCTIONS:]
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    axes.barh([name for name, _ in taken], [seconds / events * 1e6 for _, seconds in taken])
    axes.set_xlabel("microseconds of a report, by itself, under cProfile")
    axes.spines[["top", "right"]].set_visible(False)
    with mpl.rc_context({"svg.hashsalt": "ingest", "font.size": 9, "svg.fonttype": "none"}):
        figure.savefig(folder / "ingest.svg", metadata={"Date": None})


def _named(file: str, line: int, function: str) -> str:
    """The function with the place where it is."""
    return function if file == "~" else f"{Path(file).parent.name}/{Path(file).name}:{line} {function}"


def main() -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="in hundreds")
    parser.add_argument("--draw", type=Path, metavar="FOLDER", help="draw a profile into it as well")
    given = parser.parse_args()
    if given.draw is not None:
        asyncio.run(draw(given.draw, given.events))
    return concluded("stages", [], **asyncio.run(run(given.events)))


if __name__ == "__main__":
    sys.exit(main())
