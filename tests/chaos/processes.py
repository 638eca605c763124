"""`llm-optimizer worker`, `serve` and `sidecar` as processes that can be killed."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from signal import SIGCONT, SIGSTOP

from infra import ports
from infra.embedded import EmbeddedStack

ROOT = Path(__file__).parents[2]
API_KEY = "key-of-the-chaos-tests"


class Process:
    """A command on a stack; dead until it is started, and again after it was killed."""

    def __init__(self, stack: EmbeddedStack, log: Path, *arguments: str) -> None:
        self._arguments = arguments
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OPTIMIZER_")},
            "DATABASE_URL": stack.database_url,
            "TEMPORAL_ADDRESS": stack.temporal_address,
            "OPTIMIZER_API_KEY": API_KEY,
            "OPTIMIZER_STEP_SECONDS": "1",
            "OPTIMIZER_WEBHOOKS_ALLOW_PRIVATE": "true",
        }
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "cli", *self._arguments),
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    def require_alive(self) -> None:
        """Fail where it has ended by itself, with what it said last."""
        process = self._process
        assert process is not None
        assert process.returncode is None, self._log.read_text(encoding="utf-8")[-4000:]

    async def kill(self) -> None:
        """End it by SIGKILL, as a crash of its machine would."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def terminate(self) -> int:
        """End it by SIGTERM; gives its exit code."""
        process, self._process = self._process, None
        assert process is not None
        process.terminate()
        return await process.wait()

    def freeze(self) -> None:
        """Stop its execution, its connections staying open."""
        assert self._process is not None
        self._process.send_signal(SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(SIGCONT)


@asynccontextmanager
async def sidecar_process(
    stack: EmbeddedStack, folder: Path, upstream: str
) -> AsyncIterator[tuple[Process, str]]:
    """A sidecar likewise, with the address that it keeps; what it has on disk is in the folder."""
    port = ports.choose(None)
    options = ("--upstream", upstream, "--port", str(port), "--data-dir", str(folder))
    sidecar = Process(stack, folder / "sidecar.log", "sidecar", *options)
    await sidecar.start()
    try:
        yield sidecar, f"http://127.0.0.1:{port}"
    finally:
        await sidecar.kill()


@asynccontextmanager
async def worker_process(stack: EmbeddedStack, folder: Path) -> AsyncIterator[Process]:
    """A worker that runs, and whatever the test does to it, is gone at the end."""
    worker = Process(stack, folder / "worker.log", "worker")
    await worker.start()
    try:
        yield worker
    finally:
        await worker.kill()


@asynccontextmanager
async def api_process(stack: EmbeddedStack, folder: Path) -> AsyncIterator[tuple[Process, str]]:
    """An API server likewise, with the address that it keeps, and that answers soon."""
    port = ports.choose(None)
    server = Process(stack, folder / "api.log", "serve", "--port", str(port), "--grpc-port", "0")
    await server.start()
    try:
        yield server, f"http://127.0.0.1:{port}"
    finally:
        await server.kill()
