"""Participants as processes, each making its calls one after another, all of them at once."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from infra import ports
from tests.conformance.participants import ROOT, Command, Participant
from tests.conformance.scenario import DEFAULT, SERVICE, UNITS, Call, call
from tests.waiting import until

LINE_SECONDS = 150.0


@dataclass(frozen=True, slots=True)
class Addresses:
    """A running server."""

    api: str
    grpc: str
    key: str


@dataclass(frozen=True, slots=True)
class Played:
    """What a participant did: each call with its answer, and whose reports it may not have got through."""

    calls: list[tuple[Call, dict[str, Any]]] = field(default_factory=list)
    uncertain: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Pace:
    """`seconds` between a participant's calls, of which there is one for each unit, and more until `enough`.

    `under_way` is set once each participant has made a call, for which it needed the server.
    """

    seconds: float = 0.0
    under_way: asyncio.Event = field(default_factory=asyncio.Event)
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    _missing: set[str] = field(default_factory=set)

    def expect(self, participants: Sequence[Participant]) -> None:
        self._missing.update(one.name for one in participants)

    def begun(self, participant: str) -> None:
        self._missing.discard(participant)
        if not self._missing:
            self.under_way.set()

    async def calls(self, participant: str) -> AsyncIterator[Call]:
        number = 0
        while number < len(UNITS) or not self.enough.is_set():
            yield call(participant, number)
            number += 1
            await asyncio.sleep(self.seconds)


def available(participants: Sequence[Participant]) -> list[Participant]:
    """Those for whom this machine has the tools."""
    return [one for one in participants if all(map(shutil.which, one.needs))]


async def play(
    participants: Sequence[Participant], server: Addresses, folder: Path, pace: Pace
) -> dict[str, Played]:
    """Have the participants make their calls; gives what they did, by name.

    The sidecar has told the server of everything when this returns.
    """
    pace.expect(participants)
    commands = [await asyncio.to_thread(_build, one, folder / one.name) for one in participants]
    async with _sidecar(server, folder) as beside, asyncio.TaskGroup() as group:
        tasks = {
            one.name: group.create_task(
                _play(one, command, beside if one.by_sidecar else server, folder, pace)
            )
            for one, command in zip(participants, commands, strict=True)
        }
    return {name: task.result() for name, task in tasks.items()}


def _build(participant: Participant, folder: Path) -> Command:
    folder.mkdir()
    return participant.program(folder)


async def _play(
    participant: Participant, command: Command, server: Addresses, folder: Path, pace: Pace
) -> Played:
    setup = {
        "api": server.api,
        "grpc": server.grpc,
        "key": server.key,
        "service": SERVICE,
        "endpoint": participant.name,
        "default": DEFAULT,
    }
    path = folder / f"{participant.name}.log"
    played = Played()
    with path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command.arguments,
            json.dumps(setup),
            cwd=command.folder,
            env={**_environment(), "PYTHONPATH": str(ROOT)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
        assert process.stdin is not None
        assert process.stdout is not None

        async def said(after: asyncio.StreamReader) -> dict[str, Any]:
            async with asyncio.timeout(LINE_SECONDS):
                line = await after.readline()
            assert line, f"{participant.name} ended: {path.read_text()[-4000:]}"
            read: dict[str, Any] = json.loads(line)
            return read

        try:
            async for asked in pace.calls(participant.name):
                process.stdin.write(json.dumps(asked).encode() + b"\n")
                played.calls.append((asked, await said(process.stdout)))
                pace.begun(participant.name)
            process.stdin.close()
            last = await said(process.stdout)
            async with asyncio.timeout(LINE_SECONDS):
                assert await process.wait() == 0, path.read_text()[-4000:]
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    played.uncertain.update(last.get("uncertain", ()))
    assert participant.may_drop or last["dropped"] == 0, f"{participant.name} dropped {last['dropped']}"
    assert len(played.uncertain) == last["dropped"]
    return played


@asynccontextmanager
async def _sidecar(upstream: Addresses, folder: Path) -> AsyncIterator[Addresses]:
    """A sidecar of the server, which has delivered everything when the block ends."""
    port = ports.choose(None)
    address = f"http://127.0.0.1:{port}"
    arguments = (
        "sidecar",
        "--upstream",
        upstream.api,
        "--port",
        str(port),
        "--data-dir",
        str(folder / "beside"),
    )
    path = folder / "beside.log"
    with path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli", *arguments),
            cwd=ROOT,
            env={**_environment(), "OPTIMIZER_API_KEY": upstream.key},
            stdout=log,
            stderr=log,
        )
    try:
        async with httpx.AsyncClient(base_url=address, timeout=10) as client:

            async def ready() -> bool:
                assert process.returncode is None, path.read_text()
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            async def delivered() -> bool:
                status = (await client.get("/api/v1/status")).json()
                return bool(status["spool"]["items"] == 0)

            await until(ready)
            yield Addresses(address, upstream.grpc, "")
            await until(delivered)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _environment() -> dict[str, str]:
    """The test's own, without settings of ours or of OpenTelemetry."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("OPTIMIZER_", "OTEL_"))}
