"""Every activity that a workflow calls: its name, its timeouts, its retries.

All but the compensations have an end. Domain errors that no retry can mend are raised as non-retryable by
the activities themselves.
"""

from datetime import timedelta
from typing import TypeVar

from pydantic import BaseModel
from temporalio import workflow
from temporalio.common import RetryPolicy

from workflows import ids, visibility
from workflows import messages as m

R = TypeVar("R", bound=BaseModel)

QUICK = timedelta(seconds=10)
LONG = timedelta(minutes=2)
VERY_LONG = timedelta(minutes=10)
HEARTBEAT = timedelta(seconds=20)
# Whoever is killed holds up an endpoint's events for so long.
DELIVERY_HEARTBEAT = timedelta(seconds=10)
_RETRY = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=10))
_FOR_EVER = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=5))


async def _call(
    name: str, arg: BaseModel, result: type[R], *, within: timedelta, limit: timedelta = QUICK, summary: str
) -> R:
    outcome: R = await workflow.execute_activity(
        name,
        arg,
        result_type=result,
        start_to_close_timeout=limit,
        schedule_to_close_timeout=within,
        heartbeat_timeout=HEARTBEAT if limit > HEARTBEAT else None,
        retry_policy=_RETRY,
        summary=visibility.brief(summary),
    )
    return outcome


# Rollout


async def begin_rollout(arg: m.BeginRolloutInput) -> m.BeginRolloutResult:
    """Claim the rollout and read its plan."""
    return await _call(
        "begin-rollout", arg, m.BeginRolloutResult, within=timedelta(minutes=10), summary="claim the rollout"
    )


async def enter_step(arg: m.EnterStepInput, *, within: timedelta, summary: str) -> m.EnterStepResult:
    """Serve a step's share, unless a pause holds."""
    return await _call("enter-step", arg, m.EnterStepResult, within=within, summary=summary)


async def check_rollout(arg: m.CheckInput, *, within: timedelta, summary: str) -> m.CheckResult:
    """Close the bucket since the last look, judge, and renew the watch."""
    return await _call("check-rollout", arg, m.CheckResult, within=within, summary=summary)


async def show_status(arg: m.ShowStatusInput, *, within: timedelta) -> None:
    """Show the rollout as paused, held, awaiting approval or running."""
    await _call("show-rollout-status", arg, m.RolloutRef, within=within, summary=arg.status)


async def extend_step(arg: m.ExtendStepInput, *, within: timedelta) -> None:
    """Record an extension."""
    await _call("extend-step", arg, m.RolloutRef, within=within, summary=f"extension {arg.extensions}")


async def end_step(arg: m.EndStepInput, *, within: timedelta) -> None:
    """Record a step's verdict."""
    await _call("end-step", arg, m.RolloutRef, within=within, summary=arg.verdict)


async def complete_rollout(arg: m.RolloutRef, *, within: timedelta) -> m.CompleteResult:
    """Move the active flag to the new version, unless a pause holds."""
    return await _call(
        "complete-rollout", arg, m.CompleteResult, within=within, summary="keep the new version"
    )


async def roll_back(arg: m.RollBackInput) -> m.RolloutOutcome:
    """Compensation: tried until it succeeds."""
    outcome: m.RolloutOutcome = await workflow.execute_activity(
        "roll-back",
        arg,
        result_type=m.RolloutOutcome,
        start_to_close_timeout=QUICK,
        retry_policy=_FOR_EVER,
        summary=visibility.brief(f"take back: {arg.reason}"),
    )
    return outcome


# Optimization


async def claim_optimization(arg: m.OptimizationRef) -> m.ClaimResult:
    """Take the run from queued to running."""
    return await _call(
        "claim-optimization", arg, m.ClaimResult, within=timedelta(minutes=10), summary="claim the run"
    )


async def begin_phase(arg: m.PhaseInput) -> m.PhaseResult:
    """Show the phase, unless a pause holds."""
    return await _call("begin-phase", arg, m.PhaseResult, within=timedelta(minutes=10), summary=arg.phase)


