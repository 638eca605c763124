"""Compensation that nothing skips: stops, cancellations even while it runs, failures, broken code."""

import asyncio

import asyncpg
import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import ApplicationError, CancelledError

from domain.rollout_plan import plan_rollout
from infra.embedded import EmbeddedStack
from storage import control
from tests.workflows.lab import Lab, two_steps
from workflows import ids
from workflows import messages as m
from workflows.compensation import run_to_the_end
from workflows.rollout import RolloutWorkflow

CANCEL_REQUESTED = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED


# The helper


async def test_the_helper_gives_what_the_undo_gave() -> None:
    async def undo() -> str:
        await asyncio.sleep(0)
        return "undone"

    assert await run_to_the_end(undo) == "undone"


async def test_the_helper_raises_what_the_undo_raised() -> None:
    async def undo() -> None:
        raise RuntimeError("cannot be undone")

    with pytest.raises(RuntimeError, match="cannot be undone"):
        await run_to_the_end(undo)


async def test_the_helper_goes_on_through_one_cancellation_after_another() -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    async def undo() -> str:
        begun.set()
        await may_end.wait()
        done.append("first")
        await asyncio.sleep(0)
        done.append("second")
        return "undone"

    task = asyncio.create_task(run_to_the_end(undo))
    await begun.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    assert await task == "undone"
    assert done == ["first", "second"]


async def test_the_helper_passes_on_that_the_undo_itself_was_cancelled() -> None:
    async def undo() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await run_to_the_end(undo)


# The workflow


async def test_an_emergency_stop_takes_the_rollout_back_at_once(lab: Lab) -> None:
    old = await lab.first_config()
    deployment_id = await lab.open(two_steps())
    handle = await lab.start(deployment_id)
    signal = m.ControlSignal(revision=7, reason="fire")
    lab.at_look[1] = lambda: handle.signal(RolloutWorkflow.emergency_stop, signal)
    outcome = await handle.result()
    assert (outcome.status, outcome.reason) == ("rolled_back", "emergency stop: fire")
    assert len(await lab.looks(deployment_id)) == 1
    row = await lab.row(deployment_id)
    assert row.rollback == {"reason": "emergency stop: fire", "automatic": False, "triggers": []}
    assert await lab.served() == old


