"""A schedule's hand: one run per scheduled time, and none where there is nothing to do."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest_asyncio
from sqlalchemy import select
from temporalio.client import (
    Schedule,
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionStartWorkflow,
    ScheduleBackfill,
    ScheduleHandle,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    ScheduleSpec,
    ScheduleState,
    WorkflowHandle,
)

from storage import control
from storage.tables import Optimization
from tests.workflows.lab import Lab
from workflows import ids
from workflows import messages as m
from workflows.loop import TickWorkflow

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest_asyncio.fixture
async def schedule(lab: Lab) -> AsyncIterator[ScheduleHandle]:
    """An hourly schedule of ticks, paused: only what is asked of it happens."""
    handle = await lab.client.create_schedule(
        "schedule/chat",
        Schedule(
            action=ScheduleActionStartWorkflow(
                TickWorkflow.run, m.TickInput(service="chat"), id="tick/chat", task_queue=ids.TASK_QUEUE
            ),
            spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(hours=1))]),
            state=ScheduleState(paused=True),
        ),
    )
    yield handle
    await handle.delete()


async def tick_at_noon(lab: Lab, schedule: ScheduleHandle, *, ticks: int) -> m.TickResult:
    """Have the schedule do what it was to do at noon; `ticks` counts those that it has done by then."""
    await schedule.backfill(
        ScheduleBackfill(
            start_at=NOON - timedelta(minutes=1),
            end_at=NOON + timedelta(minutes=1),
            overlap=ScheduleOverlapPolicy.ALLOW_ALL,
        )
    )
    async with asyncio.timeout(20):
        while True:
            recent = (await schedule.describe()).info.recent_actions
            if len(recent) == ticks:
                break
            await asyncio.sleep(0.02)
    action = recent[-1].action
    assert isinstance(action, ScheduleActionExecutionStartWorkflow)
    started: WorkflowHandle[TickWorkflow, m.TickResult] = lab.client.get_workflow_handle_for(
        TickWorkflow.run, action.workflow_id, run_id=action.first_execution_run_id
    )
    return await started.result()


async def runs(lab: Lab) -> list[Optimization]:
    async with lab.database.transaction() as session:
        return list((await session.execute(select(Optimization))).scalars())


async def test_a_time_that_is_scheduled_twice_opens_one_run(lab: Lab, schedule: ScheduleHandle) -> None:
    await lab.service()
    first = await tick_at_noon(lab, schedule, ticks=1)
    second = await tick_at_noon(lab, schedule, ticks=2)
    assert first.optimization_id == second.optimization_id
    (run,) = await runs(lab)
    assert run.id == first.optimization_id
    assert (run.status, run.triggered_by, run.created_by) == ("queued", "timer", "schedule")
    assert run.trigger_details == {"scheduledAt": round(NOON.timestamp() * 1000)}
    assert run.request["services"] == ["chat"]


async def test_a_tick_passes_while_the_service_is_being_optimized(lab: Lab, schedule: ScheduleHandle) -> None:
    await lab.service()
    other = await lab.open_run("chat")
    ticked = await tick_at_noon(lab, schedule, ticks=1)
    assert ticked.optimization_id is None
    assert ticked.note == f"being optimized already: chat by {other}"
    assert [run.id for run in await runs(lab)] == [other]


async def test_a_tick_passes_during_an_emergency_stop(lab: Lab, schedule: ScheduleHandle) -> None:
    await lab.service()
    async with lab.database.transaction() as session:
        await control.emergency_stop(session, reason="fire", by="ada")
    ticked = await tick_at_noon(lab, schedule, ticks=1)
    assert ticked.optimization_id is None
    assert ticked.note.startswith("emergency stop: fire")
    assert await runs(lab) == []


async def test_a_tick_of_a_service_that_is_gone_passes(lab: Lab, schedule: ScheduleHandle) -> None:
    ticked = await tick_at_noon(lab, schedule, ticks=1)
    assert (ticked.optimization_id, ticked.note) == (None, "unknown service chat")
