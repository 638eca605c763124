"""A run of the loop: observe, analyze, decide, act."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Literal

from temporalio import workflow
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from domain.optimization import Phase
    from workflows import calls, ids, visibility
    from workflows import messages as m
    from workflows.compensation import run_to_the_end
    from workflows.rollout import RolloutWorkflow

PAUSE_POLL = timedelta(seconds=5)
PROGRESS: dict[Phase, int] = {"observe": 5, "analyze": 30, "decide": 55, "act": 80}


class Halted(Exception):
    """The run is to end now."""


@workflow.defn(name="Optimization")
class OptimizationWorkflow:
    """Finds a better configuration for each of some services, and starts its rollout."""

    @workflow.init
    def __init__(self, arg: m.OptimizationInput) -> None:
        self._id = arg.optimization_id
        self._status: Literal["queued", "running", "paused", "completed", "failed"] = "queued"
        self._phase: Phase = "observe"
        self._progress = 0
        self._notes: dict[str, str] = {}
        self._paused = False
        self._revision = 0
        self._stopped: str | None = None
        self._searchable = False

    @workflow.run
    async def run(self, arg: m.OptimizationInput) -> m.OptimizationOutcome:
        """Go through the phases; end the run's row whatever happens."""
        try:
            outcome = await self._optimize()
            self._status, self._progress = "completed", 100
            self._show(outcome.decision)
            return outcome
        except asyncio.CancelledError:
            await self._fail("the workflow was cancelled")
            raise
        except ActivityError as error:
            return await self._after_failed_activity(error)
        except Halted as halt:
            return await self._fail(str(halt))
        except Exception as error:
            await self._fail(f"the workflow failed: {error}")
            raise ApplicationError(str(error), type="OptimizationFailed", non_retryable=True) from error

    async def _after_failed_activity(self, error: ActivityError) -> m.OptimizationOutcome:
        if is_cancelled_exception(error):
            await self._fail("the workflow was cancelled")
            raise error
        cause = error.cause
        kind = cause.type if isinstance(cause, ApplicationError) else None
        message = cause.message if isinstance(cause, ApplicationError) else str(cause or error)
        outcome = await self._fail(message)
        if kind in ("OptimizationClosed", "Stopped"):
            return outcome
        raise ApplicationError(message, type="OptimizationFailed", non_retryable=True) from error

    async def _optimize(self) -> m.OptimizationOutcome:
        claim = await self._claim()
        services, failures = claim.services, dict[str, str]()
        self._show(None)
        phases: tuple[tuple[Phase, Callable[[m.ServiceInput], Awaitable[m.ServiceNote]]], ...] = (
            ("observe", calls.observe),
            ("analyze", calls.analyze),
            ("decide", calls.decide),
        )
        for phase, call in phases:
            await self._enter(phase)
            services = await self._for_each(services, call, failures)
        if failures and len(failures) == len(claim.services):
            raise ApplicationError("; ".join(failures.values()), type="OptimizationFailed")
        deployments: list[str] = []
        await self._enter("act")
        if not claim.dry_run:
            deployments = await self._act(services)
        decision: Literal["optimize", "skip"] = "optimize" if services else "skip"
        reasoning = "\n".join(f"{service}: {note}" for service, note in sorted(self._notes.items()))
        finish = m.FinishInput(optimization_id=self._id, decision=decision, reasoning=reasoning)
        await calls.finish_optimization(finish)
        return m.OptimizationOutcome(optimization_id=self._id, decision=decision, deployments=deployments)

    async def _claim(self) -> m.ClaimResult:
        while True:
            claim = await calls.claim_optimization(m.OptimizationInput(optimization_id=self._id))
            if claim.claimed:
                self._status, self._searchable = "running", claim.searchable
                return claim
            await self._wait_out_pause()

    async def _enter(self, phase: Phase) -> None:
        """Come to a phase; while a pause holds, before it."""
        while True:
            self._raise_if_stopped()
            arg = m.PhaseInput(optimization_id=self._id, phase=phase, progress=PROGRESS[phase])
            if not self._paused and (await calls.begin_phase(arg)).go:
                break
            self._status = "paused"
            await self._wait_out_pause()
        self._status, self._phase, self._progress = "running", phase, PROGRESS[phase]
        visibility.upsert(self._searchable, visibility.PHASE.value_set(phase))
        self._show(None)

    async def _wait_out_pause(self) -> None:
        """Until a signal says that the pause is over, or it is time to ask again: a signal may be lost."""
        revision = self._revision
        try:
            await workflow.wait_condition(
                lambda: self._revision != revision or self._stopped is not None,
                timeout=PAUSE_POLL,
                timeout_summary="paused",
            )
        except TimeoutError:
            self._paused = False
        self._raise_if_stopped()

    async def _for_each(
        self,
        services: list[str],
        call: Callable[[m.ServiceInput], Awaitable[m.ServiceNote]],
        failures: dict[str, str],
    ) -> list[str]:
        """Do a phase for all services at once; gives those to go on with. One failing stops no other."""
        inputs = [m.ServiceInput(optimization_id=self._id, service=service) for service in services]
        results = await asyncio.gather(*(call(arg) for arg in inputs), return_exceptions=True)
        going_on = []
        for service, result in zip(services, results, strict=True):
            if isinstance(result, m.ServiceNote):
                self._notes[service] = result.note
                if result.proceed:
                    going_on.append(service)
            else:
                self._notes[service] = failures[service] = _failure(result)
        self._raise_if_stopped()
        return going_on

    async def _act(self, services: list[str]) -> list[str]:
        """Open each plan's rollout and start its workflow, which goes on without this one."""
        deployments = []
        for service in services:
            self._raise_if_stopped()
            opened = await calls.open_rollout(m.ServiceInput(optimization_id=self._id, service=service))
            self._notes[service] = f"{self._notes[service]} {opened.note}"
            if opened.deployment_id is not None:
                await self._start_rollout(opened.deployment_id, opened.summary)
                deployments.append(opened.deployment_id)
        return deployments

    async def _start_rollout(self, deployment_id: str, summary: str) -> None:
        try:
            await workflow.start_child_workflow(
                RolloutWorkflow.run,
                m.RolloutInput(deployment_id=deployment_id),
                id=ids.rollout(deployment_id),
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,
                static_summary=summary,
            )
        except WorkflowAlreadyStartedError:
            workflow.logger.info("rollout was dispatched already", extra={"deployment_id": deployment_id})

    async def _fail(self, error: str) -> m.OptimizationOutcome:
        arg = m.FailInput(optimization_id=self._id, error=error)
        await run_to_the_end(lambda: calls.fail_optimization(arg))
        self._status = "failed"
        self._show(error)
        return m.OptimizationOutcome(optimization_id=self._id, decision="skip", deployments=[])

    def _raise_if_stopped(self) -> None:
        if self._stopped is not None:
            raise Halted(self._stopped)

    def _show(self, outcome: str | None) -> None:
        lines = [f"- **{service}**: {note}" for service, note in sorted(self._notes.items())]
        ended = f"\n\nOutcome: **{outcome}**" if outcome else ""
        workflow.set_current_details(
            f"Phase **{self._phase}**, {self._progress} %, {self._status}\n\n" + "\n".join(lines) + ended
        )
        if outcome:
            visibility.upsert(self._searchable, visibility.OUTCOME.value_set(self._status))

    @workflow.signal(description="Hold before the next phase.")
    def pause(self, control: m.ControlSignal | None = None) -> None:
        """Hold; a signal older than what is known is ignored."""
        self._hear(control, paused=True)

    @workflow.signal(description="Go on.")
    def resume(self, control: m.ControlSignal | None = None) -> None:
        """Go on; a signal older than what is known is ignored."""
        self._hear(control, paused=False)

    @workflow.signal(description="End the run now.")
    def emergency_stop(self, control: m.ControlSignal | None = None) -> None:
        """End the run."""
        reason = f": {control.reason}" if control and control.reason else ""
        self._stopped = f"emergency stop{reason}"

    def _hear(self, control: m.ControlSignal | None, *, paused: bool) -> None:
        if control is not None and control.revision <= self._revision:
            return
        self._paused = paused
        self._revision = control.revision if control else self._revision + 1

    @workflow.query(description="Where the run is.")
    def status(self) -> m.OptimizationProgress:
        """Status, progress and phase."""
        return m.OptimizationProgress(
            optimization_id=self._id,
            status=self._status,
            progress=self._progress,
            current_phase=self._phase,
        )


def _failure(error: BaseException) -> str:
    """What a failed activity says; anything else, a cancellation above all, is raised again."""
    if not isinstance(error, ActivityError) or is_cancelled_exception(error):
        raise error
    if isinstance(error.cause, ApplicationError) and error.cause.type in ("Stopped", "OptimizationClosed"):
        raise error
    return f"{error.activity_type} failed: {error.cause or error}"
