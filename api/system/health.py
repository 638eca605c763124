"""Whether the server and all that it leans on are well."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import psutil
from redis.asyncio import Redis
from sqlalchemy import text
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest

from api.system.schemas import HealthCheck, HealthResponse, Status
from api.temporal import Temporal
from storage.database import Database
from workflows import ids

CHECK_SECONDS = 2.0
KEPT_SECONDS = 1.0
LOW_DISK_BYTES = 512 * 1024 * 1024
# A poll lasts a minute at most: a worker that has begun none for longer is gone.
POLLER_SECONDS = 90.0


class Unwell(Exception):
    """A check found something amiss."""


class Health:
    """Looks after everything at once; an answer is kept for a second, since anybody may ask."""

    def __init__(
        self, database: Database, redis: Redis | None, temporal: Temporal, *, data_dir: str, version: str
    ) -> None:
        self._database = database
        self._redis = redis
        self._temporal = temporal
        self._data_dir = data_dir
        self._version = version
        self._started = time.monotonic()
        self._lock = asyncio.Lock()
        self._kept: tuple[float, list[HealthCheck]] | None = None

    async def look(self) -> HealthResponse:
        """The present state. Never raises."""
        async with self._lock:
            if self._kept is None or time.monotonic() - self._kept[0] > KEPT_SECONDS:
                self._kept = (time.monotonic(), await self._look())
            checks = self._kept[1]
        return HealthResponse(
            status=_status(checks),
            version=self._version,
            uptime=round((time.monotonic() - self._started) * 1000),
            checks=checks,
        )

    async def _look(self) -> list[HealthCheck]:
        checks = {
            "postgresql": self._see_postgresql,
            "redis": self._see_redis,
            "temporal": self._see_temporal,
            "worker": self._see_worker,
            "disk": self._see_disk,
        }
        return list(await asyncio.gather(*(_timed(name, check) for name, check in checks.items())))

    async def _see_postgresql(self) -> None:
        async with self._database.transaction() as session:
            await session.execute(text("SELECT 1"))

    async def _see_redis(self) -> None:
        if self._redis is None:
            raise Unwell("no Redis is configured")
        await self._redis.ping()

    async def _see_temporal(self) -> None:
        client = await self._temporal.client()
        if not await client.service_client.check_health(timeout=timedelta(seconds=CHECK_SECONDS)):
            raise Unwell("Temporal is not serving")

    async def _see_worker(self) -> None:
        client = await self._temporal.client()
        described = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=client.namespace,
                task_queue=TaskQueue(name=ids.TASK_QUEUE),
                task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
            ),
            timeout=timedelta(seconds=CHECK_SECONDS),
        )
        seen = max((poller.last_access_time.seconds for poller in described.pollers), default=0)
        if time.time() - seen > POLLER_SECONDS:
            raise Unwell("no worker polls the task queue")

    async def _see_disk(self) -> None:
        usage = await asyncio.to_thread(psutil.disk_usage, self._data_dir)
        if usage.free < LOW_DISK_BYTES:
            raise Unwell(f"{usage.free // 2**20} MiB are free")


def _status(checks: list[HealthCheck]) -> Status:
    failing = {check.name for check in checks if not check.healthy}
    if "postgresql" in failing:
        return "unhealthy"
    return "degraded" if failing else "healthy"


async def _timed(name: str, check: Callable[[], Awaitable[None]]) -> HealthCheck:
    began = time.perf_counter()
    message = None
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except TimeoutError:
        message = f"no answer within {CHECK_SECONDS:g} s"
    except Exception as error:
        message = str(error) or type(error).__name__
    latency = round((time.perf_counter() - began) * 1000, 3)
    return HealthCheck(name=name, healthy=message is None, message=message, latency=latency)
