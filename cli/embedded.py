"""The whole product on one machine: the embedded stack, the API in this process, a worker beside it."""

import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest

from cli.listening import address_of, bind, bind_grpc, grpc_target
from cli.settings import Settings
from cli.temporal import connect
from infra.embedded import EmbeddedStack
from infra.errors import StackError
from infra.supervisor import Child
from workflows import ids

WORKER_START_SECONDS = 30.0
WORKER_STOP_SECONDS = 15.0
POLL_SECONDS = 0.1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is, and the key to it; what is not there is None."""

    api: str
    grpc: str | None
    temporal: str
    temporal_ui: str | None
    key: str
    data_dir: Path

    def to_json(self) -> dict[str, str]:
        """As `dev --json` prints it."""
        found = {
            "api": self.api,
            "grpc": self.grpc,
            "temporal": self.temporal,
            "temporalUi": self.temporal_ui,
            "key": self.key,
            "dataDir": str(self.data_dir),
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Running:
    """The running product; `failed` ends when a part of it does, and says which."""

    addresses: Addresses
    failed: "asyncio.Task[str]"


@contextlib.asynccontextmanager
async def running(settings: Settings, say: Callable[[str], None]) -> AsyncIterator[Running]:
    """Start what is not given, migrate, serve and work while the block runs; stop it all in order.

    `say` receives lines for the user to read.

    Raises:
        StackError: a part cannot be started.
    """
    async with EmbeddedStack(
        settings.data_dir,
        database_url=settings.database_url,
        redis_url=settings.redis_url,
        temporal_address=settings.temporal_address,
        log=say,
    ) as stack:
        key = settings.api_key.get_secret_value() if settings.api_key else _kept_key(stack.data_dir)
        settings = settings.model_copy(
            update={
                "database_url": stack.database_url,
                "redis_url": stack.redis_url,
                "temporal_address": stack.temporal_address,
                "data_dir": stack.data_dir,
                "api_key": SecretStr(key),
            }
        )
        await asyncio.to_thread(_upgrade, stack.database_url)
        worker = await _start_worker(settings)
        try:
            # Imported here: it takes as long as the worker does to come up, and goes on beside that.
            from cli.serving import serving

            listener = _or_free(settings.port, say, lambda port: bind(settings.host, port))
            grpc = _or_free(
                settings.grpc_port,
                say,
                lambda port: bind_grpc(settings.model_copy(update={"grpc_port": port})),
            )
            async with serving(settings, listener, grpc) as server:
                await _until_it_polls(settings, worker)
                failed = asyncio.create_task(_first_failure(stack, worker, server))
                yield Running(
                    Addresses(
                        api=address_of(listener),
                        grpc=grpc_target(settings.host, grpc.port) if grpc else None,
                        temporal=stack.temporal_address,
                        temporal_ui=stack.temporal_ui,
                        key=key,
                        data_dir=stack.data_dir,
                    ),
                    failed,
                )
                failed.cancel()
        finally:
            await asyncio.shield(worker.stop())


def _upgrade(url: str) -> None:
    # Imported here, so that the servers start beside it.
    from storage.migrations import upgrade

    upgrade(url)


def _or_free(port: int, say: Callable[[str], None], bound: Callable[[int], T]) -> T:
    """What is bound to the port or, where that is taken, to a free one."""
    try:
        return bound(port)
    except OSError:
        say(f"port {port} is taken; using a free one")
        return bound(0)


def _kept_key(data_dir: Path) -> str:
    """The admin key of a data folder, made at its first start."""
    file = data_dir / "api-key"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(f"lao_{secrets.token_urlsafe(24)}")
    return file.read_text().strip()


async def _start_worker(settings: Settings) -> Child:
    environment = {
        **os.environ,
        "DATABASE_URL": settings.database_url or "",
        "TEMPORAL_ADDRESS": settings.temporal_address or "",
        "TEMPORAL_NAMESPACE": settings.temporal_namespace,
        "OPTIMIZER_STEP_SECONDS": str(settings.step_seconds),
        "OPTIMIZER_LOG_LEVEL": settings.log_level,
        "OPTIMIZER_WEBHOOKS_ALLOW_PRIVATE": str(settings.webhooks_allow_private),
    }
    if settings.config is not None:
        # The worker starts in another folder.
        environment["OPTIMIZER_CONFIG"] = str(settings.config.resolve())
    return await Child.start(
        "worker",
        [sys.executable, "-m", "cli.worker"],
        cwd=Path(__file__).parent.parent,
        log=settings.data_dir / "logs" / "worker.log",
        environment=environment,
        stop_limit=WORKER_STOP_SECONDS,
    )


async def _until_it_polls(settings: Settings, worker: Child) -> None:
    client = await connect(settings, address=settings.temporal_address or "")
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=ids.TASK_QUEUE),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    deadline = asyncio.get_running_loop().time() + WORKER_START_SECONDS
    while not (await client.workflow_service.describe_task_queue(request)).pollers:
        if worker.exit_code is not None:
            raise worker.failed(f"ended at its start, with code {worker.exit_code}")
        if asyncio.get_running_loop().time() > deadline:
            raise StackError("the worker did not come up; see logs/worker.log in the data folder")
        await asyncio.sleep(POLL_SECONDS)


async def _first_failure(stack: EmbeddedStack, worker: Child, server: "asyncio.Task[None]") -> str:
    """Wait until a part ends without having been asked to; gives what to tell the user."""
    component = asyncio.create_task(stack.watch())
    works = asyncio.create_task(worker.wait())
    try:
        await asyncio.wait((component, works, server), return_when=asyncio.FIRST_COMPLETED)
    finally:
        component.cancel()
        works.cancel()
    if worker.exit_code is not None:
        return str(worker.failed(f"ended on its own, with code {worker.exit_code}"))
    return str(component.result()) if component.done() else "the API server ended on its own"
