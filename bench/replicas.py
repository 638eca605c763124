"""A fresh stack with several API processes before it, for measuring what passes between them."""

import asyncio
import contextlib
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from infra.embedded import EmbeddedStack
from storage.database import Database
from storage.migrations import upgrade

_SERVING = "serving "
_SERVE = ("-m", "cli", "serve", "--port", "0")
NOWHERE = "127.0.0.1:9"


@dataclass(frozen=True, slots=True)
class Listening:
    """A process that serves at an address."""

    address: str
    pid: int


@dataclass(frozen=True, slots=True)
class Replicas:
    """The database, the API processes, and a client with an admin key for each of them.

    `environment` is that of the processes.
    """

    database: Database
    processes: list[Listening]
    clients: list[httpx.AsyncClient]
    key: str
    environment: dict[str, str]


@contextlib.asynccontextmanager
async def replicas(
    number: int, *, redis: bool = True, temporal: bool = True, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Replicas]:
    """So many API processes over a stack of their own, all gone at the end of the block.

    `settings` are variables of their environment, beside those that name the stack.
    """
    with tempfile.TemporaryDirectory() as folder:
        parts = EmbeddedStack(
            Path(folder),
            temporal_address=None if temporal else NOWHERE,
            temporal_ui=False,
            usual_ports=False,
        )
        async with parts as stack:
            await asyncio.to_thread(upgrade, stack.database_url)
            key = secrets.token_hex(16)
            environment = {
                **{name: value for name, value in os.environ.items() if not name.startswith("OPTIMIZER_")},
                "DATABASE_URL": stack.database_url,
                "TEMPORAL_ADDRESS": stack.temporal_address,
                "OPTIMIZER_API_KEY": key,
                "OPTIMIZER_GRPC_PORT": "0",
                **(settings or {}),
            }
            environment.pop("REDIS_URL", None)
            if redis:
                environment["REDIS_URL"] = stack.redis_url
            database = Database(stack.database_url)
            async with contextlib.AsyncExitStack() as opened:
                opened.push_async_callback(database.close)
                processes = [
                    await opened.enter_async_context(listening(*_SERVE, environment=environment))
                    for _ in range(number)
                ]
                headers = {"Authorization": f"Bearer {key}"}
                clients = [
                    await opened.enter_async_context(
                        httpx.AsyncClient(base_url=process.address, headers=headers, timeout=30)
                    )
                    for process in processes
                ]
                yield Replicas(database, processes, clients, key, environment)


@contextlib.asynccontextmanager
async def listening(*arguments: str, environment: dict[str, str] | None = None) -> AsyncIterator[Listening]:
    """A Python process that says `serving <address>` on standard error; it is ended with the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=environment, stderr=asyncio.subprocess.PIPE
    )
    address = await _address(process)
    # Its log would fill the pipe, and then hold it up.
    drained = asyncio.create_task(process.communicate())
    try:
        yield Listening(address, process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await drained


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    async for line in process.stderr:
        text = line.decode().strip()
        if text.startswith(_SERVING):
            return text.removeprefix(_SERVING)
    raise RuntimeError("a process did not start to serve")


def percentile(values: list[float], share: float) -> float:
    """The nearest-rank percentile of some values."""
    return sorted(values)[max(0, -int(-len(values) * share // 100) - 1)]
