"""What the system is doing."""

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime

import psutil
from temporalio.client import ScheduleListDescription

from api.system.schemas import ControlLoop, Deployments, Metrics, Resources, StatusResponse
from api.temporal import Temporal, rpc_errors
from domain.errors import OptimizerError
from storage.database import Database
from storage.intake import Intake
from storage.overview import overview
from workflows import ids

SCHEDULES_KEPT_SECONDS = 10.0
LIST_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class _Times:
    last: int
    next: int


class StatusReader:
    """Reads it. What Temporal knows of the schedules is kept for ten seconds: asking it is slow."""

    def __init__(self, database: Database, intake: Intake, temporal: Temporal, *, mode: str) -> None:
        self._database = database
        self._intake = intake
        self._temporal = temporal
        self._mode = mode
        self._process = psutil.Process()
        self._process.cpu_percent()
        self._lock = asyncio.Lock()
        self._kept: tuple[float, _Times | None] | None = None

    async def read(self) -> StatusResponse:
        """The present state; without Temporal the loop cannot run, and its state is `ERROR`.

        Raises:
            DatabaseError: PostgreSQL is out of reach.
        """
        async with self._database.transaction() as session:
            seen = await overview(session)
        times = await self._schedule_times()
        stats = self._intake.stats
        state = seen.state if times or seen.state in ("PAUSED", "STOPPED") else "ERROR"
        last, upcoming = (times.last, times.next) if times else (0, 0)
        return StatusResponse.model_validate(
            {
                "mode": self._mode,
                "controlLoop": ControlLoop(state=state, last_run=max(seen.last_run, last), next_run=upcoming),
                "deployments": Deployments(active=seen.active, pending=seen.pending),
                "metrics": Metrics(
                    buffer_size=stats.buffered, ingestion_rate=stats.rate, last_flush=stats.last_flush
                ),
                "resources": Resources(
                    memory_usage_mb=round(self._process.memory_info().rss / 2**20, 1),
                    cpu_usage_percent=self._process.cpu_percent(),
                ),
            }
        )

    async def _schedule_times(self) -> _Times | None:
        async with self._lock:
            if self._kept is None or time.monotonic() - self._kept[0] > SCHEDULES_KEPT_SECONDS:
                self._kept = (time.monotonic(), await self._list_schedules())
            return self._kept[1]

    async def _list_schedules(self) -> _Times | None:
        """When a service's schedule last ran and when one will, None without Temporal."""
        try:
            client = await self._temporal.client()
            with rpc_errors():
                async with asyncio.timeout(LIST_SECONDS):
                    listed = [found async for found in await client.list_schedules()]
        except OptimizerError:
            return None
        return _times([found for found in listed if ids.service_of_schedule(found.id) is not None])


def _times(schedules: list[ScheduleListDescription]) -> _Times:
    last, upcoming = 0, 0
    for listed in schedules:
        if listed.info is None or listed.schedule is None:
            continue
        last = max([last, *(_millis(action.started_at) for action in listed.info.recent_actions)])
        # A paused schedule tells of next times as well.
        if not listed.schedule.state.paused:
            times = [_millis(at) for at in listed.info.next_action_times]
            upcoming = min([time for time in (upcoming, *times) if time], default=0)
    return _Times(last, upcoming)


def _millis(at: datetime) -> int:
    return round(at.timestamp() * 1000)
