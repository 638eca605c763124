"""What waits is started once, unless a pause or a stop holds, and nobody waits for a slow Temporal."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from infra.embedded import EmbeddedStack
from storage import control
from storage.changefeed import ChangeFeed
from storage.database import Database
from tests.chaos.proxy import proxy_to
from tests.storage import records
from tests.storage.records import change, make
from tests.waiting import until
from worker import dispatcher
from worker.run import running_worker
from workflows import starts


@pytest_asyncio.fixture
async def waiting(database: Database, temporal: Client) -> AsyncIterator[tuple[str, str]]:
    """A run and a rollout that wait for their start; their workflows are gone at the end."""
    await records.first_config(database, "chat")
    run = await records.open_run(database, "mail")
    outcome = await make(database, change("chat", "gpt-5"))
    assert outcome.deployment_id is not None
    yield run.id, outcome.deployment_id
    async for execution in temporal.list_workflows("ExecutionStatus = 'Running'"):
        await temporal.get_workflow_handle(execution.id).terminate()


async def pause(database: Database) -> None:
    async with database.transaction() as session:
        await control.pause(session, reason=None, by="ada")


async def stop(database: Database) -> None:
    async with database.transaction() as session:
        await control.emergency_stop(session, reason="smoke", by="ada")


async def resume(database: Database) -> None:
    async with database.transaction() as session:
        await control.resume(session, by="ada")


async def test_what_waits_is_started_once(
    database: Database, temporal: Client, waiting: tuple[str, str]
) -> None:
    run, deployment_id = waiting
    assert await dispatcher.dispatch(database, temporal) == 2
    assert (await records.get_run(database, run)).dispatched
    assert (await records.get_rollout(database, deployment_id)).dispatched
    for handle in (
        starts.optimization_handle(temporal, run),
        starts.rollout_handle(temporal, deployment_id),
    ):
        assert await (await handle.describe()).static_summary()
    assert await dispatcher.dispatch(database, temporal) == 0


async def test_two_dispatchers_at_once_start_one_workflow_each(
    database: Database, temporal: Client, waiting: tuple[str, str]
) -> None:
    done = await asyncio.gather(*(dispatcher.dispatch(database, temporal) for _ in range(5)))
    assert max(done) == 2
    executions = [execution.run_id async for execution in temporal.list_workflows(_of(*waiting))]
    # Visibility may be late, but never shows more runs than there are.
    assert len(executions) <= 2
    runs = {
        (await starts.optimization_handle(temporal, waiting[0]).describe()).run_id,
        (await starts.rollout_handle(temporal, waiting[1]).describe()).run_id,
    }
    assert set(executions) <= runs


def _of(run: str, deployment_id: str) -> str:
    return f"WorkflowId IN ('optimization/{run}', 'rollout/{deployment_id}')"


@pytest.mark.parametrize("hold", [pause, stop])
async def test_nothing_is_started_while_a_pause_or_a_stop_holds(
    database: Database, temporal: Client, waiting: tuple[str, str], hold: object
) -> None:
    assert callable(hold)
    await hold(database)
    assert await dispatcher.dispatch(database, temporal) == 0
    await resume(database)
    assert await dispatcher.dispatch(database, temporal) == (2 if hold is pause else 0)


async def test_what_was_queued_while_paused_starts_by_itself_on_resume(
    database: Database, temporal: Client
) -> None:
    await records.first_config(database, "chat")
    await pause(database)
    async with running_worker(database, temporal, step_seconds=1.0):
        run = await records.open_run(database, "mail")
        await resume(database)
        handle = starts.optimization_handle(temporal, run.id)
        await _until_started(database, run.id)
        outcome = await handle.result()
    assert outcome.decision == "skip"
    assert (await records.get_run(database, run.id)).status == "completed"


async def _until_started(database: Database, optimization_id: str) -> None:
    async def started() -> bool:
        return (await records.get_run(database, optimization_id)).dispatched

    await until(started)


async def test_a_dispatcher_does_not_wake_itself(database: Database, temporal: Client) -> None:
    """It waits for changes of the very tables that it writes to."""
    feed = ChangeFeed(database)
    woken = feed.event("optimizations", "rollouts", "control")
    other = feed.event("services")
    async with feed:
        await woken.wait()
        woken.clear()
        assert await dispatcher.dispatch(database, temporal) == 0
        # Notifications come in the order of the commits, so that its own would have come before this one.
        pool = await database.pool()
        other.clear()
        await pool.execute("INSERT INTO services (name) VALUES ('chat')")
        async with asyncio.timeout(20):
            await other.wait()
    assert not woken.is_set()


async def test_a_stop_does_not_wait_for_a_dispatcher_that_waits_for_temporal(
    stack: EmbeddedStack, database: Database, waiting: tuple[str, str]
) -> None:
    async with proxy_to(stack.temporal_address) as proxy:
        slow = await Client.connect(proxy.address, data_converter=pydantic_data_converter)
        proxy.lose_requests = True
        dispatching = asyncio.create_task(dispatcher.dispatch(database, slow))
        async with asyncio.timeout(20):
            await proxy.lost.wait()
        await stop(database)
        assert not dispatching.done()
        assert (await records.get_run(database, waiting[0])).status == "failed"
        assert await dispatching == 0
    # Tried again or not, what was stopped is not marked as started.
    assert not (await records.get_run(database, waiting[0])).dispatched


async def test_a_dispatcher_outlives_what_it_cannot_foresee(
    stack: EmbeddedStack,
    database: Database,
    waiting: tuple[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with proxy_to(stack.temporal_address) as proxy:
        address = proxy.address
    late = await Client.connect(address, data_converter=pydantic_data_converter, lazy=True)
    running = asyncio.create_task(dispatcher.run(database, late, asyncio.Event(), every=0.02))

    async def failed() -> bool:
        return "nothing was dispatched" in caplog.messages

    await until(failed)
    async with proxy_to(stack.temporal_address, port=int(address.rpartition(":")[2])):
        await _until_started(database, waiting[0])
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
