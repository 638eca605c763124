"""A rollout: durable steps, checks inside them, and compensation that cannot be skipped."""

import asyncio
import contextlib
from datetime import timedelta
from typing import Literal

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from domain.deployment import DeploymentStatus
    from workflows import calls, rollout_view, visibility
    from workflows import messages as m
    from workflows.compensation import run_to_the_end

CHECKS_PER_RUN = 160
"""Some 1,800 events, and room for four steps with every extension: most rollouts are one run, whose summary
and timeline tell the whole story, since a run that was continued as new has no summary of its own."""
# A signal may be lost; so often the database is asked as well.
PAUSE_POLL = timedelta(seconds=15)
APPROVAL_POLL = timedelta(minutes=10)


class TakeBack(Exception):
    """The rollout is to be rolled back; `verdict` is that of the present step, where it is the cause."""

    def __init__(
        self, reason: str, *, automatic: bool, verdict: Literal["unhealthy", "inconclusive"] | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.automatic = automatic
        self.verdict = verdict


@workflow.defn(name="Rollout")
class RolloutWorkflow:
    """Serves a version to a rising share, looks at its health, keeps it or takes it back."""

    @workflow.init
    def __init__(self, arg: m.RolloutInput) -> None:
        self._id = arg.deployment_id
        self._carried = arg.carried
        self._flags = arg.flags or m.RolloutFlags()
        self._checks_this_run = 0
        self._ending = False
        self._ended: m.RolloutOutcome | None = None

    # The run

    @workflow.run
    async def run(self, arg: m.RolloutInput) -> m.RolloutOutcome:
        """Carry the rollout out, to its completion or its compensation."""
        try:
            await self._roll_out()
            return self._end("completed", self._state.reason or "healthy in every step")
        except TakeBack as harm:
            return await self._compensate(harm)
        except asyncio.CancelledError:
            await self._compensate(TakeBack("the workflow was cancelled", automatic=False))
            raise
        except ActivityError as error:
            # A cancellation that meets a running activity comes out of it in this shape.
            if is_cancelled_exception(error):
                await self._compensate(TakeBack("the workflow was cancelled", automatic=False))
                raise
            return await self._after_failed_activity(error)
        except Exception as error:
            # Whatever else is broken, the workflow must end, for the reconciler to see that it did.
            with contextlib.suppress(Exception):
                await self._compensate(TakeBack(f"the workflow failed: {error}", automatic=True))
            raise ApplicationError(str(error), type="RolloutFailed", non_retryable=True) from error

    async def _after_failed_activity(self, error: ActivityError) -> m.RolloutOutcome:
        cause = error.cause
        kind = cause.type if isinstance(cause, ApplicationError) else None
        message = cause.message if isinstance(cause, ApplicationError) else str(cause or error)
        if kind in ("RolloutClosed", "Stopped"):
            # Another hand has ended it; the compensation, which changes nothing then, tells how.
            return await self._compensate(TakeBack(message, automatic=False))
        if kind == "LeaseLapsed":
            return await self._compensate(TakeBack(message, automatic=True))
        reason = f"{error.activity_type} failed: {message}"
        await self._compensate(TakeBack(reason, automatic=True))
        raise ApplicationError(reason, type="RolloutFailed", non_retryable=True) from error

    async def _roll_out(self) -> None:
        if self._carried is None:
            await self._begin()
        state = self._state
        self._show()
        if state.plan.approval == "before-start" and not self._flags.approved_start:
            await self._await_start()
        while not self._ending:
            if not state.over:
                await self._watch_step()
                state.over = True
                await self._continue_if_long()
            while self._flags.holding or not await self._advance():
                await self._wait_out_pause()

    async def _begin(self) -> None:
        while True:
            begun = await calls.begin_rollout(m.BeginRolloutInput(deployment_id=self._id))
            if begun.state is not None:
                break
            await self._sleep(PAUSE_POLL, "paused before the start")
            await self._continue_if_long()
        self._carried = begun.state
        state = self._state
        visibility.upsert(
            state.searchable,
            visibility.keyword(visibility.SERVICE, state.scope),
            visibility.keyword(visibility.VERSION, state.to_version),
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
            await self._require_row_open()
            await self._continue_if_long()
        state.waiting = "none"

    async def _advance(self) -> bool:
        """Serve the next step's share, or after the last keep the version; False where a pause forbids it."""
        self._raise_if_taken_back()
        if not self._in_last_step:
            return await self._enter(self._state.step + 1)
        # Meanwhile there is nothing left to promote or to abort.
        self._ending = True
        self._ending = (await calls.complete_rollout(self._ref(), within=self._lease)).completed
        return self._ending

    async def _enter(self, step: int) -> bool:
        state = self._state
        percent = state.plan.steps[step].percent
        arg = m.EnterStepInput(deployment_id=self._id, fence=state.fence, step=step, at=visibility.millis())
        if not (await calls.enter_step(arg, within=self._lease, summary=f"serve {percent:g} %")).entered:
            return False
        state.step, state.over, state.extensions, state.waiting = step, False, 0, "none"
        state.seconds_left = state.plan.step_seconds
        state.shown = "running"
        visibility.upsert(state.searchable, visibility.STEP_PERCENT.value_set(round(percent)))
        self._show()
        return True

    async def _wait_out_pause(self) -> None:
        """One turn of waiting for a pause to end before the next share; what is served is looked at."""
        state = self._state
        if state.shown != "paused":
            await self._show_status("paused", None)
        if state.step >= 0:
            await self._wait_for_next_check(counting=False)
            self._raise_on_harm(await self._check(at_end=False))
        else:
            await self._sleep(PAUSE_POLL, "paused before the first step")
            await self._require_row_open()
            self._flags.all_paused = False  # As far as is known here; `_advance` asks the database.
        await self._continue_if_long()

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
            self._raise_on_harm(result)
            self._raise_if_taken_back()
            if await self._may_leave(result, at_end):
                return
            await self._continue_if_long()

    async def _wait_for_next_check(self, counting: bool) -> None:
        """Sleep to the next look; a person's act ends the sleep. Time runs down only while `counting`."""
        state = self._state
        seconds = state.plan.check_seconds
        if counting:
            seconds = min(seconds, max(state.seconds_left, 0.0))
        percent = state.plan.steps[state.step].percent
        began = workflow.now()
        left = rollout_view.seconds(state.seconds_left)
        await self._sleep(
            timedelta(seconds=seconds),
            f"step {state.step + 1}/{len(state.plan.steps)} ({percent:g} %): {left} left",
        )
        if counting:
            # Rounding must not leave a sliver of a second for another look.
            remaining = state.seconds_left - (workflow.now() - began).total_seconds()
            state.seconds_left = remaining if remaining > 0.01 else 0.0

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
        # What was asked for until now is seen to next, without another look.
        self._flags.woken = False
        state.verdict, state.reason, state.table = result.verdict, result.reason, result.table
        if result.revision >= self._flags.revision:
            self._flags.all_paused, self._flags.revision = result.all_paused, result.revision
        self._show()
        return result

    async def _may_leave(self, result: m.CheckResult, at_end: bool) -> bool:
        """Whether the step is over, after a look that found no harm."""
        state = self._state
        if state.waiting == "full" and (self._flags.approved_full or self._flags.promoted == state.step):
            return True
        if self._flags.promoted == state.step:
            await self._close_step("healthy" if result.verdict == "healthy" else "inconclusive")
            return True
        if not at_end or self._flags.holding:
            return False
        if result.verdict == "inconclusive":
            return await self._inconclusive(result.reason)
        await self._close_step("healthy")
        wants_person = state.plan.approval == "before-full" or result.needs_approval
        if state.step == state.plan.last_partial_step and wants_person:
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
        if state.plan.on_inconclusive == "rollback":
            why = f"inconclusive after {state.extensions} extensions: {reason}"
            raise TakeBack(why, automatic=True, verdict="inconclusive")
        await self._close_step("inconclusive")
        if state.plan.on_inconclusive == "promote":
            return True
        state.waiting = "hold"
        await self._show_status("held", reason)
        return False

    async def _close_step(self, verdict: Literal["healthy", "inconclusive"]) -> None:
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
        if self._state.waiting != "none":
            return
        status: DeploymentStatus = "paused" if self._flags.holding else "running"
        if status != self._state.shown:
            await self._show_status(status, None)

    async def _show_status(self, status: DeploymentStatus, reason: str | None) -> None:
        state = self._state
        arg = m.ShowStatusInput(deployment_id=self._id, fence=state.fence, status=status, reason=reason)
        await calls.show_status(arg, within=self._lease)
        state.shown = status
        self._show()

    # Its end

    async def _compensate(self, why: TakeBack) -> m.RolloutOutcome:
        self._ending = True
        arg = m.RollBackInput(
            deployment_id=self._id,
            reason=why.reason,
            automatic=why.automatic,
            verdict=why.verdict,
            at=visibility.millis(),
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

    # Small things

    @property
    def _state(self) -> m.RolloutState:
        if self._carried is None:
            raise ApplicationError("the rollout has not begun yet", type="NotBegun", non_retryable=True)
        return self._carried

    @property
    def _in_last_step(self) -> bool:
        return self._state.step == len(self._state.plan.steps) - 1

    @property
    def _lease(self) -> timedelta:
        return timedelta(seconds=self._state.plan.lease_seconds)

    def _ref(self) -> m.RolloutRef:
        return m.RolloutRef(deployment_id=self._id, fence=self._state.fence)

    def _show(self) -> None:
        workflow.set_current_details(rollout_view.details(self._state))

    def _raise_on_harm(self, result: m.CheckResult) -> None:
        if result.verdict == "unhealthy":
            raise TakeBack(result.reason, automatic=True, verdict="unhealthy")

    def _raise_if_taken_back(self) -> None:
        flags = self._flags
        if flags.stopped is not None:
            raise TakeBack(flags.stopped, automatic=False)
        if flags.aborted is not None:
            why = f": {flags.aborted.reason}" if flags.aborted.reason else ""
            raise TakeBack(f"aborted by {flags.aborted.by}{why}", automatic=False)

    async def _require_row_open(self) -> None:
        """Raises where the rollout was ended without this workflow being told."""
        await calls.begin_rollout(m.BeginRolloutInput(deployment_id=self._id))

    async def _sleep(self, length: timedelta, summary: str) -> None:
        """Wait until `length` has passed on the workflow's clock, or a person does or did something."""
        with contextlib.suppress(asyncio.TimeoutError):
            await workflow.wait_condition(lambda: self._flags.woken, timeout=length, timeout_summary=summary)
        self._flags.woken = False
        self._raise_if_taken_back()

    async def _continue_if_long(self) -> None:
        """Go on in a new run where this one's history has grown."""
        if self._checks_this_run >= CHECKS_PER_RUN or workflow.info().is_continue_as_new_suggested():
            await self._continue_as_new()

    async def _continue_as_new(self) -> None:
        await workflow.wait_condition(workflow.all_handlers_finished)
        self._raise_if_taken_back()
        workflow.continue_as_new(
            m.RolloutInput(deployment_id=self._id, carried=self._carried, flags=self._flags)
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
        self._flags.woken = True

    @workflow.signal(description="Take the rollout back at once.")
    def emergency_stop(self, control: m.ControlSignal | None = None) -> None:
        """A signal that is older than what is known is ignored."""
        if control is not None:
            if control.revision <= self._flags.revision:
                return
            self._flags.revision = control.revision
        reason = f": {control.reason}" if control and control.reason else ""
        self._flags.stopped = f"emergency stop{reason}"
        self._flags.woken = True

    @workflow.update(description="Give the approval that the rollout waits for.")
    def approve(self, act: m.Act | None = None) -> m.RolloutStatus:
        """Let a rollout start, or go on to full exposure."""
        if self._state.waiting == "start":
            self._flags.approved_start = True
        else:
            self._flags.approved_full = True
        self._flags.woken = True
        return self.status()

    @approve.validator
    def _can_approve(self, act: m.Act | None = None) -> None:
        self._require_open()
        if self._carried is None or self._carried.waiting not in ("start", "full"):
            raise ApplicationError("the rollout waits for no approval", type="Conflict")

    @workflow.update(description="End the present step now, as if its verdict were good.")
    def promote(self, act: m.Act | None = None) -> m.RolloutStatus:
        """Move on to the next step, or from the last to completion."""
        self._flags.promoted = self._state.step
        self._flags.woken = True
        return self.status()

    @promote.validator
    def _can_promote(self, act: m.Act | None = None) -> None:
        self._require_open()
        if self._carried is None or self._carried.step < 0:
            raise ApplicationError("the rollout has not started yet", type="Conflict")
        if self._flags.holding:
            raise ApplicationError("the rollout is paused; resume it first", type="Conflict")

    @workflow.update(description="Take the rollout back.")
    def abort(self, act: m.Act | None = None) -> m.RolloutStatus:
        """Roll back to the version that was served before."""
        self._flags.aborted = act or m.Act()
        self._flags.woken = True
        return self.status()

    @abort.validator
    def _can_abort(self, act: m.Act | None = None) -> None:
        self._require_open()

    def _require_open(self) -> None:
        if self._ending or self._flags.stopped or self._flags.aborted:
            raise ApplicationError("the rollout has ended, or is about to", type="Conflict")

    @workflow.query(description="Where the rollout is.")
    def status(self) -> m.RolloutStatus:
        """The present step, share, time left and last verdict."""
        return rollout_view.status(self._id, self._carried, ended=self._ended is not None)
