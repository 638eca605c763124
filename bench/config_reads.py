"""What a configuration read costs: `python -m bench.config_reads`.

One API process is asked over kept connections, and so is the least that an ASGI application can do, on the
same server with the same settings, before and after each kind of read. Reads are of the global configuration
and of services, with a unit and without, with a rollout at 25 % and without, changed and unchanged
(`If-None-Match`). The ratio is that of answers a second; the server's CPU time for each is told beside it,
and how many times that of a read without a rollout one with a rollout takes. Then two API processes are asked
at the same time, and one alone. Prints one JSON line, and exits with 1 if a ratio falls short.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from bench import hello, read_load
from bench.canaries import CANARY, CONTROL, open_canary, serve_control
from bench.gates import Gate, concluded
from bench.read_load import Load, Order
from bench.replicas import Listening, Replicas, listening, replicas
from domain.scope import GLOBAL
from storage.database import Database

COEXISTENCE = 0.8
ROLLOUT_COSTS = 1.5
"""How many times the CPU time of a read without a rollout one with a rollout may take."""
CHANGED, UNCHANGED = 0.65, 0.9
CHANGED_STRETCH, UNCHANGED_STRETCH = 0.80, 1.1
PLAIN, ROLLING = "plain", "rolling"
STEP, PERCENT = 1, 25
PATH = "/api/v1/config"
KNOWN_UNITS = 100
# More than the addresses that a server remembers, so that each is new to it.
NEW_UNITS = 50_000


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of read, in turns of requests that any of some bodies answers."""

    name: str
    requests: list[str]
    bodies: list[str]
    status: int = 200

    @property
    def gate(self) -> float:
        """The least ratio to the raw application that will do."""
        return CHANGED if self.status == httpx.codes.OK else UNCHANGED

    @property
    def stretch(self) -> float:
        """The ratio that is hoped for."""
        return CHANGED_STRETCH if self.status == httpx.codes.OK else UNCHANGED_STRETCH


@dataclass(frozen=True, slots=True)
class Measured:
    """A process under load. `micros` is its CPU time for an answer, `load` what the generator saw."""

    load: Load
    cpu_seconds: float

    @property
    def micros(self) -> float:
        return self.cpu_seconds / self.load.answered * 1e6

    @property
    def busy(self) -> float:
        """The part of the time in which the process computed."""
        return self.cpu_seconds / self.load.seconds


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and by how many connections each measurement is made."""

    seconds: float
    connections: int

    async def measure(self, process: Listening, case: Case) -> Measured:
        """Put a process under load.

        Raises:
            RuntimeError: an answer was not what it should be.
        """
        address = urlsplit(process.address)
        order = Order(
            host=address.hostname or "",
            port=address.port or 0,
            requests=case.requests,
            status=case.status,
            bodies=case.bodies,
            seconds=self.seconds,
            connections=self.connections,
        )
        before = _cpu_seconds(process)
        found = await read_load.run(order)
        if found.wrong is not None:
            raise RuntimeError(f"{case.name}: {found.wrong}")
        return Measured(found, _cpu_seconds(process) - before)


def _cpu_seconds(process: Listening) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


async def cases(where: Replicas) -> list[Case]:
    """Every kind of read, over a global configuration, a service's, and one with a rollout."""
    deployment_id = await _configure(where.database)
    client = where.clients[0]
    for other in where.clients:
        await _until_rolling(other, deployment_id)
    known = [f"user-{number}" for number in range(KNOWN_UNITS)]
    new = [f"customer-{number}" for number in range(NEW_UNITS)]
    found = [await _case(where, "current", [f"{PATH}/current"], 1)]
    rows = []
    for name, service, bodies in (("service", PLAIN, 1), ("rollout", ROLLING, 2)):
        path = f"{PATH}/service/{service}"
        units = [f"{path}?unit={unit}" for unit in known]
        rows.append(
            [
                await _case(where, name, [path], bodies),
                await _case(where, f"{name}Unit", units, bodies),
                await _case(where, f"{name}NewUnit", [f"{path}?unit={unit}" for unit in new], bodies),
                await _unchanged(client, where, f"{name}Unchanged", units),
            ]
        )
    # Each without a rollout and with one, one after the other: a shared machine is not as fast a while later.
    return found + [case for pair in zip(*rows, strict=True) for case in pair]


async def _configure(database: Database) -> str:
    for scope in (GLOBAL, PLAIN):
        await serve_control(database, scope)
    return await open_canary(database, ROLLING, step=STEP)


async def _until_rolling(client: httpx.AsyncClient, deployment_id: str) -> None:
    while True:
        answer = await client.get(f"{PATH}/service/{ROLLING}")
        rollout = answer.json().get("rollout", {})
        if (rollout.get("deploymentId"), rollout.get("trafficPercent")) == (deployment_id, PERCENT):
            return
        await asyncio.sleep(0.05)


async def _case(where: Replicas, name: str, targets: list[str], bodies: int) -> Case:
    """A read of some addresses, which so many different bodies answer."""
    found: set[str] = set()
    while len(found) < bodies:
        for target in targets[:KNOWN_UNITS]:
            found.add((await where.clients[0].get(target)).raise_for_status().text)
    models = {json.loads(body)["config"]["model"] for body in found}
    assert models == {CONTROL, CANARY} if bodies > 1 else {CONTROL}, models
    return Case(name, [_request(target, where.key) for target in targets], sorted(found))


