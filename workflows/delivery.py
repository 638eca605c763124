"""The sending of events to one endpoint."""

import asyncio
import contextlib
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from workflows import calls, visibility
    from workflows import messages as m

BATCHES_PER_RUN = 200
# A signal may be lost, that of the endpoint's deletion too; so often it is looked anyway.
IDLE = timedelta(hours=1)
AFTER_FAILURE = timedelta(seconds=30)


@workflow.defn(name="Delivery")
class DeliveryWorkflow:
    """Sends an endpoint its events, batch after batch, until the endpoint is deleted or disabled.

    What is to be sent, in which order and when, is in PostgreSQL: this workflow only sees to it that a batch
    is under way whenever something is due.
    """

    @workflow.init
    def __init__(self, arg: m.DeliveryInput) -> None:
        self._id = arg.webhook_id
        self._totals = arg.totals
        self._woken = False

    @workflow.run
    async def run(self, arg: m.DeliveryInput) -> m.DeliveryOutcome:
        """Send until there is nobody to send to."""
        batches = 1
        # Whoever was enabled again meanwhile has woken this workflow.
        while not await self._send() or self._woken:
            if batches >= BATCHES_PER_RUN or workflow.info().is_continue_as_new_suggested():
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(m.DeliveryInput(webhook_id=self._id, totals=self._totals))
            batches += 1
        self._show("The endpoint is deleted or disabled.")
        return m.DeliveryOutcome(webhook_id=self._id, totals=self._totals)

    async def _send(self) -> bool:
        """Send a batch, and wait until the next is due; gives whether there is nobody to send to."""
        self._woken = False
        try:
            result = await calls.deliver(m.DeliverInput(webhook_id=self._id))
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            await self._wait(AFTER_FAILURE, f"the last batch failed: {error.cause or error}")
            return False
        self._count(result.batch)
        if not (result.gone or result.more or self._woken):
            await self._wait_for_due(result.next_due_in_ms)
        return result.gone

    async def _wait_for_due(self, due_in_ms: int | None) -> None:
        if due_in_ms is None:
            await self._wait(IDLE, "nothing waits")
        else:
            await self._wait(min(timedelta(milliseconds=due_in_ms), IDLE), "until the next attempt is due")

    async def _wait(self, length: timedelta, why: str) -> None:
        """Until `length` has passed, or something new is to be sent."""
        self._show(f"Waiting: {why}.")
        summary = visibility.brief(why)
        with contextlib.suppress(asyncio.TimeoutError):
            await workflow.wait_condition(lambda: self._woken, timeout=length, timeout_summary=summary)

    def _count(self, batch: m.DeliveryTotals) -> None:
        totals = self._totals
        self._totals = m.DeliveryTotals(
            delivered=totals.delivered + batch.delivered,
            retried=totals.retried + batch.retried,
            failed=totals.failed + batch.failed,
        )

    def _show(self, line: str) -> None:
        totals = self._totals
        workflow.set_current_details(
            f"{line}\n\n| delivered | to be tried again | given up |\n| ---: | ---: | ---: |\n"
            f"| {totals.delivered} | {totals.retried} | {totals.failed} |"
        )

    @workflow.signal(description="Look for what is to be sent.")
    def wake(self) -> None:
        """Something was published, is to be sent anew, or has changed about the endpoint."""
        self._woken = True