async def observe(arg: m.ServiceInput) -> m.ServiceNote:
    """Gather what is known of a service."""
    return await _service("observe", arg)


async def analyze(arg: m.ServiceInput) -> m.ServiceNote:
    """Judge what was gathered."""
    return await _service("analyze", arg)


async def decide(arg: m.ServiceInput) -> m.ServiceNote:
    """Make a plan, or a reasoned skip."""
    return await _service("decide", arg)


async def _service(name: str, arg: m.ServiceInput) -> m.ServiceNote:
    within = timedelta(minutes=10)
    return await _call(name, arg, m.ServiceNote, within=within, limit=LONG, summary=arg.service)


async def open_rollout(arg: m.ServiceInput) -> m.ActResult:
    """Open the rollout of a service's plan."""
    return await _call("open-rollout", arg, m.ActResult, within=timedelta(minutes=10), summary=arg.service)


async def finish_optimization(arg: m.FinishInput) -> None:
    """Record what the run came to."""
    await _call(
        "finish-optimization", arg, m.OptimizationRef, within=timedelta(hours=1), summary=arg.decision
    )


async def fail_optimization(arg: m.FailInput) -> None:
    """Compensation: end the run and whatever it opened that has not begun. Tried until it succeeds."""
    await workflow.execute_activity(
        "fail-optimization",
        arg,
        result_type=m.OptimizationRef,
        start_to_close_timeout=QUICK,
        retry_policy=_FOR_EVER,
        summary=visibility.brief(arg.error),
    )


# Delivery to webhooks


async def deliver(arg: m.DeliverInput) -> m.DeliverResult:
    """Send an endpoint what is due, for a while."""
    result: m.DeliverResult = await workflow.execute_activity(
        "deliver",
        arg,
        task_queue=ids.delivery_queue(workflow.info().task_queue),
        result_type=m.DeliverResult,
        start_to_close_timeout=LONG,
        schedule_to_close_timeout=timedelta(minutes=30),
        heartbeat_timeout=DELIVERY_HEARTBEAT,
        retry_policy=_RETRY,
        summary=arg.webhook_id,
    )
    return result


# Tick and housekeeping


async def tick(arg: m.TickActivityInput) -> m.TickResult:
    """Open a run for a schedule's tick."""
    return await _call("tick", arg, m.TickResult, within=timedelta(minutes=1), summary=arg.service)


async def reconcile(arg: m.HousekeepingInput) -> m.HousekeepingResult:
    """Compare open rows with Temporal, and mend."""
    return await _housekeep("reconcile", arg)


async def maintain(arg: m.HousekeepingInput) -> m.HousekeepingResult:
    """Make partitions ahead, forget what has expired."""
    return await _housekeep("maintain", arg)


async def watch(arg: m.WatchInput) -> m.HousekeepingResult:
    """Look at every service's rules, triggers, prices and brakes."""
    within = timedelta(minutes=3)
    return await _call("watch", arg, m.HousekeepingResult, within=within, limit=LONG, summary="watch")


async def detect_anomalies(arg: m.HousekeepingInput) -> m.HousekeepingResult:
    """Read the windows that are complete."""
    return await _housekeep("detect-anomalies", arg)


async def refresh_baselines(arg: m.HousekeepingInput) -> m.HousekeepingResult:
    """Measure the baselines that are due."""
    return await _housekeep("refresh-baselines", arg, limit=VERY_LONG)


async def compare_with_past(arg: m.HousekeepingInput) -> m.HousekeepingResult:
    """Test every service against its baselines, and find its trends."""
    return await _housekeep("compare-with-past", arg, limit=VERY_LONG)


async def _housekeep(name: str, arg: m.HousekeepingInput, *, limit: timedelta = LONG) -> m.HousekeepingResult:
    within = limit + timedelta(minutes=3)
    return await _call(name, arg, m.HousekeepingResult, within=within, limit=limit, summary=name)
