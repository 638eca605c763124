"""Workflows terminated by hand: the reconciler, run as its schedule runs it, ends what they left."""

from infra.embedded import EmbeddedStack
from tests.chaos.loop import Loop
from tests.chaos.points import Point, points_in
from tests.storage import records
from worker.run import running_worker
from workflows import ids, starts
from workflows import messages as m
from workflows.loop import ReconcileWorkflow


async def reconcile(loop: Loop) -> list[str]:
    result = await loop.client.execute_workflow(
        ReconcileWorkflow.run, m.HousekeepingInput(), id="reconcile-now", task_queue=ids.TASK_QUEUE
    )
    return result.notes


async def test_terminated_rollouts_are_ended_each_as_it_must(loop: Loop) -> None:
    await loop.serve("canary", "watched", reported=False, stepSeconds=600.0)
    await loop.serve("immediate", reported=False, stepSeconds=600.0, strategy="immediate")
    async with running_worker(loop.database, loop.client, step_seconds=1.0, housekeeping=False):
        canary, watched, immediate = [
            await loop.start_rollout(name) for name in ("canary", "watched", "immediate")
        ]
        for deployment_id in (canary, watched, immediate):
            await loop.until_step(deployment_id, 0)
        for deployment_id in (canary, immediate):
            await starts.rollout_handle(loop.client, deployment_id).terminate("by mistake")
        notes = await reconcile(loop)
        assert sorted(notes) == sorted(
            [
                f"rollout {canary} is rolled_back: its workflow is gone",
                f"rollout {immediate} is failed: its workflow is gone",
            ]
        )
        await loop.require_rolled_back(canary)
        failed = await records.get_rollout(loop.database, immediate)
        assert failed.status == "failed"
        assert await records.served(loop.database, "immediate") == "immediate@2"
        assert await records.known_good(loop.database, "immediate") == "immediate@1"
        assert (await records.get_rollout(loop.database, watched)).status == "running"
        assert await reconcile(loop) == []
        # The scopes are free.
        for name in ("canary", "immediate"):
            await loop.open_rollout(name, model="gpt-4o")


async def test_a_terminated_optimization_is_failed_and_its_late_writes_revive_nothing(
    stack: EmbeddedStack, loop: Loop
) -> None:
    await loop.serve("chat")
    async with (
        points_in(stack.database_url) as points,
        running_worker(loop.database, loop.client, step_seconds=1.0, housekeeping=False),
    ):
        run = await loop.open_run("chat")
        await points.hold([Point("optimized_services", {"optimization_id": run, "plan": {}})])
        await loop.start_opened_run(run)
        await points.until_reached()
        await starts.optimization_handle(loop.client, run).terminate("by mistake")
        # The decision is still being written, and is no hindrance.
        await points.let_go()
        assert await reconcile(loop) == [f"optimization {run} failed: its workflow is gone"]
        row = await records.get_run(loop.database, run)
        assert (row.status, row.error) == ("failed", "its workflow is gone")
        assert await records.versions(loop.database) == ["chat@1"]
        again = await loop.open_run("chat")
        await loop.start_opened_run(again)
        await loop.until_run(again, "completed")


async def test_the_schedule_reconciles_by_itself(loop: Loop) -> None:
    await loop.serve("chat", reported=False, stepSeconds=600.0)
    async with running_worker(loop.database, loop.client, step_seconds=1.0):
        deployment_id = await loop.start_rollout("chat")
        await loop.until_step(deployment_id, 0)
        await starts.rollout_handle(loop.client, deployment_id).terminate("by mistake")
        await loop.client.get_schedule_handle(ids.RECONCILE).trigger()
        await loop.until_rollout(deployment_id, "rolled_back")
    await loop.require_rolled_back(deployment_id)
