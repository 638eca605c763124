"""The workflow of an endpoint: looks when it should, no sooner, and ends with the endpoint."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import TimeSkipper
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from domain.ids import new_id
from workflows import delivery, ids
from workflows import messages as m
from workflows.delivery import DeliveryWorkflow

Handle = WorkflowHandle[DeliveryWorkflow, m.DeliveryOutcome]
Batches = Iterator[m.DeliverResult | Callable[[], Awaitable[m.DeliverResult]]]

ONE = m.DeliveryTotals(delivered=1)
GONE = m.DeliverResult(batch=m.DeliveryTotals(), gone=True)


@asynccontextmanager
async def started(client: Client, batches: Batches, **options: Any) -> AsyncIterator[Handle]:
    """The workflow of an endpoint whose batches come to these, one after the other."""

    @activity.defn(name="deliver")
    async def deliver(arg: m.DeliverInput) -> m.DeliverResult:
        assert arg.webhook_id == webhook_id
        batch = next(batches)
        return batch if isinstance(batch, m.DeliverResult) else await batch()

    webhook_id, queue = new_id("wh"), new_id("queue")
    workflows = Worker(client, task_queue=queue, workflows=[DeliveryWorkflow], **options)
    async with workflows, Worker(client, task_queue=ids.delivery_queue(queue), activities=[deliver]):
        yield await TimeSkipper(client).client.start_workflow(
            DeliveryWorkflow.run,
            m.DeliveryInput(webhook_id=webhook_id),
            id=ids.delivery(webhook_id),
            task_queue=queue,
        )


async def timers(handle: Handle) -> list[timedelta]:
    """How long the workflow meant to wait, each time."""
    return [
        event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta()
        async for event in handle.fetch_history_events()
        if event.event_type == EventType.EVENT_TYPE_TIMER_STARTED
    ]


async def test_it_waits_until_something_is_due_and_an_hour_where_nothing_is(temporal: Client) -> None:
    batches = iter(
        [
            m.DeliverResult(batch=ONE, more=True, next_due_in_ms=0),
            m.DeliverResult(batch=ONE, next_due_in_ms=90_000),
            m.DeliverResult(batch=ONE),
            m.DeliverResult(batch=m.DeliveryTotals(failed=1), next_due_in_ms=90_000_000),
            GONE,
        ]
    )
    async with started(temporal, batches) as handle:
        outcome = await handle.result()
    assert outcome.totals == m.DeliveryTotals(delivered=3, failed=1)
    assert await timers(handle) == [timedelta(seconds=90), timedelta(hours=1), timedelta(hours=1)]


async def test_woken_during_a_batch_it_looks_again(temporal: Client) -> None:
    async with started(
        temporal, iter([lambda: woken(m.DeliverResult(batch=ONE)), lambda: woken(GONE), GONE])
    ) as handle:

        async def woken(result: m.DeliverResult) -> m.DeliverResult:
            await handle.signal(DeliveryWorkflow.wake)
            return result

        await handle.result()
    assert await timers(handle) == []


async def test_a_batch_that_fails_is_followed_by_another(temporal: Client) -> None:
    async def fail() -> m.DeliverResult:
        raise ApplicationError("broken", non_retryable=True)

    async with started(temporal, iter([fail, fail, GONE])) as handle:
        await handle.result()
    assert await timers(handle) == [timedelta(seconds=30)] * 2


async def test_it_goes_on_in_a_new_run_with_its_totals(
    temporal: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Outside the sandbox, which would import the module anew.
    monkeypatch.setattr(delivery, "BATCHES_PER_RUN", 3)
    batches = [m.DeliverResult(batch=ONE, more=True, next_due_in_ms=0)] * 5
    async with started(
        temporal, iter([*batches, GONE]), workflow_runner=UnsandboxedWorkflowRunner()
    ) as handle:
        outcome = await handle.result()
    assert outcome.totals.delivered == 5
    first = temporal.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
    events = [event async for event in first.fetch_history_events()]
    done = [event.event_type for event in events].count(EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
    assert done == 3
    assert events[-1].event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW


@pytest.mark.parametrize("batch", [ONE, m.DeliveryTotals(delivered=2, retried=3, failed=4)])
async def test_its_totals_are_shown(temporal: Client, batch: m.DeliveryTotals) -> None:
    async with started(temporal, iter([m.DeliverResult(batch=batch), GONE])) as handle:
        await handle.result()
        shown = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    assert f"| {batch.delivered} | {batch.retried} | {batch.failed} |" in shown.current_details