async def test_a_stop_that_is_not_signalled_is_found_at_the_next_look(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    handle = await lab.start(deployment_id)

    async def stop() -> None:
        async with lab.database.transaction() as session:
            await control.emergency_stop(session, reason="fire", by="ada")

    lab.at_look[2] = stop
    outcome = await handle.result()
    assert (outcome.status, outcome.reason) == ("rolled_back", "emergency stop: fire")
    assert (await lab.event_types()).count("rollback.completed") == 1


async def test_a_cancelled_workflow_takes_its_rollout_back(lab: Lab) -> None:
    old = await lab.first_config()
    deployment_id = await lab.open(two_steps())
    handle = await lab.start(deployment_id, skipping=False)
    await lab.until_row(deployment_id, step=0)
    await handle.cancel()
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    assert isinstance(failure.value.cause, CancelledError)
    row = await lab.row(deployment_id)
    assert row.status == "rolled_back"
    assert row.rollback is not None
    assert row.rollback["reason"] == "the workflow was cancelled"
    assert await lab.served() == old


async def test_a_cancellation_that_meets_a_running_activity_is_told_from_its_failure(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    handle = await lab.start(deployment_id)

    async def cancel() -> None:
        await handle.cancel()
        await lab.until_event(handle, CANCEL_REQUESTED)

    lab.at_look[1] = cancel
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    assert isinstance(failure.value.cause, CancelledError)
    row = await lab.row(deployment_id)
    assert row.rollback is not None
    assert row.rollback["reason"] == "the workflow was cancelled"


async def test_a_workflow_cancelled_before_its_first_task_takes_its_rollout_back(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    # Nobody polls this queue until the workflow has been cancelled.
    monkeypatch.setattr(ids, "TASK_QUEUE", "nobody-yet")
    handle = await lab.start(deployment_id)
    await handle.cancel()
    async with lab.another_worker("nobody-yet"):
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    assert (await lab.row(deployment_id)).status == "rolled_back"


async def test_a_cancellation_while_compensation_waits_does_not_stop_it(
    lab: Lab, stack: EmbeddedStack
) -> None:
    old = await lab.first_config()
    deployment_id = await lab.open(two_steps())
    handle = await lab.start(deployment_id, skipping=False)
    await lab.until_row(deployment_id, step=0)
    begun = asyncio.Event()

    async def note(arg: m.RollBackInput) -> None:
        begun.set()

    lab.hooks.before["roll-back"] = note
    connection = await asyncpg.connect(stack.database_url)
    async with connection.transaction():
        await connection.execute("SELECT FROM rollouts WHERE id = $1 FOR UPDATE", deployment_id)
        await handle.execute_update(RolloutWorkflow.abort)
        await begun.wait()
        await handle.cancel()
        await lab.until_event(handle, CANCEL_REQUESTED)
        assert (await handle.describe()).status == WorkflowExecutionStatus.RUNNING
    await connection.close()
    outcome = await handle.result()
    assert (outcome.status, outcome.reason) == ("rolled_back", "aborted by operator")
    assert (await lab.row(deployment_id)).status == "rolled_back"
    assert await lab.served() == old


async def test_compensation_that_fails_is_tried_again_though_the_workflow_is_cancelled(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    handle = await lab.start(deployment_id, skipping=False)
    await lab.until_row(deployment_id, step=0)
    tried = 0

    async def fail_until_cancelled(arg: m.RollBackInput) -> None:
        nonlocal tried
        tried += 1
        if tried == 1:
            await handle.cancel()
            await lab.until_event(handle, CANCEL_REQUESTED)
        if tried <= 2:
            raise ApplicationError("the database is away")

    lab.hooks.before["roll-back"] = fail_until_cancelled
    await handle.signal(RolloutWorkflow.emergency_stop)
    outcome = await handle.result()
    assert outcome.status == "rolled_back"
    assert tried == 3
    assert (await lab.row(deployment_id)).status == "rolled_back"


async def test_an_activity_that_fails_for_good_fails_the_workflow_once_it_is_compensated(lab: Lab) -> None:
    old = await lab.first_config()
    deployment_id = await lab.open(two_steps())
    handle = await lab.start(deployment_id)

    async def fail() -> None:
        raise ApplicationError("no such table", type="ProgrammingError", non_retryable=True)

    lab.at_look[2] = fail
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    cause = failure.value.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.message) == ("RolloutFailed", "check-rollout failed: no such table")
    row = await lab.row(deployment_id)
    assert row.status == "rolled_back"
    assert row.rollback is not None
    assert row.rollback["automatic"] is True
    assert await lab.served() == old


async def test_an_exception_in_workflow_code_fails_the_workflow_once_it_is_compensated(lab: Lab) -> None:
    await lab.first_config()
    given = two_steps()
    deployment_id = await lab.open(given)
    row = await lab.row(deployment_id)
    impossible = m.RolloutState(
        plan=plan_rollout(given.rollout, "canary", None),
        scope="chat",
        from_version=row.from_version,
        to_version=row.to_version,
        fence=row.fence,
        searchable=False,
        step=7,
    )
    handle = lab.handle(deployment_id)
    await lab.client.start_workflow(
        RolloutWorkflow.run,
        m.RolloutInput(deployment_id=deployment_id, carried=impossible),
        id=handle.id,
        task_queue=ids.TASK_QUEUE,
    )
    async with asyncio.timeout(20):
        with pytest.raises(WorkflowFailureError) as failure:
            await handle.result()
    assert isinstance(failure.value.cause, ApplicationError)
    assert failure.value.cause.type == "RolloutFailed"
    row = await lab.row(deployment_id)
    assert row.rollback is not None
    assert row.rollback["reason"] == "the workflow failed: list index out of range"


async def test_a_reason_of_any_length_and_kind_reaches_compensation(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    handle = await lab.start(deployment_id)
    reason = 'quotes " and \\ and\nlines, ' + "大" * 1_000
    lab.at_look[1] = lambda: handle.execute_update(RolloutWorkflow.abort, m.Act(by="ada", reason=reason))
    async with asyncio.timeout(20):
        outcome = await handle.result()
    assert outcome.reason == f"aborted by ada: {reason}"
