"""A run of the loop, with all its real activities."""

import asyncio
import math

import pytest
from sqlalchemy import select
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.testing import ActivityEnvironment

from activities.optimization import OptimizationActivities
from domain.decision.strategy import StructuredPriorStrategy
from storage import control, history, ledger, services
from storage.ledger import Selection
from storage.tables import Rollout
from tests.workflows.lab import CANDIDATE, Lab, RunHandle, policy
from tests.workflows.traffic import Arm
from workflows import ids, starts
from workflows import messages as m
from workflows.optimization import OptimizationWorkflow
from workflows.rollout import RolloutWorkflow


async def begun_phases(lab: Lab) -> list[tuple[str, int]]:
    """Fills with each phase that is entered and its progress."""
    seen: list[tuple[str, int]] = []

    async def note(arg: m.PhaseInput) -> None:
        seen.append((arg.phase, arg.progress))

    lab.hooks.before["begin-phase"] = note
    return seen


async def rollout_of(lab: Lab, optimization_id: str) -> Rollout:
    """The rollout that the run opened."""
    query = select(Rollout).where(Rollout.optimization_id == optimization_id)
    async with lab.database.transaction() as session:
        return (await session.execute(query)).scalar_one()


async def cancel(lab: Lab, handle: RunHandle) -> None:
    """Cancel the run while an activity of it is under way, which then writes nothing more."""
    await handle.cancel()
    await lab.until_event(handle, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
    raise ApplicationError("cancelled")


async def test_a_run_goes_through_its_phases_and_starts_the_rollout_of_its_plan(lab: Lab) -> None:
    await lab.service()
    phases = await begun_phases(lab)
    optimization_id = await lab.open_run("chat")
    handle = await lab.start_run(optimization_id)
    outcome = await handle.result()

    assert phases == [("observe", 5), ("analyze", 30), ("decide", 55), ("act", 80)]
    assert outcome.decision == "optimize"
    status = await lab.run_status(optimization_id)
    assert (status.status, status.progress, status.current_phase) == ("completed", 100, "act")
    assert status.result is not None
    (plan,) = status.result.plans
    assert plan.recommended_config == CANDIDATE
    assert plan.expected_improvement["cost.avg"] > 0.5
    assert status.result.changes_applied
    assert status.result.reasoning.startswith("chat: ")
    (deployment,) = status.result.deployments
    assert outcome.deployments == [deployment.deployment_id]
    progress = await handle.query(OptimizationWorkflow.status)
    assert (progress.status, progress.progress, progress.current_phase) == ("completed", 100, "act")
    assert "optimization.complete" in await lab.event_types()

    # The run is over; its rollout goes on, and tells the run what it measured.
    cheaper = Arm(deployment.config_version, CANDIDATE, cost_usd=0.0018)
    await lab.traffic(deployment.deployment_id, requests=2_000, canary=cheaper)
    rollout = lab.handle(deployment.deployment_id)
    assert (await rollout.result()).status == "completed"
    assert await lab.served() == deployment.config_version
    result = (await lab.run_status(optimization_id)).result
    assert result is not None
    assert result.deployments[0].status == "completed"
    assert result.improvements is not None
    assert 0.05 < result.improvements["cost.avg"] < 0.15

    async with lab.database.transaction() as session:
        _, told = await history.list_events(session, limit=10, offset=0)
        entries = await ledger.entries(session, Selection())
        ((confidence, _),) = await ledger.confidences(session, Selection())
    # Each prediction is kept with what it started from, beside what was measured.
    assert confidence == plan.confidence
    promised = {entry.metric: entry for entry in entries if entry.predicted}
    assert {metric: entry.predicted for metric, entry in promised.items()} == plan.predictions
    cost = promised["cost.avg"]
    assert cost.outcome == "completed"
    assert cost.incumbent == pytest.approx(0.002, rel=0.05)
    assert cost.comparison is not None
    assert cost.comparison.measured == pytest.approx(math.log(0.9), abs=0.05)
    assert [event.type for event in told] == ["deployment", "decision", "analysis"]
    deployed, decided, analysed = told
    assert deployed.actual_improvement == result.improvements
    assert deployed.predicted_improvement == decided.predicted_improvement == plan.expected_improvement
    assert "requests" in analysed.reasoning


async def test_a_dry_run_ends_with_its_plan(lab: Lab) -> None:
    await lab.service()
    phases = await begun_phases(lab)
    optimization_id = await lab.open_run("chat", dryRun=True)
    outcome = await (await lab.start_run(optimization_id)).result()
    assert (outcome.decision, outcome.deployments) == ("optimize", [])
    assert [phase for phase, _ in phases] == ["observe", "analyze", "decide"]
    result = (await lab.run_status(optimization_id)).result
    assert result is not None
    assert [plan.recommended_config for plan in result.plans] == [CANDIDATE]
    assert not result.changes_applied
    assert await lab.event_types() == ["config.changed", "optimization.complete"]


async def test_a_run_that_finds_nothing_better_says_why(lab: Lab) -> None:
    await lab.service(searchSpace={"models": []})
    optimization_id = await lab.open_run("chat")
    outcome = await (await lab.start_run(optimization_id)).result()
    assert (outcome.decision, outcome.deployments) == ("skip", [])
    result = (await lab.run_status(optimization_id)).result
    assert result is not None
    assert result.decision == "skip"
    assert result.reasoning.startswith("chat: ")
    assert len(result.reasoning) > len("chat: ") + 20
    assert result.plans == []


async def test_a_service_that_serves_nothing_is_skipped(lab: Lab) -> None:
    async with lab.database.transaction() as session:
        await services.note(session, ["silent"])
    optimization_id = await lab.open_run("silent")
    assert (await (await lab.start_run(optimization_id)).result()).decision == "skip"
    result = (await lab.run_status(optimization_id)).result
    assert result is not None
    assert result.reasoning == "silent: no configuration is served that could be improved."


async def test_a_plan_is_not_deployed_where_the_policy_leaves_that_to_a_person(lab: Lab) -> None:
    await lab.service(automatic=False)
    optimization_id = await lab.open_run("chat")
    outcome = await (await lab.start_run(optimization_id)).result()
    assert (outcome.decision, outcome.deployments) == ("optimize", [])
    result = (await lab.run_status(optimization_id)).result
    assert result is not None
    assert result.reasoning.endswith("Not deployed: the policy leaves that to a person.")
    assert len(result.plans) == 1


async def test_a_plan_is_not_deployed_onto_an_open_rollout(lab: Lab) -> None:
    await lab.service()
    optimization_id = await lab.open_run("chat")
    opened: list[str] = []

    async def open_another(arg: m.ServiceInput) -> None:
        other = CANDIDATE.model_copy(update={"temperature": 0.1})
        opened.append(await lab.open(policy(), config=other))

    lab.hooks.before["open-rollout"] = open_another
    outcome = await (await lab.start_run(optimization_id)).result()
    assert outcome.deployments == []
    result = (await lab.run_status(optimization_id)).result
    assert result is not None
    assert f"Not deployed: rollout {opened[0]} of chat@2 is open on chat." in result.reasoning


async def test_a_plan_that_may_not_be_deployed_any_more_is_refused_with_an_alert(lab: Lab) -> None:
    await lab.service(constraints=[{"type": "hard", "cooldownMs": 3_600_000}])
    await lab.execute("UPDATE scopes SET applied_at = now() - interval '2 hours'")
    optimization_id = await lab.open_run("chat")

    async def change_meanwhile(arg: m.ServiceInput) -> None:
        await lab.execute("UPDATE scopes SET applied_at = now()")

    lab.hooks.before["open-rollout"] = change_meanwhile
    outcome = await (await lab.start_run(optimization_id)).result()
    assert (outcome.decision, outcome.deployments) == ("optimize", [])
    result = (await lab.run_status(optimization_id)).result
    assert result is not None
    assert "Not deployed: " in result.reasoning
    (raised,) = [event for event in await lab.events() if event.type == "alert.raised"]
    assert raised.data["reason"] == "a configuration was refused"
    (violation,) = raised.data["details"]["violations"]
    assert violation["message"] in result.reasoning
    assert "cooldown" in violation["message"]


async def test_a_guess_at_a_model_never_tried_is_deployed_and_taken_back_where_it_was_wrong(lab: Lab) -> None:
    floor = 88
    await lab.service(constraints=[{"type": "hard", "metric": "quality.avg", "min": floor}])
    optimization_id = await lab.open_run("chat")
    (deployment_id,) = (await (await lab.start_run(optimization_id)).result()).deployments
    result = (await lab.run_status(optimization_id)).result
    assert result is not None
    (plan,) = result.plans
    assert plan.recommended_config == CANDIDATE
    assert plan.predictions["quality.avg"].mean < floor < plan.predictions["quality.avg"].high
    worse = Arm(result.deployments[0].config_version, CANDIDATE, cost_usd=0.0002, quality=80.0)
    await lab.traffic(deployment_id, requests=2_000, canary=worse)
    assert (await lab.handle(deployment_id).result()).status == "rolled_back"
    assert await lab.served() == "chat@1"


async def test_cancelling_a_run_leaves_the_rollout_that_it_started_alone(lab: Lab) -> None:
    await lab.service()
    optimization_id = await lab.open_run("chat")
    handle = lab.run_handle(optimization_id)

    async def wait_for_the_rollout(arg: m.FinishInput) -> None:
        await lab.until_row((await rollout_of(lab, optimization_id)).id, step=0)
        await cancel(lab, handle)

    lab.hooks.before["finish-optimization"] = wait_for_the_rollout
    await lab.start_run(optimization_id, skipping=False)
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    assert isinstance(failure.value.cause, CancelledError)
    row = await lab.run_row(optimization_id)
    assert (row.status, row.error) == ("failed", "the workflow was cancelled")
    deployment_id = (await rollout_of(lab, optimization_id)).id
    rollout = lab.handle(deployment_id)
    # It goes on: it can still be asked, and comes to its end.
    assert (await rollout.describe()).status == WorkflowExecutionStatus.RUNNING
    assert (await rollout.query(RolloutWorkflow.status)).status == "running"
    await lab.traffic(deployment_id, requests=2_000)
    await lab.skipper.fast_forward(rollout)
    assert (await rollout.result()).status == "completed"


async def test_a_run_that_is_cancelled_withdraws_what_has_not_begun(lab: Lab) -> None:
    await lab.service()
    optimization_id = await lab.open_run("chat")
    handle = lab.run_handle(optimization_id)
    before = asyncio.Event()

    async def hold(arg: m.BeginRolloutInput) -> None:
        await before.wait()

    async def cancel_now(arg: m.FinishInput) -> None:
        await cancel(lab, handle)

    lab.hooks.before["begin-rollout"] = hold
    lab.hooks.before["finish-optimization"] = cancel_now
    await lab.start_run(optimization_id)
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    before.set()
    deployment_id = (await rollout_of(lab, optimization_id)).id
    assert (await lab.handle(deployment_id).result()).status == "rolled_back"
    row = await lab.row(deployment_id)
    assert (row.status, row.step) == ("rolled_back", -1)


async def test_a_pause_holds_the_run_before_its_next_phase(lab: Lab) -> None:
    await lab.service()
    phases = await begun_phases(lab)
    note = lab.hooks.before["begin-phase"]
    optimization_id = await lab.open_run("chat", dryRun=True)
    handle = lab.run_handle(optimization_id)
    shown: list[str] = []

    async def pause(arg: m.ServiceInput) -> None:
        async with lab.database.transaction() as session:
            row = await control.pause(session, reason=None, by="ada")
        await handle.signal(OptimizationWorkflow.pause, m.ControlSignal(revision=row.revision))

    async def note_and_resume(arg: m.PhaseInput) -> None:
        await note(arg)
        if len(phases) == 4:
            shown.append((await handle.query(OptimizationWorkflow.status)).status)
            assert (await lab.run_row(optimization_id)).phase == "observe"
            async with lab.database.transaction() as session:
                await control.resume(session, by="ada")

    lab.hooks.before["observe"] = pause
    lab.hooks.before["begin-phase"] = note_and_resume
    await lab.start_run(optimization_id)
    assert (await handle.result()).decision == "optimize"
    assert shown == ["paused"]
    assert [phase for phase, _ in phases] == ["observe", *["analyze"] * 3, "decide"]


async def test_a_run_s_own_pause_lasts_until_it_is_resumed(lab: Lab) -> None:
    await lab.service()
    optimization_id = await lab.open_run("chat", dryRun=True)
    handle = lab.run_handle(optimization_id)
    polls = 0

    async def pause(arg: m.ServiceInput) -> None:
        await handle.signal(OptimizationWorkflow.pause)

    async def poll(arg: m.OptimizationRef) -> None:
        nonlocal polls
        polls += 1
        # The first one is the claim itself.
        if polls == 4:
            assert (await handle.query(OptimizationWorkflow.status)).status == "paused"
            # All is resumed, but this run not.
            await handle.signal(OptimizationWorkflow.resume, m.ControlSignal(revision=9))
        if polls == 6:
            await handle.signal(OptimizationWorkflow.resume)

    lab.hooks.before["observe"] = pause
    lab.hooks.before["claim-optimization"] = poll
    await lab.start_run(optimization_id)
    assert (await handle.result()).decision == "optimize"
    assert polls == 6


async def test_a_run_opened_in_a_pause_begins_after_it(lab: Lab) -> None:
    await lab.service()
    async with lab.database.transaction() as session:
        await control.pause(session, reason=None, by="ada")
    optimization_id = await lab.open_run("chat", dryRun=True)
    handle = lab.run_handle(optimization_id)
    asked = 0

    async def resume_at_last(arg: m.OptimizationRef) -> None:
        nonlocal asked
        asked += 1
        assert (await lab.run_row(optimization_id)).status == "queued"
        if asked == 3:
            async with lab.database.transaction() as session:
                await control.resume(session, by="ada")

    lab.hooks.before["claim-optimization"] = resume_at_last
    await lab.start_run(optimization_id)
    assert (await handle.result()).decision == "optimize"
    assert asked == 3


async def test_a_run_continued_in_a_pause_goes_on_with_the_phase_before_which_it_held(lab: Lab) -> None:
    await lab.service()
    optimization_id = await lab.open_run("chat", dryRun=True)
    handle = lab.run_handle(optimization_id)

    async def end(arg: m.PhaseInput) -> None:
        if arg.phase == "decide":
            await handle.terminate("its history is long")

    lab.hooks.before["begin-phase"] = end
    await lab.start_run(optimization_id)
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    carried = m.OptimizationState(
        services=["chat"],
        going_on=["chat"],
        dry_run=True,
        searchable=True,
        phase="analyze",
        coming="decide",
        progress=30,
        notes={"chat": "analyzed"},
        failures={},
    )
    flags = m.OptimizationFlags(paused=True)
    shown: list[tuple[str, str, int]] = []

    async def look_and_resume(arg: m.OptimizationRef) -> None:
        status = await handle.query(OptimizationWorkflow.status)
        shown.append((status.status, status.current_phase, status.progress))
        await handle.signal(OptimizationWorkflow.resume)

    lab.hooks.before["claim-optimization"] = look_and_resume
    phases = await begun_phases(lab)
    await lab.skipper.client.start_workflow(
        OptimizationWorkflow.run,
        m.OptimizationInput(optimization_id=optimization_id, carried=carried, flags=flags),
        id=handle.id,
        task_queue=ids.TASK_QUEUE,
    )
    assert (await handle.result()).decision == "optimize"
    assert shown == [("paused", "analyze", 30)]
    assert phases == [("decide", 55)]
    assert (await lab.run_status(optimization_id)).status == "completed"


async def test_an_emergency_stop_ends_the_run_in_mid_phase(lab: Lab) -> None:
    await lab.service()
    optimization_id = await lab.open_run("chat")
    handle = lab.run_handle(optimization_id)
    for_ever = asyncio.Event()

    async def stop(arg: m.ServiceInput) -> None:
        async with lab.database.transaction() as session:
            stopped = await control.emergency_stop(session, reason="fire", by="ada")
        assert stopped.optimizations == [optimization_id]
        signal = m.ControlSignal(revision=stopped.revision, reason="fire")
        await handle.signal(OptimizationWorkflow.emergency_stop, signal)
        await for_ever.wait()

    lab.hooks.before["analyze"] = stop
    await lab.start_run(optimization_id)
    async with asyncio.timeout(20):
        outcome = await handle.result()
    for_ever.set()
    assert (outcome.decision, outcome.deployments) == ("skip", [])
    row = await lab.run_row(optimization_id)
    assert (row.status, row.error) == ("failed", "emergency stop: fire")
    assert (await handle.query(OptimizationWorkflow.status)).status == "failed"


async def test_a_stop_that_is_not_signalled_ends_the_run_at_its_next_phase(lab: Lab) -> None:
    await lab.service()
    optimization_id = await lab.open_run("chat")
    handle = lab.run_handle(optimization_id)

    async def stop(arg: m.ServiceInput) -> None:
        async with lab.database.transaction() as session:
            await control.emergency_stop(session, reason="fire", by="ada")

    lab.hooks.before["decide"] = stop
    await lab.start_run(optimization_id)
    assert (await handle.result()).deployments == []
    assert (await lab.run_row(optimization_id)).error == "emergency stop: fire"


@pytest.mark.parametrize("activity", ["observe", "decide", "open-rollout"])
async def test_one_service_that_fails_stops_no_other(lab: Lab, activity: str) -> None:
    await lab.service("bad")
    await lab.service("chat")
    optimization_id = await lab.open_run("chat", "bad")
    handle = lab.run_handle(optimization_id)

    async def fail(arg: m.ServiceInput) -> None:
        if arg.service == "bad":
            raise ApplicationError("broken", non_retryable=True)

    lab.hooks.before[activity] = fail
    await lab.start_run(optimization_id)
    outcome = await handle.result()
    row = await rollout_of(lab, optimization_id)
    assert (row.scope, outcome.deployments) == ("chat", [row.id])
    result = (await lab.run_status(optimization_id)).result
    assert result is not None
    assert f"bad: {activity} failed: broken" in result.reasoning


async def test_a_run_of_which_every_service_fails_has_failed(lab: Lab) -> None:
    await lab.service()
    optimization_id = await lab.open_run("chat")
    handle = lab.run_handle(optimization_id)

    async def fail(arg: m.ServiceInput) -> None:
        raise ApplicationError("broken", non_retryable=True)

    lab.hooks.before["observe"] = fail
    await lab.start_run(optimization_id)
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    status = await lab.run_status(optimization_id)
    assert (status.status, status.error) == ("failed", "observe failed: broken")


async def test_a_rollout_that_was_dispatched_already_is_not_started_twice(lab: Lab) -> None:
    await lab.service()
    optimization_id = await lab.open_run("chat")
    first_attempt = OptimizationActivities(
        lab.database, StructuredPriorStrategy(), step_seconds=300, searchable=False
    )

    async def open_and_dispatch(arg: m.ServiceInput) -> None:
        opened = await ActivityEnvironment().run(first_attempt.open_rollout, arg)
        assert opened.deployment_id is not None
        await starts.start_rollout(lab.skipper.client, opened.deployment_id, summary="dispatched")

    lab.hooks.before["open-rollout"] = open_and_dispatch
    handle = await lab.start_run(optimization_id)
    outcome = await handle.result()
    row = await rollout_of(lab, optimization_id)
    assert outcome.deployments == [row.id]
    started = (await lab.runs(lab.handle(row.id)))[0][0].workflow_execution_started_event_attributes
    assert not started.HasField("parent_workflow_execution"), "it is the dispatcher's"
