"""Starts whose answer was lost, or that were refused: a row is carried out once, or never."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from domain.errors import ServiceUnavailable
from infra.embedded import EmbeddedStack
from storage import optimizations, rollouts
from tests.chaos.loop import Loop
from tests.chaos.proxy import Proxy, proxy_to
from tests.storage import records
from worker import dispatcher
from worker.run import running_worker
from workflows import starts


@pytest_asyncio.fixture
async def proxy(stack: EmbeddedStack) -> AsyncIterator[Proxy]:
    async with proxy_to(stack.temporal_address) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def caller(proxy: Proxy) -> Client:
    """A client that reaches Temporal by the proxy."""
    return await Client.connect(proxy.address, data_converter=pydantic_data_converter)


async def start_both(client: Client, deployment_id: str, run: str) -> list[type]:
    """Start a rollout and a run at once; gives what each raised."""
    outcomes = await asyncio.gather(
        starts.start_rollout(client, deployment_id, summary="rollout"),
        starts.start_optimization(client, run, summary="run"),
        return_exceptions=True,
    )
    return [type(outcome) for outcome in outcomes]


@pytest.mark.parametrize("arrived", [True, False], ids=["answer-lost", "request-lost"])
async def test_a_start_with_an_unknown_outcome_is_carried_out_once(
    loop: Loop, proxy: Proxy, caller: Client, arrived: bool
) -> None:
    await loop.serve("rolled-out", "optimized", stepSeconds=0.5, checkSeconds=0.5)
    deployment_id, run = await loop.open_rollout("rolled-out"), await loop.open_run("optimized")
    proxy.lose_answers, proxy.lose_requests = arrived, not arrived
    assert await start_both(caller, deployment_id, run) == [starts.StartUnknown, starts.StartUnknown]
    assert (await records.get_rollout(loop.database, deployment_id)).status == "pending"
    assert (await records.get_run(loop.database, run)).status == "queued"

    async with running_worker(loop.database, loop.client, step_seconds=1.0, housekeeping=False):
        if arrived:
            await loop.until_rollout(deployment_id, "completed")
            await loop.until_run(run, "completed")
        assert await dispatcher.dispatch(loop.database, loop.client) == (0 if arrived else 2)
        await loop.until_rollout(deployment_id, "completed")
        await loop.until_run(run, "completed")
        await loop.require_completed(deployment_id)
        opened = await loop.require_run_completed(run)
        await loop.until_rollout(opened, "completed")
        await loop.require_completed(opened)


async def test_a_start_that_was_lost_and_is_repeated_while_it_waits_is_one_workflow(
    loop: Loop, proxy: Proxy, caller: Client
) -> None:
    """No worker runs, so that the row still waits: the dispatcher starts it again, and again."""
    await loop.serve("chat", reported=False, stepSeconds=0.5, checkSeconds=0.5)
    deployment_id = await loop.open_rollout("chat")
    proxy.lose_answers = True
    with pytest.raises(starts.StartUnknown):
        await starts.start_rollout(caller, deployment_id, summary="lost")
    before = await starts.rollout_handle(loop.client, deployment_id).describe()
    assert await dispatcher.dispatch(loop.database, loop.client) == 1
    await starts.start_rollout(loop.client, deployment_id, summary="again")
    after = await starts.rollout_handle(loop.client, deployment_id).describe()
    assert after.run_id == before.run_id
    assert (await records.get_rollout(loop.database, deployment_id)).dispatched
    async with running_worker(loop.database, loop.client, step_seconds=1.0, housekeeping=False):
        # Not the row alone: the workflow ends a moment after it.
        await starts.rollout_handle(loop.client, deployment_id).result()
    await loop.require_completed(deployment_id)
    # Once it has ended, it is not started anew.
    await starts.start_rollout(loop.client, deployment_id, summary="late")
    assert (await starts.rollout_handle(loop.client, deployment_id).describe()).close_time is not None


async def test_what_was_refused_never_runs(stack: EmbeddedStack, loop: Loop) -> None:
    await loop.serve("rolled-out", "optimized")
    deployment_id, run = await loop.open_rollout("rolled-out"), await loop.open_run("optimized")
    assert stack.temporal is not None
    await stack.temporal.kill()
    assert await start_both(loop.client, deployment_id, run) == [ServiceUnavailable, ServiceUnavailable]
    async with loop.database.transaction() as session:
        assert await optimizations.refuse(session, run, "Temporal cannot be reached")
        await rollouts.fail(
            session, await rollouts.lock(session, deployment_id), "Temporal cannot be reached"
        )
    await stack.temporal.start()
    async with running_worker(loop.database, loop.client, step_seconds=1.0):
        assert await dispatcher.dispatch(loop.database, loop.client) == 0
        # A start that had got through all the same: its workflow finds the row ended, and ends.
        await loop.start_opened_rollout(deployment_id)
        await loop.start_opened_run(run)
        outcome = await starts.rollout_handle(loop.client, deployment_id).result()
        assert (outcome.status, outcome.reason) == ("failed", "Temporal cannot be reached")
        await starts.optimization_handle(loop.client, run).result()
        # What was refused is in nobody's way.
        again = await loop.start_rollout("rolled-out")
        await loop.until_step(again, 0)
    row, failed = (
        await records.get_run(loop.database, run),
        await records.get_rollout(loop.database, deployment_id),
    )
    assert (row.status, row.started_at) == (failed.status, failed.started_at) == ("failed", None)
    assert await records.events(loop.database, "deployment.started", scope="optimized") == []
