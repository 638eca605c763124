"""What the schedules have done: ticks and housekeeping."""

from datetime import UTC, datetime

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from domain.errors import Conflict, NotFound
from domain.optimization import OptimizationRequest
from storage import (
    deliveries,
    detection,
    event_log,
    firings,
    idempotency,
    optimizations,
    partitions,
    reconciler,
    retention,
    services,
    telemetry,
    watching,
)
from storage.database import Database
from storage.reconciler import WorkflowState
from workflows import ids
from workflows import messages as m


class LoopActivities:
    """Each may be repeated."""

    def __init__(self, database: Database, client: Client, *, step_seconds: float) -> None:
        self._database = database
        self._client = client
        self._step_seconds = step_seconds

    @activity.defn(name="tick")
    async def tick(self, arg: m.TickActivityInput) -> m.TickResult:
        """Open a run for a schedule's tick, unless the service is being optimized already."""
        try:
            async with self._database.transaction() as session:
                run = await optimizations.open_optimization(
                    session,
                    OptimizationRequest(services=[arg.service]),
                    triggered_by="timer",
                    by="schedule",
                    details={"scheduledAt": arg.scheduled_at},
                    trigger_key=f"{ids.schedule(arg.service)}/{arg.scheduled_at}",
                )
        except (Conflict, NotFound) as refused:
            return m.TickResult(note=refused.message)
        return m.TickResult(note=f"opened {run.id}", optimization_id=run.id)

    @activity.defn(name="reconcile")
    async def reconcile(self, arg: m.HousekeepingInput) -> m.HousekeepingResult:
        """Mend what PostgreSQL and Temporal disagree on."""
        notes = await reconciler.reconcile(self._database, self._probe)
        for note in notes:
            activity.logger.warning(note)
        return m.HousekeepingResult(notes=notes)

    @activity.defn(name="maintain")
    async def maintain(self, arg: m.HousekeepingInput) -> m.HousekeepingResult:
        """Make partitions ahead; forget reports past their service's retention, old events, answers,
        deliveries, firings, anomalies and spans.
        """
        async with self._database.transaction() as session:
            kept_days = await services.longest_retention(session)
            shorter = await services.shorter_retentions(session)
            await idempotency.purge(session)
            await event_log.purge(session)
            await deliveries.purge(session)
            await firings.purge(session)
            await detection.purge(session)
            await telemetry.purge(session)
        connection = await self._database.connect(name="llm-optimizer maintenance")
        try:
            until = await partitions.ensure_partitions(connection)
            # A clock that is ahead for a moment must not cost reports: a day is over by both clocks.
            today = min(await partitions.today(connection), datetime.now(UTC).date())
            dropped = await retention.forget(connection, today, kept_days, shorter)
        finally:
            connection.terminate()
        return m.HousekeepingResult(notes=[f"partitions until {until}", *(f"dropped {x}" for x in dropped)])

    @activity.defn(name="watch")
    async def watch(self, arg: m.WatchInput) -> m.HousekeepingResult:
        """Do what rules, triggers, prices and brakes ask for."""
        notes = await watching.look(
            self._database, scheduled_at=arg.scheduled_at, step_seconds=self._step_seconds
        )
        for note in notes:
            activity.logger.info(note)
        return m.HousekeepingResult(notes=notes)

    async def _probe(self, kind: reconciler.Kind, row_id: str) -> WorkflowState:
        workflow_id = ids.rollout(row_id) if kind == "rollout" else ids.optimization(row_id)
        try:
            described = await self._client.get_workflow_handle(workflow_id).describe()
        except RPCError as error:
            return "missing" if error.status == RPCStatusCode.NOT_FOUND else "unknown"
        running = described.status in (
            WorkflowExecutionStatus.RUNNING,
            WorkflowExecutionStatus.CONTINUED_AS_NEW,
        )
        return "running" if running else "closed"
