"""The embedded stack: PostgreSQL, Redis and Temporal, started for the user.

    async with EmbeddedStack(data_dir) as stack:
        stack.database_url, stack.redis_url, stack.temporal_address, stack.temporal_ui

All data lie in one folder (`postgres/`, `redis/`, `temporal/`, `logs/`) and are found again at the
next start. The servers listen on the loopback interface alone, PostgreSQL and Redis with passwords.
They end with this process, however it ends.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from infra.component import Component
from infra.errors import ComponentFailed, StackError
from infra.folder import FolderLock
from infra.postgres import Postgres
from infra.redis_server import Redis
from infra.temporal_server import Temporal

Part = TypeVar("Part", bound=Component)

WATCH_SECONDS = 0.25


class EmbeddedStack:
    """Servers for one data folder, started on entering the context and stopped on leaving it.

    Attributes:
        data_dir: the folder, resolved.
        postgres, redis, temporal: the components, to be stopped, killed and started in tests of
            faults; None where an address was given, before the start and after the end.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        database_url: str | None = None,
        redis_url: str | None = None,
        temporal_address: str | None = None,
        temporal_ui: bool = True,
        time_skipping: bool = False,
        usual_ports: bool = True,
        log: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """Describes the stack; nothing is started yet.

        Args:
            data_dir: made where there is none.
            database_url, redis_url, temporal_address: servers given from outside, which are then not started.
            temporal_ui: whether Temporal's UI runs too.
            usual_ports: whether ports that people know are taken where they are free; else any free ones,
                on which no other stack comes to sit while a component is down.
            time_skipping: whether clients may skip time in workflows, for tests.
            log: receives a line, for the user to read, for what takes long.
        """
        self.data_dir = data_dir.expanduser().resolve()
        self.postgres: Postgres | None = None
        self.redis: Redis | None = None
        self.temporal: Temporal | None = None
        self._database_url = database_url
        self._redis_url = redis_url
        self._temporal_address = temporal_address
        self._temporal_ui = temporal_ui
        self._time_skipping = time_skipping
        self._usual_ports = usual_ports
        self._log = log
        self._folder_lock = FolderLock(self.data_dir)

    @property
    def database_url(self) -> str:
        """`postgresql://USER:PASSWORD@127.0.0.1:PORT/llm_optimizer`, or the one that was given."""
        return self._database_url or started(self.postgres).url

    @property
    def redis_url(self) -> str:
        return self._redis_url or started(self.redis).url

    @property
    def temporal_address(self) -> str:
        return self._temporal_address or started(self.temporal).address

    @property
    def temporal_ui(self) -> str | None:
        """The UI's address, None where Temporal was given or has no UI."""
        return self.temporal.ui_url if self.temporal is not None else None

    async def __aenter__(self) -> "EmbeddedStack":
        """Starts what was not given, all at once.

        Raises:
            FolderInUse: another stack runs on the folder.
            StackError: a component cannot be started; the others have been stopped again.
        """
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            await self._folder_lock.acquire()
        except OSError as error:
            raise StackError(f"the data folder cannot be used: {error}") from error
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.shield(self._stop())

    async def watch(self) -> ComponentFailed:
        """Waits until a component ends without having been stopped, and gives the error that says so."""
        while True:
            for component in self._components():
                if (failure := component.failure()) is not None:
                    return failure
            await asyncio.sleep(WATCH_SECONDS)

    async def _start(self) -> None:
        lock = self._folder_lock.descriptor
        if self._database_url is None:
            self.postgres = Postgres(self.data_dir, lock)
        if self._redis_url is None:
            self.redis = Redis(self.data_dir, lock)
        if self._temporal_address is None:
            self.temporal = Temporal(
                self.data_dir,
                lock,
                ui=self._temporal_ui,
                time_skipping=self._time_skipping,
                log=self._log,
            )
        if not self._usual_ports:
            for component in self._components():
                component.preferred_ports = (None,) * len(component.preferred_ports)
        try:
            async with asyncio.TaskGroup() as group:
                for component in self._components():
                    group.create_task(component.start())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _stop(self) -> None:
        try:
            await asyncio.gather(*(component.stop() for component in self._components()))
        finally:
            self.postgres = self.redis = self.temporal = None
            self._folder_lock.release()

    def _components(self) -> list[Component]:
        return [part for part in (self.postgres, self.redis, self.temporal) if part is not None]


def started(component: Part | None) -> Part:
    if component is None:
        raise RuntimeError("the stack is not running")
    return component
