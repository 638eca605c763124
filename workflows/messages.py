"""Inputs and results of workflows, activities, signals, updates and queries: one of each per message."""

from typing import Literal

from domain.base import Message
from domain.deployment import DeploymentStatus, Verdict
from domain.optimization import Phase
from domain.plan import Decision
from domain.rollout_plan import RolloutPlan

# Signals and updates


class ControlSignal(Message):
    """Sent with the whole system's pause, resume or stop; `revision` tells an old signal from a new one."""

    revision: int
    reason: str | None = None


class Act(Message):
    """Who does something to a rollout, and why."""

    by: str = "operator"
    reason: str | None = None


# Rollout


class RolloutFlags(Message):
    """What people and the system asked of a rollout, by signal and update.

    `paused` is the rollout's own pause, `all_paused` the whole system's as of control `revision`. `promoted`
    is the step that a person ended. `woken` says that something was asked that was not looked at yet.
    """

    paused: bool = False
    all_paused: bool = False
    revision: int = 0
    approved_start: bool = False
    approved_full: bool = False
    promoted: int | None = None
    aborted: Act | None = None
    stopped: str | None = None
    woken: bool = False

    @property
    def holding(self) -> bool:
        """Whether a pause keeps the rollout in its step."""
        return self.paused or self.all_paused


class RolloutState(Message):
    """All else that a rollout's workflow carries from one run to the next.

    `seconds_left` is what remains of the step; while paused, held or awaiting approval it does not run down.
    `over` says that the step may be left: what comes next is the next share, or the end.
    """

    plan: RolloutPlan
    scope: str
    from_version: str
    to_version: str
    fence: int
    searchable: bool
    step: int = -1
    over: bool = True
    check_number: int = 0
    seconds_left: float = 0.0
    extensions: int = 0
    shown: DeploymentStatus = "running"
    waiting: Literal["none", "start", "full", "hold"] = "none"
    verdict: Verdict = "continue"
    reason: str = ""
    table: str = ""


class RolloutInput(Message):
    """A rollout to carry out; `carried` where an earlier run of it went on to this one."""

    deployment_id: str
    carried: RolloutState | None = None
    flags: RolloutFlags | None = None


class RolloutOutcome(Message):
    """How a rollout ended."""

    deployment_id: str
    status: DeploymentStatus
    reason: str


class RolloutStatus(Message):
    """The answer to a rollout's `status` query."""

    deployment_id: str
    status: DeploymentStatus
    step: int
    steps: int
    traffic_percent: float
    seconds_left: float
    extensions: int
    checks: int
    last_verdict: Verdict
    last_reason: str


class RolloutRef(Message):
    """A rollout and the fence of the run that drives it."""

    deployment_id: str
    fence: int


class BeginRolloutInput(Message):
    deployment_id: str


class BeginRolloutResult(Message):
    """The state to start from; None while a pause holds."""

    state: RolloutState | None = None


class EnterStepInput(RolloutRef):
    """`at` is the workflow's time, ms."""

    step: int
    at: int


class EnterStepResult(Message):
    """`entered` is False while a pause holds."""

    entered: bool


class CompleteResult(Message):
    """`completed` is False while a pause holds."""

    completed: bool


class CheckInput(RolloutRef):
    """One look at a rollout; `number` makes it idempotent, `at` is the workflow's time, ms."""

    number: int
    step: int
    step_end: bool
    extension: int
    at: int


class CheckResult(Message):
    """What a look came to. `table` is a Markdown table of the guardrails."""

    verdict: Verdict
    reason: str
    table: str
    needs_approval: bool
    all_paused: bool
    revision: int


class ShowStatusInput(RolloutRef):
    status: DeploymentStatus
    reason: str | None = None


class ExtendStepInput(RolloutRef):
    step: int
    extensions: int


class EndStepInput(RolloutRef):
    step: int
    verdict: Literal["healthy", "inconclusive"]
    extensions: int
    at: int


class RollBackInput(Message):
    """A rollout to take back.

    `verdict` is that of the step in which it happened, if it was the cause; `at` (the workflow's time, ms) is
    when that step ended.
    """

    deployment_id: str
    reason: str
    automatic: bool
    verdict: Literal["unhealthy", "inconclusive"] | None
    at: int


