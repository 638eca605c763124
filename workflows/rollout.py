"""A rollout: durable steps, checks inside them, and compensation that cannot be skipped."""

import asyncio
import contextlib
from datetime import timedelta
from typing import Literal

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from domain.deployment import DeploymentStatus
    from workflows import calls, visibility
    from workflows import messages as m
    from workflows.compensation import run_to_the_end

CHECKS_PER_RUN = 40
PAUSE_POLL = timedelta(seconds=5)
APPROVAL_POLL = timedelta(minutes=10)


class TakeBack(Exception):
    """The rollout is to be rolled back."""

    def __init__(self, reason: str, *, automatic: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.automatic = automatic


@workflow.defn(name="Rollout")
class RolloutWorkflow:
    """Serves a version to a rising share, looks at its health, keeps it or takes it back."""

    @workflow.init
    def __init__(self, arg: m.RolloutInput) -> None:
        self._id = arg.deployment_id
        self._carried = arg.carried
        self._flags = arg.flags or m.RolloutFlags()
        self._woken = False
        self._checks_this_run = 0
        self._ended: m.RolloutOutcome | None = None

    # The run

    @workflow.run
    async def run(self, arg: m.RolloutInput) -> m.RolloutOutcome:
        """Carry the rollout out, to its completion or its compensation."""
        try:
            await self._roll_out()
            return self._end("completed", self._state.reason or "healthy in every step")
        except TakeBack as harm:
            return await self._compensate(harm.reason, automatic=harm.automatic)
        except asyncio.CancelledError:
            await self._compensate("the workflow was cancelled", automatic=False)
            raise
        except ActivityError as error:
            # A cancellation that meets a running activity comes out of it in this shape.
            if is_cancelled_exception(error):
                await self._compensate("the workflow was cancelled", automatic=False)
                raise
            return await self._after_failed_activity(error)
        except Exception as error:
            await self._compensate(f"the workflow failed: {error}", automatic=True)
            raise ApplicationError(str(error), type="RolloutFailed", non_retryable=True) from error

    async def _after_failed_activity(self, error: ActivityError) -> m.RolloutOutcome:
        cause = error.cause
        kind = cause.type if isinstance(cause, ApplicationError) else None
        message = cause.message if isinstance(cause, ApplicationError) else str(cause or error)
        if kind in ("RolloutClosed", "Stopped"):
            # Another hand has ended it; the compensation, which changes nothing then, tells how.
            return await self._compensate(message, automatic=False)
        if kind == "LeaseLapsed":
            return await self._compensate(message, automatic=True)
        outcome = await self._compensate(f"{error.activity_type} failed: {message}", automatic=True)
        raise ApplicationError(outcome.reason, type="RolloutFailed", non_retryable=True) from error

    async def _roll_out(self) -> None:
        if self._carried is None:
            await self._begin()
        state = self._state
        self._show()
        if state.plan.approval == "before-start" and state.step < 0:
            await self._await_start()
        while True:
            if state.seconds_left <= 0 and state.waiting == "none":
                await self._enter(state.step + 1)
            await self._watch_step()
            if state.step == len(state.plan.steps) - 1:
                break
            state.seconds_left = 0
            await self._continue_as_new()
        await calls.complete_rollout(self._ref(), within=self._lease)

    async def _begin(self) -> None:
        while True:
            begun = await calls.begin_rollout(m.RolloutInput(deployment_id=self._id))
            if begun.state is not None:
                break
            await self._sleep(PAUSE_POLL, "paused before the start")
            self._raise_if_taken_back()
        self._carried = begun.state
        state = self._state
        visibility.upsert(
            state.searchable,
            visibility.SERVICE.value_set(state.scope),
            visibility.VERSION.value_set(state.to_version),
            visibility.DEPLOYMENT.value_set(self._id),
            visibility.STRATEGY.value_set(state.plan.strategy),
            visibility.OUTCOME.value_set("running"),
            visibility.STEP_PERCENT.value_set(0),
        )

    async def _await_start(self) -> None:
        state = self._state
        state.waiting, state.shown = "start", "awaiting_approval"
        self._show()
        while not self._flags.approved_start:
            await self._sleep(APPROVAL_POLL, "approval before the start")
            self._raise_if_taken_back()
            # Raises where the rollout was ended meanwhile without this workflow being told.
            await calls.begin_rollout(m.RolloutInput(deployment_id=self._id))
        state.waiting = "none"

    async def _enter(self, step: int) -> None:
        state = self._state
        percent = state.plan.steps[step].percent
        arg = m.EnterStepInput(deployment_id=self._id, fence=state.fence, step=step, at=visibility.millis())
        await calls.enter_step(arg, within=self._lease, summary=f"serve {percent:g} %")
        state.step, state.extensions = step, 0
        self._flags.promoted = False
        state.seconds_left = state.plan.step_seconds
        state.shown = "running"
        visibility.upsert(state.searchable, visibility.STEP_PERCENT.value_set(round(percent)))
        self._show()

    # A step

    async def _watch_step(self) -> None:
        """Look at the present step until it may be left, or raise `TakeBack`."""
        state = self._state
        while True:
            await self._follow_pause()
            counting = not self._flags.holding and state.waiting == "none"
            await self._wait_for_next_check(counting)
            at_end = counting and state.seconds_left <= 0
            result = await self._check(at_end)
            if result.verdict == "unhealthy":
                await self._close_step("unhealthy")
                raise TakeBack(result.reason, automatic=True)
            if await self._may_leave(result, at_end):
                return
            if self._checks_this_run >= CHECKS_PER_RUN or workflow.info().is_continue_as_new_suggested():
                await self._continue_as_new()

    async def _wait_for_next_check(self, counting: bool) -> None:
        """Sleep to the next look; a person's act ends the sleep. Time runs down only while `counting`."""
        state = self._state
        seconds = state.plan.check_seconds
        if counting:
            seconds = min(seconds, max(state.seconds_left, 0.0))
        percent = state.plan.steps[state.step].percent
        began = workflow.now()
        await self._sleep(
            timedelta(seconds=seconds),
            f"step {state.step + 1}/{len(state.plan.steps)} ({percent:g} %): {state.seconds_left:g} s left",
        )
        self._raise_if_taken_back()
        if counting:
            # Rounding must not leave a sliver of a second for another look.
            left = state.seconds_left - (workflow.now() - began).total_seconds()
            state.seconds_left = left if left > 0.01 else 0.0

    async def _check(self, at_end: bool) -> m.CheckResult:
        state = self._state
        state.check_number += 1
        self._checks_this_run += 1
        result = await calls.check_rollout(
            m.CheckInput(
                deployment_id=self._id,
                fence=state.fence,
                number=state.check_number,
                step=state.step,
                step_end=at_end,
                extension=state.extensions,
                at=visibility.millis(),
            ),
            within=self._lease,
            summary=f"{state.plan.steps[state.step].percent:g} %: look {state.check_number}",
        )
        state.verdict, state.reason, state.table = result.verdict, result.reason, result.table
        if result.revision >= self._flags.revision:
            self._flags.all_paused, self._flags.revision = result.all_paused, result.revision
        self._show()
        return result

    async def _may_leave(self, result: m.CheckResult, at_end: bool) -> bool:
        """Whether the step is over, after a look that found no harm."""
        state = self._state
        if self._flags.promoted:
            await self._close_step("healthy" if result.verdict == "healthy" else "inconclusive")
            state.waiting = "none"
            return True
        if state.waiting == "full" and self._flags.approved_full:
            state.waiting = "none"
            return True
        if not at_end or self._flags.holding:
            return False
        if result.verdict == "inconclusive":
            return await self._inconclusive(result.reason)
        await self._close_step("healthy")
        wants_person = state.plan.approval == "before-full" or result.needs_approval
        if state.step == state.plan.last_partial_step and wants_person and not self._flags.approved_full:
            state.waiting = "full"
            await self._show_status("awaiting_approval", "a person's word is wanted before full exposure")
            return False
        return True

    async def _inconclusive(self, reason: str) -> bool:
        """Extend the step, or do what the policy says once extensions are used up."""
        state = self._state
        if state.extensions < state.plan.max_extensions:
            state.extensions += 1
            state.seconds_left = state.plan.step_seconds
            arg = m.ExtendStepInput(
                deployment_id=self._id, fence=state.fence, step=state.step, extensions=state.extensions
            )
            await calls.extend_step(arg, within=self._lease)
            return False
        await self._close_step("inconclusive")
        match state.plan.on_inconclusive:
            case "rollback":
                raise TakeBack(f"inconclusive after {state.extensions} extensions: {reason}", automatic=True)
            case "promote":
                return True
            case "hold":
                state.waiting = "hold"
                await self._show_status("held", reason)
                return False

    async def _close_step(self, verdict: Literal["healthy", "unhealthy", "inconclusive"]) -> None:
        state = self._state
        arg = m.EndStepInput(
            deployment_id=self._id,
            fence=state.fence,
            step=state.step,
            verdict=verdict,
            extensions=state.extensions,
            at=visibility.millis(),
        )
        await calls.end_step(arg, within=self._lease)

    async def _follow_pause(self) -> None:
        """Show what holds the rollout, if it is not what is shown."""
        state = self._state
        if state.waiting != "none":
            return
        status: DeploymentStatus = "paused" if self._flags.holding else "running"
        if status != state.shown:
            await self._show_status(status, None)

    async def _show_status(self, status: DeploymentStatus, reason: str | None) -> None:
        state = self._state
        arg = m.ShowStatusInput(deployment_id=self._id, fence=state.fence, status=status, reason=reason)
        await calls.show_status(arg, within=self._lease)
        state.shown = status
        self._show()

    # Its end

    async def _compensate(self, reason: str, *, automatic: bool) -> m.RolloutOutcome:
        step = self._carried.step if self._carried else -1
        arg = m.RollBackInput(
            deployment_id=self._id, reason=reason, automatic=automatic, step=step, at=visibility.millis()
        )
        outcome = await run_to_the_end(lambda: calls.roll_back(arg))
        return self._end(outcome.status, outcome.reason)

    def _end(self, status: DeploymentStatus, reason: str) -> m.RolloutOutcome:
        self._ended = m.RolloutOutcome(deployment_id=self._id, status=status, reason=reason)
        if self._carried is not None:
            self._carried.shown = status
            self._carried.reason = reason
            visibility.upsert(self._carried.searchable, visibility.OUTCOME.value_set(status))
            self._show()
        return self._ended

    async def _continue_as_new(self) -> None:
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(
            m.RolloutInput(deployment_id=self._id, carried=self._state, flags=self._flags)
        )

    # Small things

    @property
    def _state(self) -> m.RolloutState:
        if self._carried is None:
            raise ApplicationError("the rollout has not begun yet", type="NotBegun", non_retryable=True)
        return self._carried

    @property
    def _lease(self) -> timedelta:
        return timedelta(seconds=self._state.plan.lease_seconds)

    def _ref(self) -> m.RolloutRef:
        return m.RolloutRef(deployment_id=self._id, fence=self._state.fence)

    def _raise_if_taken_back(self) -> None:
        flags = self._flags
        if flags.stopped is not None:
            raise TakeBack(flags.stopped, automatic=False)
        if flags.aborted is not None:
            why = f": {flags.aborted.reason}" if flags.aborted.reason else ""
            raise TakeBack(f"aborted by {flags.aborted.by}{why}", automatic=False)

    async def _sleep(self, length: timedelta, summary: str) -> None:
        """Wait until `length` has passed on the workflow's clock, or a person does or did something."""
        with contextlib.suppress(asyncio.TimeoutError):
            await workflow.wait_condition(lambda: self._woken, timeout=length, timeout_summary=summary)
        self._woken = False

    def _show(self) -> None:
        """Keep the live details of the Temporal UI at what is known now."""
        state = self._state
        percent = state.plan.steps[state.step].percent if state.step >= 0 else 0
        workflow.set_current_details(
            f"**{state.scope}**: {state.from_version} → **{state.to_version}** ({state.plan.strategy})\n\n"
            f"Step {state.step + 1} of {len(state.plan.steps)}, {percent:g} % of the traffic, "
            f"**{state.shown.replace('_', ' ')}**, {state.seconds_left:g} s left, "
            f"{state.extensions} extensions, {state.check_number} looks.\n\n"
            f"Last verdict: **{state.verdict}**. {state.reason}\n\n{state.table}"
        )

    # What people and the system may do

    @workflow.signal(description="Keep the share and the time left; go on looking for harm.")
    def pause(self, control: m.ControlSignal | None = None) -> None:
        """The rollout's own pause; with a control signal, the whole system's."""
        self._set_pause(True, control)

    @workflow.signal(description="Go on from where the rollout was paused.")
    def resume(self, control: m.ControlSignal | None = None) -> None:
        """End the rollout's own pause; with a control signal, the whole system's."""
        self._set_pause(False, control)

    def _set_pause(self, paused: bool, control: m.ControlSignal | None) -> None:
        if control is None:
            self._flags.paused = paused
        elif control.revision > self._flags.revision:
            self._flags.all_paused, self._flags.revision = paused, control.revision
        self._woken = True

    @workflow.signal(description="Take the rollout back at once.")
    def emergency_stop(self, control: m.ControlSignal | None = None) -> None:
        """A signal that is older than what is known is ignored."""
        if control is not None:
            if control.revision <= self._flags.revision:
                return
            self._flags.revision = control.revision
        reason = f": {control.reason}" if control and control.reason else ""
        self._flags.stopped = f"emergency stop{reason}"
        self._woken = True

    @workflow.update(description="Give the approval that the rollout waits for.")
    def approve(self, act: m.Act | None = None) -> m.RolloutStatus:
        """Let a rollout start, or go on to full exposure."""
        if self._state.waiting == "start":
            self._flags.approved_start = True
        else:
            self._flags.approved_full = True
        self._woken = True
        return self.status()

    @approve.validator
    def _can_approve(self, act: m.Act | None = None) -> None:
        self._require_open()
        if self._state.waiting not in ("start", "full"):
            raise ApplicationError("the rollout waits for no approval", type="Conflict")

    @workflow.update(description="End the present step now, as if its verdict were good.")
    def promote(self, act: m.Act | None = None) -> m.RolloutStatus:
        """Move on to the next step, or from the last to completion."""
        self._flags.promoted = True
        self._woken = True
        return self.status()

    @promote.validator
    def _can_promote(self, act: m.Act | None = None) -> None:
        self._require_open()
        if self._state.step < 0:
            raise ApplicationError("the rollout has not started; approve it first", type="Conflict")

    @workflow.update(description="Take the rollout back.")
    def abort(self, act: m.Act | None = None) -> m.RolloutStatus:
        """Roll back to the version that was served before."""
        self._flags.aborted = act or m.Act()
        self._woken = True
        return self.status()

    @abort.validator
    def _can_abort(self, act: m.Act | None = None) -> None:
        self._require_open()

    def _require_open(self) -> None:
        if self._carried is None:
            raise ApplicationError("the rollout has not begun yet", type="Conflict")
        if self._ended is not None or self._flags.stopped or self._flags.aborted:
            raise ApplicationError("the rollout has ended", type="Conflict")

    @workflow.query(description="Where the rollout is.")
    def status(self) -> m.RolloutStatus:
        """The present step, share, time left and last verdict."""
        state = self._carried
        if state is None:
            return m.RolloutStatus(
                deployment_id=self._id,
                status="pending",
                step=-1,
                steps=0,
                traffic_percent=0,
                seconds_left=0,
                extensions=0,
                checks=0,
                last_verdict="continue",
                last_reason="",
            )
        served = state.plan.steps[state.step].traffic_percent if state.step >= 0 else 0.0
        return m.RolloutStatus(
            deployment_id=self._id,
            status=state.shown,
            step=state.step,
            steps=len(state.plan.steps),
            traffic_percent=served if self._ended is None else 0.0,
            seconds_left=state.seconds_left,
            extensions=state.extensions,
            checks=state.check_number,
            last_verdict=state.verdict,
            last_reason=state.reason,
        )
