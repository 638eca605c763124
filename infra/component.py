"""What PostgreSQL, Redis and Temporal have in common as components of the embedded stack."""

import asyncio
import re
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from infra import ports
from infra.errors import ComponentFailed, StackError
from infra.folder import end_leftovers
from infra.privileges import Account
from infra.supervisor import Child, server_environment

PORT_TAKEN = re.compile("address already in use", re.IGNORECASE)
PORT_ATTEMPTS = 5
POLL_SECONDS = 0.02


class Component(ABC):
    """A server with a folder of its own, which can be stopped, killed and started again.

    Life of a start: `prepare` makes what the server needs and gives its program; ports are chosen,
    the preferred ones where they are free; `command` is run; `ready` is asked until it says yes. A
    later start keeps the ports.

    Attributes:
        ports: the ports in use, known from the first start on.
    """

    name: ClassVar[str]
    preferred_ports: tuple[int | None, ...]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    orphan_signal: ClassVar[signal.Signals] = signal.SIGKILL
    start_limit_seconds: ClassVar[float] = 60.0

    def __init__(self, data_dir: Path, lock: int) -> None:
        """Takes the stack's data folder, resolved, and its lock, which the processes keep open."""
        self.folder = data_dir / self.name
        self.log = data_dir / "logs" / f"{self.name}.log"
        self.ports: tuple[int, ...] = ()
        self.account: Account | None = None
        self._lock = lock
        self._child: Child | None = None

    @abstractmethod
    async def prepare(self) -> Path:
        """Makes what is missing in the folder and gives the program to run."""

    @abstractmethod
    def command(self, program: Path) -> Sequence[str | Path]:
        """The command line, for `self.ports`."""

    @abstractmethod
    async def ready(self, pid: int) -> bool:
        """Whether the server, and no other one on its ports, answers."""

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.exit_code is None

    @property
    def pid(self) -> int | None:
        """The server's process, None while it is stopped."""
        return self._child.pid if self._child is not None and self.running else None

    async def start(self) -> None:
        """Starts the server and returns when it answers; no effect where it runs.

        Raises:
            StackError: it cannot be started; of a failed start nothing is left running.
        """
        if self.running:
            return
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.log.parent.mkdir(mode=0o700, exist_ok=True)
            program = await self.prepare()
        except OSError as error:
            raise StackError(f"{self.name} cannot work in {self.folder}: {error}") from error
        await asyncio.to_thread(end_leftovers, program, self.folder)
        attempts = 1 if self.ports else PORT_ATTEMPTS
        for last in range(attempts):
            fixed, self.ports = self.ports, self.ports or tuple(map(ports.choose, self.preferred_ports))
            try:
                self._child = await self._launch(program)
                return
            except ComponentFailed as failure:
                self.ports = fixed
                if last == attempts - 1 or not PORT_TAKEN.search(failure.log_tail):
                    raise

    async def stop(self) -> None:
        """Stops the server in order; no effect where it is stopped."""
        child, self._child = self._child, None
        if child is not None:
            await child.stop()

    async def kill(self) -> None:
        """Ends the server by SIGKILL, as a crash would, with all its processes."""
        child, self._child = self._child, None
        if child is not None:
            await child.kill()

    def failure(self) -> ComponentFailed | None:
        """The error to raise where the server has ended without having been stopped, else None."""
        if self._child is None or self._child.exit_code is None:
            return None
        return self._child.failed(f"ended on its own, with code {self._child.exit_code}")

    async def run_to_end(self, command: Sequence[str | Path], limit: float) -> None:
        """Runs a command of the preparation, into the same log; its failure is the component's."""
        child = await self._spawn(command)
        try:
            code = await child.wait(limit)
        except TimeoutError:
            raise child.failed(f"was not prepared in {limit:.0f} s ({command[0]})") from None
        finally:
            await child.kill()
        if code != 0:
            raise child.failed(f"could not be prepared: {command[0]} ended with code {code}")

    async def _launch(self, program: Path) -> Child:
        child = await self._spawn(self.command(program))
        deadline = time.monotonic() + self.start_limit_seconds
        try:
            while not await self.ready(child.pid):
                if child.exit_code is not None:
                    raise child.failed(f"ended at its start, with code {child.exit_code}")
                if time.monotonic() > deadline:
                    raise child.failed(f"did not answer within {self.start_limit_seconds:.0f} s")
                await asyncio.sleep(POLL_SECONDS)
        except BaseException:
            await asyncio.shield(child.stop())
            raise
        return child

    async def _spawn(self, command: Sequence[str | Path]) -> Child:
        return await Child.start(
            self.name,
            command,
            cwd=self.folder,
            log=self.log,
            environment=server_environment(),
            stop_signal=self.stop_signal,
            orphan_signal=self.orphan_signal,
            account=self.account,
            lock=self._lock,
        )