async def _unchanged(client: httpx.AsyncClient, where: Replicas, name: str, targets: list[str]) -> Case:
    requests = []
    for target in targets:
        etag = (await client.get(target)).raise_for_status().headers["etag"]
        requests.append(_request(target, where.key, f"If-None-Match: {etag}\r\n"))
    return Case(name, requests, [""], status=httpx.codes.NOT_MODIFIED)


def _request(target: str, key: str, more: str = "") -> str:
    return (
        f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nAuthorization: Bearer {key}\r\n"
        f"User-Agent: bench\r\n{more}\r\n"
    )


async def compare(where: Replicas, measured: list[Case], effort: Effort, rounds: int) -> dict[str, Any]:
    """Each case beside the raw application, which is measured before and after each."""
    raw = Case("hello", [_request("/", where.key)], [hello.BODY.decode()])
    seen: dict[str, list[Measured]] = {case.name: [] for case in measured}
    limits: dict[str, list[tuple[Measured, Measured]]] = {case.name: [] for case in measured}
    async with listening("-m", "bench.hello") as limit:
        for _ in range(rounds):
            before = await effort.measure(limit, raw)
            for case in measured:
                seen[case.name].append(await effort.measure(where.processes[0], case))
                after = await effort.measure(limit, raw)
                limits[case.name].append((before, after))
                before = after

    def around(name: str, value: Callable[[Measured], float]) -> list[float]:
        return [(value(before) + value(after)) / 2 for before, after in limits[name]]

    figures = {
        case.name: {
            "status": case.status,
            "perSecond": round(median(one.load.per_second for one in seen[case.name])),
            "micros": round(median(one.micros for one in seen[case.name]), 1),
            "busy": round(median(one.busy for one in seen[case.name]), 2),
            "ratio": _ratio([_speed(one) for one in seen[case.name]], around(case.name, _speed)),
            "cpuRatio": _ratio(around(case.name, _micros), [_micros(one) for one in seen[case.name]]),
            "gate": case.gate,
            "stretch": case.stretch,
        }
        for case in measured
    }
    raws = [one for pairs in limits.values() for pair in pairs for one in pair]
    raw_figures = {
        "perSecond": round(median(map(_speed, raws))),
        "micros": round(median(map(_micros, raws)), 1),
    }
    return {"hello": raw_figures, "reads": figures, "rolloutCosts": _rollout_costs(seen)}


def _speed(measured: Measured) -> float:
    return measured.load.per_second


def _micros(measured: Measured) -> float:
    return measured.micros


def _rollout_costs(seen: dict[str, list[Measured]]) -> dict[str, float]:
    """How many times the CPU time of a read without a rollout one with a rollout takes."""
    return {
        with_unit: _ratio(
            [one.micros for one in seen[f"rollout{with_unit}"]],
            [one.micros for one in seen[f"service{with_unit}"]],
        )
        for with_unit in ("", "Unit", "NewUnit", "Unchanged")
    }


def _ratio(values: list[float], limits: list[float]) -> float:
    return round(median(value / limit for value, limit in zip(values, limits, strict=True)), 3)


async def side_by_side(where: Replicas, case: Case, effort: Effort, rounds: int) -> dict[str, Any]:
    """One process alone, then both at once, each with a generator of its own."""
    one, other = where.processes
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    costs, totals, allowed = [], [], []
    halved = replace(effort, connections=max(1, effort.connections // 2))
    for _ in range(rounds):
        alone = await halved.measure(one, case)
        both = await asyncio.gather(halved.measure(one, case), halved.measure(other, case))
        costs.append(sum(each.micros for each in both) / 2 / alone.micros)
        totals.append(sum(each.load.per_second for each in both) / alone.load.per_second)
        needed = (alone.cpu_seconds + alone.load.cpu_seconds) / alone.load.answered
        allowed.append(min(2.0, cores / needed / alone.load.per_second))
    return {
        "cores": cores,
        "throughput": round(median(totals), 3),
        "coresAllow": round(median(allowed), 3),
        "cpuPerAnswer": round(median(costs), 3),
    }


async def run(rounds: int, seconds: float, connections: int) -> dict[str, Any]:
    """All figures, medians over the rounds; `micros` of the server's CPU time."""
    effort = Effort(seconds, connections)
    async with replicas(2, temporal=False) as where:
        measured = await cases(where)
        found = await compare(where, measured, effort, rounds)
        plain = next(case for case in measured if case.name == "serviceUnit")
        return found | {"twoProcesses": await side_by_side(where, plain, effort, rounds)}


def judged(found: dict[str, Any]) -> list[Gate]:
    """The gates: of each read, of what a rollout adds to it, and of two processes at once."""
    reads = [
        Gate(f"read {name} / raw ASGI", figures["ratio"], figures["gate"], figures["stretch"])
        for name, figures in found["reads"].items()
    ]
    both = found["twoProcesses"]
    explained = round(both["throughput"] / both["coresAllow"], 3)
    costs = [
        Gate(f"CPU of rollout{name} / service{name}", ratio, ROLLOUT_COSTS, ceiling=True)
        for name, ratio in found["rolloutCosts"].items()
    ]
    return [*reads, *costs, Gate("two processes / what the cores allow", explained, COEXISTENCE)]


def main() -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.7, help="of load for each figure (0.7)")
    parser.add_argument("--connections", type=int, default=64)
    given = parser.parse_args()
    found = asyncio.run(run(given.rounds, given.seconds, given.connections))
    return concluded("configReads", judged(found), **vars(given), **found)


if __name__ == "__main__":
    sys.exit(main())
