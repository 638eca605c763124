"""Generated requests to every operation, under each kind of key: no answer that the document does not have.

`make fuzz` does the same for longer.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import Client

from storage import keys
from storage.database import Database
from tests.api.answers import done
from tests.api.conftest import ADMIN_KEY, CONFIG, Served
from worker.run import running_worker

HERE = Path(__file__).parent
SECONDS = int(os.environ.get("FUZZ_SECONDS", "0"))
SEED = os.environ.get("FUZZ_SEED", "7")
MakeKey = Callable[..., Awaitable[str]]


async def fuzz(address: str, key: str | None, *options: str) -> None:
    """Run schemathesis with every check on; the requests that were answered wrongly are told."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml")]
    command += ["run", f"{address}/openapi.json", "--checks", "all", "--seed", SEED, "--no-color", *options]
    if key is not None:
        command += ["--header", f"Authorization: Bearer {key}"]
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=HERE.parents[1],
        env=os.environ | {"PYTHONPATH": "."},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()


@pytest_asyncio.fixture
async def address(served: Served, database: Database, temporal: Client) -> AsyncIterator[str]:
    """A server with a service that has a configuration, and a worker that sends nothing to anybody."""
    async with (
        running_worker(database, temporal, step_seconds=5.0, housekeeping=False),
        served(step_seconds=5.0) as client,
    ):
        done(await client.put("/api/v1/services/chat-service", json={}))
        for change in ({}, {"service": "chat-service"}):
            update = {"config": CONFIG, "reason": "first"} | change
            done(await client.post("/api/v1/config/update", json=update))
        yield str(client.base_url)


BRIEF = ("--phases", "fuzzing", "--max-examples", "3")
# The schemas of policies have more to them than all others together, and a stream of events ends by waiting
# alone: they are tried by random values, and by `make fuzz`.
LEFT_OUT = ("putService", "dryRunRules", "streamEvents")
THOROUGH = ("--phases", "examples,coverage", *(f"--exclude-operation-id={name}" for name in LEFT_OUT))


@pytest.mark.parametrize("options", [THOROUGH, ("--phases", "fuzzing,stateful", "--max-examples", "8")])
@pytest.mark.skipif(SECONDS > 0, reason="make fuzz does more")
async def test_with_every_scope(address: str, options: tuple[str, ...]) -> None:
    await fuzz(address, ADMIN_KEY, *options)


@pytest.mark.parametrize("scope", keys.SCOPES[:-1])
@pytest.mark.skipif(SECONDS > 0, reason="make fuzz does more")
async def test_with_one_scope(address: str, key_with: MakeKey, scope: keys.KeyScope) -> None:
    await fuzz(address, await key_with(scope), *BRIEF)


@pytest.mark.skipif(SECONDS > 0, reason="make fuzz does more")
async def test_without_a_key(address: str) -> None:
    await fuzz(address, None, *BRIEF)


@pytest.mark.skipif(SECONDS == 0, reason="for make fuzz")
@pytest.mark.timeout(0)
async def test_for_long(address: str) -> None:
    await fuzz(address, ADMIN_KEY, "--max-time", str(SECONDS))
