"""What schedules run: a service's tick, and the housekeeping."""

from temporalio import workflow
from temporalio.common import SearchAttributeKey

with workflow.unsafe.imports_passed_through():
    from workflows import calls, visibility
    from workflows import messages as m

SCHEDULED_AT = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")


@workflow.defn(name="Tick")
class TickWorkflow:
    """A schedule's hand: opens a run's row, which the dispatcher then starts."""

    @workflow.run
    async def run(self, arg: m.TickInput) -> m.TickResult:
        """Open a run for the time that this tick was scheduled for."""
        return await calls.tick(m.TickActivityInput(service=arg.service, scheduled_at=_scheduled_at()))


@workflow.defn(name="Watch")
class WatchWorkflow:
    """Looks whether a rule, a trigger, a price or a brake asks for something."""

    @workflow.run
    async def run(self, arg: m.HousekeepingInput) -> m.HousekeepingResult:
        """Look once."""
        return await calls.watch(m.WatchInput(scheduled_at=_scheduled_at()))


@workflow.defn(name="Reconcile")
class ReconcileWorkflow:
    """Compares what PostgreSQL believes with what Temporal runs, and mends the difference."""

    @workflow.run
    async def run(self, arg: m.HousekeepingInput) -> m.HousekeepingResult:
        """Reconcile once."""
        return await calls.reconcile(arg)


@workflow.defn(name="Analyze")
class AnalyzeWorkflow:
    """Looks for anomalies in what is reported."""

    @workflow.run
    async def run(self, arg: m.HousekeepingInput) -> m.HousekeepingResult:
        """Read the windows that are complete."""
        return await calls.detect_anomalies(arg)


@workflow.defn(name="Compare")
class CompareWorkflow:
    """Holds every service against its past."""

    @workflow.run
    async def run(self, arg: m.HousekeepingInput) -> m.HousekeepingResult:
        """Measure the baselines that are due, then test against them and find trends."""
        measured = await calls.refresh_baselines(arg)
        compared = await calls.compare_with_past(arg)
        return m.HousekeepingResult(notes=[*measured.notes, *compared.notes])


@workflow.defn(name="Maintain")
class MaintainWorkflow:
    """Makes partitions ahead of need and forgets what has expired."""

    @workflow.run
    async def run(self, arg: m.HousekeepingInput) -> m.HousekeepingResult:
        """Maintain once."""
        return await calls.maintain(arg)


def _scheduled_at() -> int:
    """When this was to happen, ms: by its schedule, else now."""
    scheduled = workflow.info().typed_search_attributes.get(SCHEDULED_AT)
    return int(scheduled.timestamp() * 1000) if scheduled else visibility.millis()
