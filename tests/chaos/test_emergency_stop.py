"""The emergency stop: among hundreds of starts, without Temporal, and past a worker that hangs."""

import asyncio
from itertools import count
from pathlib import Path

import pytest

from domain.errors import Stopped
from infra.embedded import EmbeddedStack
from storage import control
from storage.control import StopOutcome
from tests.chaos.loop import Loop
from tests.chaos.points import Point, points_in
from tests.chaos.processes import worker_process
from tests.storage import records
from tests.waiting import until
from worker.run import running_worker
from workflows import starts

pytestmark = pytest.mark.alone

OPEN = """
    SELECT (SELECT count(*) FROM rollouts
            WHERE status NOT IN ('completed', 'rolled_back', 'failed')) AS rollouts,
           (SELECT count(*) FROM rollouts WHERE status = 'running') AS running,
           (SELECT count(*) FROM optimizations WHERE status IN ('queued', 'running')) AS runs,
           (SELECT count(*) FROM optimized_services WHERE open) AS held
"""


async def stop(loop: Loop) -> StopOutcome:
    async with loop.database.transaction() as session:
        return await control.emergency_stop(session, reason="smoke", by="ada")


async def resume(loop: Loop) -> None:
    async with loop.database.transaction() as session:
        await control.resume(session, by="ada")


async def started_since_the_stop(loop: Loop) -> list[str]:
    """What an earlier epoch's run did after the stop was committed."""
    told = await records.events(loop.database)
    (stopped,) = [event for event in told if event.type == "alert.raised"]
    forbidden = ("deployment.started", "deployment.progressed", "deployment.completed")
    return [event.type for event in told if event.sequence > stopped.sequence and event.type in forbidden]


async def test_a_stop_while_300_runs_start(loop: Loop) -> None:
    names = [f"service-{number:03}" for number in range(300)]
    await loop.serve(*names, reported=False, stepSeconds=600.0, checkSeconds=5.0)
    pool = await loop.database.pool()
    waiting, refused = iter(enumerate(names)), count()

    async def start_some() -> None:
        """Rollouts and optimizations by turns, until there is none left or none may start."""
        for number, name in waiting:
            try:
                if number % 2:
                    await loop.start_rollout(name)
                else:
                    await loop.start_opened_run(await loop.open_run(name))
            except Stopped:
                next(refused)

    async def stop_in_the_middle() -> StopOutcome:
        async def many_run() -> bool:
            row = await pool.fetchrow(OPEN)
            return bool(row["running"] >= 30 and row["rollouts"] >= 50)

        await until(many_run)
        return await stop(loop)

    async with running_worker(loop.database, loop.client, step_seconds=1.0):
        starting = asyncio.gather(*(start_some() for _ in range(10)))
        stopped = await stop_in_the_middle()
        await starting
        assert len(stopped.rollouts) >= 50
        assert next(refused) > 0, "the stop came after every start"

        # At once, by the one transaction: nothing is open, and every service is where it was.
        assert tuple(await pool.fetchrow(OPEN)) == (0, 0, 0, 0)
        served = await pool.fetch("SELECT scope, active_version FROM scopes ORDER BY scope")
        assert [(row["scope"], row["active_version"]) for row in served] == [(n, f"{n}@1") for n in names]
        # The workflows, which nobody told, find out by themselves and end.
        await loop.until_no_workflow("Rollout", "Optimization")
        assert await started_since_the_stop(loop) == []
        assert tuple(await pool.fetchrow(OPEN)) == (0, 0, 0, 0)

        for name in names[:2]:
            with pytest.raises(Stopped):
                await loop.open_run(name)
            with pytest.raises(Stopped):
                await loop.open_rollout(name)
        await loop.serve("after", reported=False, stepSeconds=0.5, checkSeconds=0.5)
        await resume(loop)
        deployment_id = await loop.start_rollout("after")
        await loop.until_rollout(deployment_id, "completed")


async def test_a_stop_without_temporal(stack: EmbeddedStack, loop: Loop) -> None:
    await loop.serve("canary", "optimized", stepSeconds=600.0)
    await loop.serve("immediate", reported=False, stepSeconds=600.0, strategy="immediate")
    assert stack.temporal is not None
    async with running_worker(loop.database, loop.client, step_seconds=1.0, housekeeping=False):
        going = [await loop.start_rollout(name) for name in ("canary", "immediate")]
        for deployment_id in going:
            await loop.until_step(deployment_id, 0)
        run = await loop.open_run("optimized")
        await loop.start_opened_run(run)
        await loop.until_run(run, "completed")
        going.append(await loop.require_run_completed(run))
        await loop.until_step(going[-1], 0)
        await stack.temporal.stop()
        outcome = await stop(loop)
        assert outcome.rollouts == sorted(going)
        for deployment_id in going:
            await loop.require_rolled_back(deployment_id)
        await stack.temporal.start()
        for deployment_id in going:
            ended = await starts.rollout_handle(loop.client, deployment_id).result()
            assert (ended.status, ended.reason) == ("rolled_back", "emergency stop: smoke")
            await loop.require_rolled_back(deployment_id)
    assert await started_since_the_stop(loop) == []


async def test_a_stop_gets_past_a_worker_that_hangs_with_the_control_row(
    stack: EmbeddedStack, loop: Loop, tmp_path: Path
) -> None:
    """Frozen in a transaction, as by a machine that is suspended: its connection stays open."""
    await loop.serve("chat", reported=False)
    async with points_in(stack.database_url) as points, worker_process(stack, tmp_path) as worker:
        deployment_id = await loop.open_rollout("chat")
        await points.hold([Point("rollout_steps", {"deployment_id": deployment_id, "step": 0})])
        await loop.start_opened_rollout(deployment_id)
        await points.until_reached()
        worker.freeze()
        await points.let_go()
        assert (await stop(loop)).rollouts == [deployment_id]
        await loop.require_rolled_back(deployment_id)
        worker.thaw()
        ended = await starts.rollout_handle(loop.client, deployment_id).result()
        assert ended.reason == "emergency stop: smoke"
    assert await records.events(loop.database, "deployment.progressed") == []
