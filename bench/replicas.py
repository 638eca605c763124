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
NOWHERE = "127.0.0.1:9"


@dataclass(frozen=True, slots=True)
class Replicas:
    """The database, and a client with an admin key for each API process."""

    database: Database
    clients: list[httpx.AsyncClient]


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
            environment = {
                **{name: value for name, value in os.environ.items() if not name.startswith("OPTIMIZER_")},
                "DATABASE_URL": stack.database_url,
                "TEMPORAL_ADDRESS": stack.temporal_address,
                "OPTIMIZER_API_KEY": secrets.token_hex(16),
                **(settings or {}),
            }
            environment.pop("REDIS_URL", None)
            if redis:
                environment["REDIS_URL"] = stack.redis_url
            database = Database(stack.database_url)
            async with contextlib.AsyncExitStack() as opened:
                opened.push_async_callback(database.close)
                clients = [await opened.enter_async_context(_replica(environment)) for _ in range(number)]
                yield Replicas(database, clients)


@contextlib.asynccontextmanager
async def _replica(environment: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "cli", "serve", "--port", "0"),
        env=environment,
        stderr=asyncio.subprocess.PIPE,
    )
    address = await _address(process)
    # Its log would fill the pipe, and then hold it up.
    drained = asyncio.create_task(process.communicate())
    try:
        headers = {"Authorization": f"Bearer {environment['OPTIMIZER_API_KEY']}"}
        async with httpx.AsyncClient(base_url=address, headers=headers, timeout=30) as client:
            yield client
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
    raise RuntimeError("an API process did not start")


def percentile(values: list[float], share: float) -> float:
    """The nearest-rank percentile of some values."""
    return sorted(values)[max(0, -int(-len(values) * share // 100) - 1)]
