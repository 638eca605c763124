"""No worker for longer than the lease of a canary: it is taken back, whoever comes first."""

from contextlib import AbstractAsyncContextManager

from temporalio.worker import Worker

from storage import reconciler
from tests.chaos.loop import Loop
from tests.storage import records
from worker.run import running_worker
from workflows import starts


def worker(loop: Loop) -> AbstractAsyncContextManager[Worker]:
    """Without the reconciler, which might come first."""
    return running_worker(loop.database, loop.client, step_seconds=1.0, housekeeping=False)


async def unwatched_rollout(loop: Loop, strategy: str = "canary") -> str:
    """A rollout in its first step, whose worker is gone and whose lease has run out."""
    await loop.serve("chat", reported=False, strategy=strategy, stepSeconds=600.0, checkSeconds=1.0)
    async with worker(loop):
        deployment_id = await loop.start_rollout("chat")
        await loop.until_rollout(deployment_id, "running")
        await loop.until_step(deployment_id, 0)
    await records.lapse(loop.database, deployment_id)
    return deployment_id


async def test_postgresql_alone_takes_it_back_and_the_workflow_lets_go(loop: Loop) -> None:
    deployment_id = await unwatched_rollout(loop)
    (note,) = await reconciler.roll_back_lapsed(loop.database)
    assert deployment_id in note
    await loop.require_rolled_back(deployment_id)
    async with worker(loop):
        outcome = await starts.rollout_handle(loop.client, deployment_id).result()
    assert (outcome.status, outcome.reason) == ("rolled_back", reconciler.LAPSED)
    await loop.require_rolled_back(deployment_id)


async def test_a_worker_that_is_back_first_takes_it_back_by_the_workflow(loop: Loop) -> None:
    deployment_id = await unwatched_rollout(loop)
    async with worker(loop):
        outcome = await starts.rollout_handle(loop.client, deployment_id).result()
    assert outcome.status == "rolled_back"
    assert "no check renewed the watch" in outcome.reason
    await loop.require_rolled_back(deployment_id)
    assert await reconciler.roll_back_lapsed(loop.database) == []


async def test_an_immediate_change_is_watched_on_by_the_worker_that_comes_back(loop: Loop) -> None:
    """It is served to everyone on a person's word, so that nobody's watch can end it."""
    deployment_id = await unwatched_rollout(loop, "immediate")
    assert await reconciler.roll_back_lapsed(loop.database) == []
    async with worker(loop):
        await loop.until_watched(deployment_id)
    assert (await records.get_rollout(loop.database, deployment_id)).status == "running"
    assert await records.served(loop.database, "chat") == "chat@2"