# Optimization


class OptimizationState(Message):
    """What an optimization's workflow carries from one run to the next.

    `phase` was entered last, `coming` is next, for the services that are `going_on`. `notes` has the last
    line about each service, `failures` what went wrong with some, `going_back` those that go back.
    """

    services: list[str]
    going_on: list[str]
    dry_run: bool
    searchable: bool
    phase: Phase
    coming: Phase
    progress: int
    notes: dict[str, str]
    failures: dict[str, str]
    going_back: tuple[str, ...] = ()


class OptimizationFlags(Message):
    """What people and the system asked of an optimization, by signal.

    `paused` is the run's own pause. The whole system's is asked of the database before each phase; `revision`
    is that of the last signal about it, so that an older one is told from a newer.
    """

    paused: bool = False
    revision: int = 0
    stopped: str | None = None


class OptimizationInput(Message):
    """A run to carry out; `carried` where an earlier run of its workflow went on to this one."""

    optimization_id: str
    carried: OptimizationState | None = None
    flags: OptimizationFlags | None = None


class OptimizationRef(Message):
    optimization_id: str


class ClaimResult(Message):
    """What a claimed run is to do; no services while a pause holds."""

    claimed: bool
    services: list[str]
    dry_run: bool
    searchable: bool


class PhaseInput(Message):
    optimization_id: str
    phase: Phase
    progress: int


class PhaseResult(Message):
    """`go` is False while a pause holds."""

    go: bool


class ServiceInput(Message):
    """One service's part in a run."""

    optimization_id: str
    service: str


class ServiceNote(Message):
    """What a phase found for a service, in a line. `proceed` is False where there is nothing more to do.

    `going_back`: what there is to do is to go back to an earlier version.
    """

    proceed: bool
    note: str
    going_back: bool = False


class ActResult(Message):
    """The rollout that was opened for a service's plan, if one was."""

    note: str
    deployment_id: str | None = None
    summary: str = ""


class FinishInput(Message):
    optimization_id: str
    decision: Decision
    reasoning: str


class FailInput(Message):
    optimization_id: str
    error: str


class OptimizationOutcome(Message):
    optimization_id: str
    decision: Decision
    deployments: list[str]


class OptimizationProgress(Message):
    """The answer to an optimization's `status` query."""

    optimization_id: str
    status: Literal["queued", "running", "paused", "completed", "failed"]
    progress: int
    current_phase: Phase


# Delivery to webhooks


class DeliveryTotals(Message):
    """What an endpoint's workflow has seen: events delivered, attempts that failed, events given up."""

    delivered: int = 0
    retried: int = 0
    failed: int = 0


class DeliveryInput(Message):
    """An endpoint to send events to; `totals` where an earlier run of the workflow went on to this one."""

    webhook_id: str
    totals: DeliveryTotals = DeliveryTotals()


class DeliveryOutcome(Message):
    """How an endpoint's workflow ended, which is when the endpoint is deleted or disabled."""

    webhook_id: str
    totals: DeliveryTotals


class DeliverInput(Message):
    webhook_id: str


class DeliverResult(Message):
    """What a batch came to.

    `more` is due at once; else something is in `next_due_in_ms`, and nothing at all waits where that is None.
    `gone`: the endpoint is deleted or disabled.
    """

    batch: DeliveryTotals
    more: bool = False
    next_due_in_ms: int | None = None
    gone: bool = False


# Tick and housekeeping


class TickInput(Message):
    service: str


class TickActivityInput(Message):
    """`scheduled_at` (ms) makes a tick idempotent."""

    service: str
    scheduled_at: int


class TickResult(Message):
    """The run that the tick opened, or why none."""

    note: str
    optimization_id: str | None = None


class WatchInput(Message):
    """`scheduled_at` (ms) names a look, so that it may be repeated."""

    scheduled_at: int


class HousekeepingInput(Message):
    pass


class HousekeepingResult(Message):
    """What was found and mended, in a line each."""

    notes: list[str]
