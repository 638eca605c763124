import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from infra.embedded import EmbeddedStack

ROOT = Path(__file__).resolve().parents[2]

HOLDER = """
import asyncio, json, sys
from pathlib import Path
from infra.embedded import EmbeddedStack

async def main():
    async with EmbeddedStack(Path(sys.argv[1])) as stack:
        ports = [*stack.postgres.ports, *stack.redis.ports, *stack.temporal.ports]
        print(json.dumps({"ports": ports}), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def runs(process: psutil.Process) -> bool:
    """Whether it has not ended; one that has may wait for its new parent to take notice, as a zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Holder:
    """Another process that runs a stack on a folder."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's process group of its own, for Ctrl-C
        )
        assert self.process.stdout is not None
        self.ports: list[int] = json.loads(self.process.stdout.readline())["ports"]
        self.descendants = psutil.Process(self.process.pid).children(recursive=True)

    def names(self) -> list[str]:
        """Names of the descendants; PostgreSQL's workers come and go, and those that went are left out."""
        names = []
        for process in self.descendants:
            with contextlib.suppress(psutil.NoSuchProcess):
                names.append(process.name())
        return names

    def end(self, number: signal.Signals) -> None:
        """Sends the signal as a terminal does, to the whole process group, and waits for the process."""
        os.killpg(self.process.pid, number)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.wait()

    def still_running(self) -> list[psutil.Process]:
        """What of the stack does not end within the limit of a stop; nothing, hopefully."""
        deadline = time.monotonic() + 20
        while (alive := list(filter(runs, self.descendants))) and time.monotonic() < deadline:
            time.sleep(0.02)
        return alive


@pytest.fixture
def hold() -> Iterator[Callable[[Path], Holder]]:
    """Runs stacks in other processes, which are gone after the test."""
    holders = []

    def start(folder: Path) -> Holder:
        holders.append(Holder(folder))
        return holders[-1]

    yield start
    for holder in holders:
        if holder.process.poll() is None:
            holder.end(signal.SIGKILL)
        for process in holder.still_running():
            process.kill()


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedStack]:
    """One whole stack with time skipping, shared by the module's tests."""
    async with EmbeddedStack(
        tmp_path_factory.mktemp("stack"), time_skipping=True, usual_ports=False
    ) as stack:
        yield stack
