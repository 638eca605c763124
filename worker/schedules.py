"""Temporal Schedules as PostgreSQL wants them: one per service that asks for it, and the housekeeping."""

import logging
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from domain import policy
from storage import control, services
from storage.database import Database
from storage.tables import Service
from workflows import ids
from workflows import messages as m
from workflows.loop import (
    AnalyzeWorkflow,
    CompareWorkflow,
    MaintainWorkflow,
    ReconcileWorkflow,
    TickWorkflow,
    WatchWorkflow,
)

log = logging.getLogger(__name__)

CATCH_UP = timedelta(seconds=60)
NOTE = "optimizer"
"""Begins the note of a pause that is ours; a schedule that an operator paused is left alone."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a service's schedule is to be."""

    service: str
    every_seconds: int
    paused: bool
    revision: int


async def wanted_schedules(database: Database) -> dict[str, Wanted]:
    """By schedule id, what every service's policy asks for now."""
    async with database.transaction() as session:
        state = await control.get(session)
        rows = (await session.execute(select(Service).order_by(Service.name))).scalars()
        resolved = [services.resolve(row.name, row.policy, step_seconds=policy.STEP_SECONDS) for row in rows]
    return {
        ids.schedule(found.service): Wanted(
            found.service, found.schedule.every_seconds, state.state != "running", state.revision
        )
        for found in resolved
        if found.schedule.enabled
    }


class Schedules:
    """Brings Temporal's schedules to what is wanted, touching only those that differ from the last time."""

    def __init__(self, database: Database, client: Client) -> None:
        self._database = database
        self._client = client
        self._set: dict[str, Wanted] | None = None

    async def sync(self) -> None:
        """Create, update, pause, unpause and delete as needed."""
        wanted = await wanted_schedules(self._database)
        if self._set is None:
            self._set = await self._present(wanted)
        for schedule_id in sorted(set(self._set) - set(wanted)):
            await self._delete(schedule_id)
            del self._set[schedule_id]
        for schedule_id, target in sorted(wanted.items()):
            if self._set.get(schedule_id) != target:
                await self._put(schedule_id, target)
                self._set[schedule_id] = target

    async def _present(self, wanted: dict[str, Wanted]) -> dict[str, Wanted]:
        """Schedules that exist but are not wanted, so that they are deleted; the others are set anew."""
        found = {}
        async for listed in await self._client.list_schedules():
            service = ids.service_of_schedule(listed.id)
            if service is not None and listed.id not in wanted:
                found[listed.id] = Wanted(service, 0, False, 0)
        return found

    async def _delete(self, schedule_id: str) -> None:
        try:
            await self._client.get_schedule_handle(schedule_id).delete()
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise

    async def _put(self, schedule_id: str, target: Wanted) -> None:
        try:
            await self._client.create_schedule(schedule_id, _schedule(target))
        except ScheduleAlreadyRunningError:
            handle = self._client.get_schedule_handle(schedule_id)
            await handle.update(lambda given: ScheduleUpdate(_merged(given, target)))


def _schedule(target: Wanted) -> Schedule:
    every = timedelta(seconds=target.every_seconds)
    return Schedule(
        action=ScheduleActionStartWorkflow(
            TickWorkflow.run,
            m.TickInput(service=target.service),
            id=f"tick/{target.service}",
            task_queue=ids.TASK_QUEUE,
            static_summary=f"tick of {target.service}",
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)], jitter=every / 10),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=CATCH_UP),
        state=_state(target),
    )


def _state(target: Wanted) -> ScheduleState:
    return ScheduleState(note=f"{NOTE}:{target.revision}" if target.paused else "", paused=target.paused)


def _merged(given: ScheduleUpdateInput, target: Wanted) -> Schedule:
    """Ours, but for a pause that an operator made by hand."""
    schedule, present = _schedule(target), given.description.schedule.state
    if present.paused and not (present.note or "").startswith(NOTE):
        schedule.state = present
    return schedule


async def ensure_housekeeping(client: Client, *, reconcile_seconds: float) -> None:
    """Create the housekeeping schedules where they are missing."""
    for schedule_id, workflow, every in (
        (ids.RECONCILE, ReconcileWorkflow.run, timedelta(seconds=reconcile_seconds)),
        (ids.ANALYZE, AnalyzeWorkflow.run, timedelta(minutes=1)),
        (ids.COMPARE, CompareWorkflow.run, timedelta(minutes=15)),
        (ids.MAINTAIN, MaintainWorkflow.run, timedelta(hours=1)),
        (ids.WATCH, WatchWorkflow.run, timedelta(minutes=1)),
    ):
        schedule = Schedule(
            action=ScheduleActionStartWorkflow(
                workflow, m.HousekeepingInput(), id=schedule_id, task_queue=ids.TASK_QUEUE
            ),
            spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
            policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=CATCH_UP),
        )
        try:
            await client.create_schedule(schedule_id, schedule, trigger_immediately=True)
        except ScheduleAlreadyRunningError:
            log.debug("%s is there already", schedule_id)
