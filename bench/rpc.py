"""What gRPC costs beside REST: `python -m bench.rpc`.

One `llm-optimizer serve` is asked for a service's configuration and given batches of reports, by gRPC and by
REST in turns, and so is a bare gRPC server whose one method gives as many bytes back. What counts is the
server's own CPU time for an answer: gRPC's Python client is slower than the server. Then streams are opened
and the configuration is changed: how long until the last of them has heard, and what a stream takes in
memory. Prints one JSON line, and exits with 1 where a gate is missed.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeAlias
from urllib.parse import urljoin, urlsplit

import grpc
import httpx
import psutil
import uvloop

from api.grpc.optimizer_pb2 import ConfigRequest, ConfigStreamRequest, ConfigUpdate, Metric, MetricsRequest
from bench import read_load
from bench.canaries import serve_control, serve_model
from bench.gates import Gate, concluded
from bench.load import Load, LoadProcess, reports
from bench.replicas import Listening, Replicas, listening, percentile, replicas
from domain.reports import MetricReport
from infra import ports

SERVICE = "/optimizer.OptimizerService/"
CONFIGURED = "plain"
PATH = f"/api/v1/config/service/{CONFIGURED}"
BATCH = 100
BATCHES = 200
CHANGES = 10
SETTLE_SECONDS = 1.0
OPENING_SECONDS = 60.0
Ask = Callable[[], Awaitable[Any]]
BytesCall: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"


@dataclass(frozen=True, slots=True)
class Effort:
    """How long each figure is measured, by how many callers at a time."""

    seconds: float
    callers: int

    async def calls(self, ask: Ask) -> tuple[int, float]:
        """Make calls; how many, and in how many seconds."""
        answered, began = 0, time.perf_counter()

        async def call() -> None:
            nonlocal answered
            while time.perf_counter() < began + self.seconds:
                await ask()
                answered += 1

        await asyncio.gather(*(call() for _ in range(self.callers)))
        return answered, time.perf_counter() - began

    async def reads(self, process: Listening, key: str, body: str) -> tuple[int, float]:
        """Read by REST, which must answer with the body."""
        address = urlsplit(process.address)
        request = f"GET {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n"
        order = read_load.Order(
            host=address.hostname or "",
            port=address.port or 0,
            requests=[request],
            status=httpx.codes.OK,
            bodies=[body],
            seconds=self.seconds,
            connections=self.callers,
        )
        found = await read_load.run(order)
        if found.wrong is not None:
            raise RuntimeError(found.wrong)
        return found.answered, found.seconds

    async def reports(self, process: Listening, key: str) -> tuple[int, float]:
        """Report by REST."""
        url = urljoin(process.address, "/api/v1/metrics")
        load = await LoadProcess.prepared(Load(url, key, BATCH * BATCHES, BATCH, self.callers))
        began = time.perf_counter()
        answers = await load.run()
        if answers["statuses"] != {"200": BATCHES}:
            raise RuntimeError(f"not every batch was taken: {answers}")
        return BATCHES, time.perf_counter() - began


async def _measured(process: Listening, work: Awaitable[tuple[int, float]]) -> tuple[float, float]:
    """Answers a second, and the process's CPU time for one in microseconds."""
    before = _cpu_seconds(process)
    answered, seconds = await work
    return answered / seconds, (_cpu_seconds(process) - before) / answered * 1e6


def _cpu_seconds(process: Listening) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


def metric_of(report: MetricReport) -> Metric:
    """A report as gRPC has it."""
    return Metric(
        timestamp=report.timestamp,
        service=report.service,
        endpoint=report.endpoint,
        model=report.model,
        provider=report.provider,
        latency_ms=report.latency_ms,
        tokens_input=report.tokens_input,
        tokens_output=report.tokens_output,
        tokens_total=report.tokens_total,
        cost_usd=report.cost_usd,
        status_code=report.status_code,
        error_type=report.error_type,
        tags=report.tags,
    )


async def compare(where: Replicas, channel: grpc.aio.Channel, effort: Effort, rounds: int) -> dict[str, Any]:
    """Reads and reports by both ways, and the bare call; medians over the rounds."""
    process = where.processes[0]
    body = (await where.clients[0].get(PATH)).text
    metadata = (("authorization", f"Bearer {where.key}"),)
    read: BytesCall = channel.unary_unary(f"{SERVICE}GetConfig")
    report: BytesCall = channel.unary_unary(f"{SERVICE}ReportMetrics")
    asked = ConfigRequest(service=CONFIGURED).SerializeToString()
    answer = await read(asked, metadata=metadata)
    message = MetricsRequest(metrics=map(metric_of, reports(BATCH, seed=1))).SerializeToString()
    bare_port = ports.choose(None)
    async with (
        listening("-m", "bench.bare_rpc", str(bare_port), str(len(answer))) as bare,
        grpc.aio.insecure_channel(f"127.0.0.1:{bare_port}") as bare_channel,
    ):
        hello: BytesCall = bare_channel.unary_unary("/bare.Bare/Call")
        cases: dict[str, tuple[Listening, Callable[[], Awaitable[tuple[int, float]]]]] = {
            "bareCall": (bare, lambda: effort.calls(lambda: hello(asked))),
            "getConfig": (process, lambda: effort.calls(lambda: read(asked, metadata=metadata))),
            "restRead": (process, lambda: effort.reads(process, where.key, body)),
            "reportMetrics": (process, lambda: effort.calls(lambda: report(message, metadata=metadata))),
            "restReport": (process, lambda: effort.reports(process, where.key)),
        }
        seen: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, (measured, work) in cases.items():
                seen[name].append(await _measured(measured, work()))
    return {
        name: {
            "perSecond": round(median(per_second for per_second, _ in found)),
            "micros": round(median(micros for _, micros in found), 1),
        }
        for name, found in seen.items()
    }


