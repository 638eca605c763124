"""The worker killed by SIGKILL at each write of each phase and of each step: every run goes on where it was.

All runs are brought to their points first, each to another one, so that one kill meets them all.
"""

import asyncio
from pathlib import Path

import pytest

from infra.embedded import EmbeddedStack
from tests.chaos.loop import Loop
from tests.chaos.points import Point, points_in
from tests.chaos.processes import worker_process
from workflows import messages as m
from workflows import starts
from workflows.rollout import RolloutWorkflow

# By name, the write of a run during which the worker is killed; an empty id stands for the run's own. Where a
# phase is begun, before the commit; where its result is written, within it, so that the answer is lost.
PHASES = {
    "claim": Point("optimizations", {"id": "", "status": "running"}),
    "observe": Point("optimizations", {"id": "", "progress": 5}),
    "observed": Point("optimized_services", {"optimization_id": "", "observation": {}}, committing=True),
    "analyze": Point("optimizations", {"id": "", "progress": 30}),
    "analyzed": Point("optimized_services", {"optimization_id": "", "analysis": {}}, committing=True),
    "decide": Point("optimizations", {"id": "", "progress": 55}),
    "decided": Point("optimized_services", {"optimization_id": "", "plan": {}}, committing=True),
    "act": Point("optimizations", {"id": "", "progress": 80}),
    "finish": Point("optimizations", {"id": "", "status": "completed"}, committing=True),
}
OPENING = Point("rollouts", {"optimization_id": "", "status": "pending"}, committing=True)
STEPS = {
    "begin": Point("rollouts", {"id": "", "status": "running", "step": -1}),
    **{f"enter-{step}": Point("rollout_steps", {"deployment_id": "", "step": step}) for step in range(4)},
    **{f"look-{step}": Point("rollout_checks", {"deployment_id": "", "step": step}) for step in range(4)},
    **{
        f"end-{step}": Point("rollout_steps", {"deployment_id": "", "step": step, "verdict": "inconclusive"})
        for step in range(4)
    },
    "complete": Point("rollouts", {"id": "", "status": "completed"}),
}
ROLLBACK = Point("rollouts", {"id": "", "status": "rolled_back"})


def of(point: Point, row_id: str, *, committing: bool | None = None) -> Point:
    """The point in the run or rollout of that id."""
    pattern = {name: row_id if value == "" else value for name, value in point.pattern.items()}
    return Point(point.table, pattern, point.committing if committing is None else committing)


async def test_killed_in_each_phase_of_an_optimization(
    stack: EmbeddedStack, loop: Loop, tmp_path: Path
) -> None:
    await loop.serve(*PHASES, "opening", steps=[50, 100], stepSeconds=0.5, checkSeconds=0.5)
    async with points_in(stack.database_url) as points, worker_process(stack, tmp_path) as worker:
        runs = []
        for name, point in PHASES.items():
            run = await loop.open_run(name)
            await points.hold([of(point, run)])
            runs.append(run)
        await asyncio.gather(*map(loop.start_opened_run, runs))
        await points.until_reached()
        # It keeps everyone else from opening a rollout, and so comes last.
        last = await loop.open_run("opening")
        await points.hold([of(OPENING, last)])
        await loop.start_opened_run(last)
        await points.until_reached()

        await worker.kill()
        await points.let_go()
        await worker.start()
        for run in (*runs, last):
            await loop.until_run(run, "completed", "failed")
            deployment_id = await loop.require_run_completed(run)
            await loop.until_rollout(deployment_id, "completed", "rolled_back", "failed")
            await loop.require_completed(deployment_id)
            outcome = await starts.optimization_handle(loop.client, run).result()
            assert outcome.deployments == [deployment_id]


@pytest.mark.parametrize("committing", [False, True], ids=["before-commit", "answer-lost"])
async def test_killed_in_each_step_of_a_rollout(
    stack: EmbeddedStack, loop: Loop, tmp_path: Path, committing: bool
) -> None:
    await loop.serve(*STEPS, "rollback", reported=False)
    async with points_in(stack.database_url) as points, worker_process(stack, tmp_path) as worker:
        going = []
        for name, point in STEPS.items():
            deployment_id = await loop.open_rollout(name)
            await points.hold([of(point, deployment_id, committing=committing)])
            going.append(deployment_id)
        aborted = await loop.open_rollout("rollback")
        await points.hold([of(ROLLBACK, aborted, committing=committing)])
        await asyncio.gather(*map(loop.start_opened_rollout, [*going, aborted]))
        await loop.until_rollout(aborted, "running")
        await starts.rollout_handle(loop.client, aborted).execute_update(
            RolloutWorkflow.abort, m.Act(by="ada", reason="enough")
        )
        await points.until_reached()

        await worker.kill()
        await points.let_go()
        await worker.start()
        for deployment_id in going:
            await loop.until_rollout(deployment_id, "completed", "rolled_back", "failed")
            await loop.require_completed(deployment_id)
            outcome = await starts.rollout_handle(loop.client, deployment_id).result()
            assert outcome.status == "completed"
        await loop.until_rollout(aborted, "rolled_back")
        await loop.require_rolled_back(aborted)
        outcome = await starts.rollout_handle(loop.client, aborted).result()
        assert (outcome.status, outcome.reason) == ("rolled_back", "aborted by ada: enough")
