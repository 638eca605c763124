"""A run of the loop: observe, analyze, decide, act."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Literal

from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from domain.optimization import PHASES, Phase
    from domain.plan import Decision
    from workflows import calls, ids, visibility
    from workflows import messages as m
    from workflows.compensation import run_to_the_end
    from workflows.rollout import RolloutWorkflow

# A signal may be lost; so often the database is asked as well.
PAUSE_POLL = timedelta(seconds=15)
PROGRESS: dict[Phase, int] = {"observe": 5, "analyze": 30, "decide": 55, "act": 80}
CALLS: dict[Phase, Callable[[m.ServiceInput], Awaitable[m.ServiceNote]]] = {
    "observe": calls.observe,
    "analyze": calls.analyze,
    "decide": calls.decide,
}


class Halted(Exception):
    """The run is to end now."""


class NothingLeft(Exception):
    """Every service of the run failed."""


@workflow.defn(name="Optimization")
class OptimizationWorkflow:
    """Finds a better configuration for each of some services, and starts its rollout."""

    @workflow.init
    def __init__(self, arg: m.OptimizationInput) -> None:
        self._id = arg.optimization_id
        self._carried = arg.carried
        self._flags = arg.flags or m.OptimizationFlags()
        # A run is continued as new in a pause alone.
        self._status: Literal["queued", "running", "paused", "completed", "failed"] = (
            "paused" if arg.carried else "queued"
        )
        self._woken = False
        self._at_work: asyncio.Future[list[m.ServiceNote | BaseException]] | None = None

    @workflow.run
    async def run(self, arg: m.OptimizationInput) -> m.OptimizationOutcome:
        """Go through the phases; end the run's row whatever happens."""
        try:
            outcome = await self._optimize()
            self._status, self._state.progress = "completed", 100
            self._show(outcome.decision)
            return outcome
        except asyncio.CancelledError:
            await self._fail("the workflow was cancelled")
            raise
        except ActivityError as error:
            return await self._after_failed_activity(error)
        except Halted as halt:
            return await self._fail(str(halt))
        except NothingLeft as error:
            await self._fail(str(error))
            raise ApplicationError(str(error), type="OptimizationFailed", non_retryable=True) from error
        except Exception as error:
            await self._fail(f"the workflow failed: {error}")
            raise ApplicationError(str(error), type="OptimizationFailed", non_retryable=True) from error

    async def _after_failed_activity(self, error: ActivityError) -> m.OptimizationOutcome:
        if is_cancelled_exception(error):
            await self._fail("the workflow was cancelled")
            raise error
        kind, message = _cause(error)
        outcome = await self._fail(message)
        if kind in ("OptimizationClosed", "Stopped"):
            return outcome
        raise ApplicationError(message, type="OptimizationFailed", non_retryable=True) from error

    async def _optimize(self) -> m.OptimizationOutcome:
        if self._carried is None:
            self._carried = await self._claim()
        state = self._carried
        self._show(None)
        phases = PHASES[:-1] if state.dry_run else PHASES
        for phase in phases[phases.index(state.coming) :]:
            state.coming = phase
            await self._enter(phase)
            if phase in CALLS:
                await self._for_each_service(CALLS[phase])
        deployments = [] if state.dry_run else await self._act()
        finish = m.FinishInput(
            optimization_id=self._id,
            decision=self._decision(),
            reasoning="\n".join(f"{service}: {note}" for service, note in sorted(state.notes.items())),
        )
        await calls.finish_optimization(finish)
        return m.OptimizationOutcome(
            optimization_id=self._id, decision=finish.decision, deployments=deployments
        )

    def _decision(self) -> Decision:
        """What the run came to over all services: going back says more than going on."""
        state = self._state
        if set(state.going_on) & set(state.going_back):
            return "rollback"
        return "optimize" if state.going_on else "skip"

    async def _claim(self) -> m.OptimizationState:
        while True:
            self._woken = False
            claim = await calls.claim_optimization(m.OptimizationRef(optimization_id=self._id))
            if claim.claimed:
                break
            await self._wait_out_pause()
        self._status = "running"
        if len(claim.services) == 1:
            visibility.upsert(claim.searchable, visibility.keyword(visibility.SERVICE, claim.services[0]))
        return m.OptimizationState(
            services=claim.services,
            going_on=claim.services,
            dry_run=claim.dry_run,
            searchable=claim.searchable,
            phase="observe",
            coming="observe",
            progress=0,
            notes={},
            failures={},
        )

    async def _enter(self, phase: Phase) -> None:
        """Come to a phase; while a pause holds, before it."""
        state = self._state
        while True:
            self._raise_if_stopped()
            self._woken = False
            if self._flags.paused:
                # Raises where the run was ended without this workflow being told.
                await calls.claim_optimization(m.OptimizationRef(optimization_id=self._id))
            else:
                arg = m.PhaseInput(optimization_id=self._id, phase=phase, progress=PROGRESS[phase])
                if (await calls.begin_phase(arg)).go:
                    break
            self._status = "paused"
            self._show(None)
            await self._wait_out_pause()
        self._status, state.phase, state.progress = "running", phase, PROGRESS[phase]
        visibility.upsert(state.searchable, visibility.PHASE.value_set(phase))
        self._show(None)

    async def _wait_out_pause(self) -> None:
        """Until a signal comes, or it is time to ask again."""
        with contextlib.suppress(asyncio.TimeoutError):
            await workflow.wait_condition(lambda: self._woken, timeout=PAUSE_POLL, timeout_summary="paused")
        self._raise_if_stopped()
        if workflow.info().is_continue_as_new_suggested():
            await workflow.wait_condition(workflow.all_handlers_finished)
            workflow.continue_as_new(
                m.OptimizationInput(optimization_id=self._id, carried=self._carried, flags=self._flags)
            )

    async def _for_each_service(self, call: Callable[[m.ServiceInput], Awaitable[m.ServiceNote]]) -> None:
        """Do a phase for all services at once. One failing stops no other."""
        self._raise_if_stopped()
        services = self._state.going_on
        inputs = [m.ServiceInput(optimization_id=self._id, service=service) for service in services]
        self._at_work = asyncio.gather(*(call(arg) for arg in inputs), return_exceptions=True)
        try:
            results = await self._at_work
        except asyncio.CancelledError:
            # An emergency stop ends the work by this as well, not only a cancellation of the workflow.
            self._raise_if_stopped()
            raise
        finally:
            self._at_work = None
        self._state.going_on = []
        for service, result in zip(services, results, strict=True):
            if isinstance(result, BaseException):
                self._note_failure(service, result)
                continue
            self._state.notes[service] = result.note
            if result.proceed:
                self._state.going_on.append(service)
            if result.going_back:
                self._state.going_back = (*self._state.going_back, service)
        self._require_some_left()

    async def _act(self) -> list[str]:
        """Open each plan's rollout and start its workflow, which goes on without this one."""
        state, deployments = self._state, []
        for service in list(state.going_on):
            self._raise_if_stopped()
            try:
                opened = await calls.open_rollout(m.ServiceInput(optimization_id=self._id, service=service))
            except ActivityError as error:
                self._note_failure(service, error)
                state.going_on.remove(service)
                continue
            state.notes[service] += f" {opened.note}"
            if opened.deployment_id is not None:
                await self._start_rollout(opened.deployment_id, opened.summary)
                deployments.append(opened.deployment_id)
        self._require_some_left()
        return deployments

    async def _start_rollout(self, deployment_id: str, summary: str) -> None:
        try:
            await workflow.start_child_workflow(
                RolloutWorkflow.run,
                m.RolloutInput(deployment_id=deployment_id),
                id=ids.rollout(deployment_id),
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,
                static_summary=visibility.brief(summary),
            )
        except WorkflowAlreadyStartedError:
            workflow.logger.info("rollout was dispatched already", extra={"deployment_id": deployment_id})

    def _note_failure(self, service: str, error: BaseException) -> None:
        """Keep what a failed activity says; anything that is not about the service alone is raised again."""
        if not isinstance(error, ActivityError) or is_cancelled_exception(error):
            raise error
        kind, message = _cause(error)
        if kind in ("OptimizationClosed", "Stopped"):
            raise error
        note = f"{error.activity_type} failed: {message}"
        self._state.notes[service] = self._state.failures[service] = note

    def _require_some_left(self) -> None:
        failures = self._state.failures
        if failures and len(failures) == len(self._state.services):
            raise NothingLeft("; ".join(failures.values()))

    async def _fail(self, error: str) -> m.OptimizationOutcome:
        arg = m.FailInput(optimization_id=self._id, error=error)
        await run_to_the_end(lambda: calls.fail_optimization(arg))
        self._status = "failed"
        self._show(error)
        return m.OptimizationOutcome(optimization_id=self._id, decision="skip", deployments=[])

    @property
    def _state(self) -> m.OptimizationState:
        if self._carried is None:
            raise ApplicationError("the run has not begun yet", type="NotBegun", non_retryable=True)
        return self._carried

    def _raise_if_stopped(self) -> None:
        if self._flags.stopped is not None:
            raise Halted(self._flags.stopped)

    def _show(self, outcome: str | None) -> None:
        state = self._carried
        if state is None:
            return
        lines = [f"- **{service}**: {note}" for service, note in sorted(state.notes.items())]
        ended = f"\n\nOutcome: **{outcome}**" if outcome else ""
        workflow.set_current_details(
            f"Phase **{state.phase}**, {state.progress} %, {self._status}\n\n" + "\n".join(lines) + ended
        )
        if outcome:
            visibility.upsert(state.searchable, visibility.OUTCOME.value_set(self._status))

    # What people and the system may do

    @workflow.signal(description="Hold before the next phase.")
    def pause(self, control: m.ControlSignal | None = None) -> None:
        """The run's own pause; with a control signal, the whole system's."""
        if control is None:
            self._flags.paused = True
        else:
            self._hear(control)

    @workflow.signal(description="Go on.")
    def resume(self, control: m.ControlSignal | None = None) -> None:
        """End the run's own pause; with a control signal, the whole system's."""
        if control is None:
            self._flags.paused = False
            self._woken = True
        elif self._hear(control):
            self._woken = True

    @workflow.signal(description="End the run now.")
    def emergency_stop(self, control: m.ControlSignal | None = None) -> None:
        """End the run; a signal that is older than what is known is ignored."""
        if control is not None and not self._hear(control):
            return
        reason = f": {control.reason}" if control and control.reason else ""
        self._flags.stopped = f"emergency stop{reason}"
        self._woken = True
        if self._at_work is not None:
            self._at_work.cancel()

    def _hear(self, control: m.ControlSignal) -> bool:
        """Whether a signal about the whole system is news. The database says what holds; it only hurries."""
        if control.revision <= self._flags.revision:
            return False
        self._flags.revision = control.revision
        return True

    @workflow.query(description="Where the run is.")
    def status(self) -> m.OptimizationProgress:
        """Status, progress and phase."""
        state = self._carried
        return m.OptimizationProgress(
            optimization_id=self._id,
            status=self._status,
            progress=state.progress if state else 0,
            current_phase=state.phase if state else "observe",
        )


def _cause(error: ActivityError) -> tuple[str | None, str]:
    """The type and message of what an activity failed of."""
    if isinstance(error.cause, ApplicationError):
        return error.cause.type, error.cause.message
    return None, str(error.cause or error)