async def stream(where: Replicas, channel: grpc.aio.Channel, number: int) -> dict[str, Any]:
    """So many streams: what they take, and how soon they hear of changes, in ms from before the change."""
    process, metadata = where.processes[0], (("authorization", f"Bearer {where.key}"),)
    opened: grpc.aio.UnaryStreamMultiCallable[bytes, ConfigUpdate] = channel.unary_stream(
        f"{SERVICE}StreamConfig", response_deserializer=ConfigUpdate.FromString
    )
    before = psutil.Process(process.pid).memory_info().rss
    streams = [
        opened(
            ConfigStreamRequest(service=CONFIGURED, unit=f"unit-{n}").SerializeToString(), metadata=metadata
        )
        for n in range(number)
    ]
    async with asyncio.timeout(OPENING_SECONDS):
        await asyncio.gather(*(one.read() for one in streams))
    memory = (psutil.Process(process.pid).memory_info().rss - before) / number
    heard: list[float] = []
    last: list[float] = []
    for change in range(CHANGES):
        await asyncio.sleep(SETTLE_SECONDS)
        began = time.perf_counter()
        waiting = [asyncio.create_task(_hears(one, f"model-{change}", began)) for one in streams]
        await serve_model(where.database, CONFIGURED, f"model-{change}")
        latencies = await asyncio.gather(*waiting)
        heard += latencies
        last.append(max(latencies))
    for one in streams:
        one.cancel()
    return {
        "bytesEach": round(memory),
        **{f"p{share}": round(percentile(heard, share) * 1000, 1) for share in (50, 99)},
        "lastOfAll": round(max(last) * 1000, 1),
    }


async def _hears(stream: Any, model: str, began: float) -> float:
    while (await stream.read()).config.model != model:
        pass
    return time.perf_counter() - began


async def run(rounds: int, seconds: float, callers: int, streams: int) -> dict[str, Any]:
    """All figures; `micros` of the server's CPU time for an answer."""
    port = ports.choose(None)
    settings = {
        "OPTIMIZER_GRPC_PORT": str(port),
        "OPTIMIZER_RATE_LIMITS__REPORTS": "0",
        "OPTIMIZER_RATE_LIMITS__READS": "0",
    }
    async with (
        replicas(1, temporal=False, settings=settings) as where,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        await serve_control(where.database, CONFIGURED)
        while (await where.clients[0].get(PATH)).is_error:  # noqa: ASYNC110  # the server tells nobody
            await asyncio.sleep(0.05)
        calls = await compare(where, channel, Effort(seconds, callers), rounds)
        micros = {name: figures["micros"] for name, figures in calls.items()}
        ratios = {
            "bareCallOfGetConfig": round(micros["bareCall"] / micros["getConfig"], 3),
            "restReadOfGetConfig": round(micros["restRead"] / micros["getConfig"], 3),
            "restReportOfReportMetrics": round(micros["restReport"] / micros["reportMetrics"], 3),
        }
        return {"calls": calls, "ratios": ratios, "stream": await stream(where, channel, streams)}


def judged(found: dict[str, Any]) -> list[Gate]:
    """The gates: of CPU time, and of what streams wait for."""
    ratios = found["ratios"]
    return [
        Gate("CPU of a bare gRPC call / of GetConfig", ratios["bareCallOfGetConfig"], 0.5, 0.7),
        Gate("CPU of a REST report / of ReportMetrics", ratios["restReportOfReportMetrics"], 0.3, 0.8),
        Gate("ms until the last stream has heard", found["stream"]["lastOfAll"], 1000, 300, ceiling=True),
    ]


def main() -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of load for each figure (2)")
    parser.add_argument("--callers", type=int, default=32)
    parser.add_argument("--streams", type=int, default=1000)
    given = parser.parse_args()
    found = uvloop.run(run(given.rounds, given.seconds, given.callers, given.streams))
    return concluded("rpc", judged(found), **vars(given), **found)


if __name__ == "__main__":
    sys.exit(main())
