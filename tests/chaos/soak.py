"""Random faults under load for as long as is wanted, and then: is everything accounted for?

SOAK_SECONDS=600 SOAK_SEED=7 pytest --timeout 0 tests/chaos/soak.py
"""

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import asyncpg
from temporalio.service import RPCError

from domain.errors import OptimizerError
from infra.component import Component
from infra.embedded import EmbeddedStack, started
from storage import control, optimizations, rollouts
from tests.chaos.loop import Loop
from tests.chaos.processes import Process, worker_process
from tests.storage import records
from tests.waiting import until
from workflows import starts

SECONDS = float(os.environ.get("SOAK_SECONDS", "120"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
SERVICES = [f"chat-{number:02}" for number in range(12)]
# Longer than a lease and than the reconciler's interval together.
SETTLE_SECONDS = 180
_EXPECTED = (OptimizerError, starts.StartUnknown, RPCError, OSError, TimeoutError, asyncpg.PostgresError)


async def test_soak(stack: EmbeddedStack, loop: Loop, tmp_path: Path) -> None:
    random_ = random.Random(SEED)
    for number, name in enumerate(SERVICES):
        strategy = "immediate" if number % 4 == 3 else "canary"
        await loop.serve(name, strategy=strategy, stepSeconds=1.5, checkSeconds=0.5)
    (tmp_path / "second").mkdir()
    async with (
        worker_process(stack, tmp_path) as first,
        worker_process(stack, tmp_path / "second") as second,
    ):
        deadline = time.monotonic() + SECONDS
        load = [asyncio.create_task(_use(loop, name, deadline)) for name in SERVICES]
        done = await _break(stack, loop, [first, second], random_, deadline)
        await asyncio.gather(*load)
        for worker in (first, second):  # One that was started while Temporal was away has ended.
            await worker.kill()
            await worker.start()
        await _settle(loop)
    outcomes = await _account(loop)
    print(f"seed {SEED}: faults {dict(done)}, outcomes {dict(outcomes)}")  # noqa: T201  what it is run for
    assert outcomes["completed"] > 0


async def _use(loop: Loop, name: str, deadline: float) -> None:
    """Rollouts and runs of a service by turns, each as soon as it may begin."""
    models = iter(range(1_000_000))
    while time.monotonic() < deadline:
        number = next(models)
        with contextlib.suppress(*_EXPECTED):
            if number % 3 == 0:
                await _start_run(loop, name)
            else:
                await _start_rollout(loop, name, f"model-{number}")
        await asyncio.sleep(0.3)


async def _start_rollout(loop: Loop, name: str, model: str) -> None:
    deployment_id = await loop.open_rollout(name, model)
    try:
        await loop.start_opened_rollout(deployment_id)
    except OptimizerError as refused:
        async with loop.database.transaction() as session:
            row = await rollouts.lock(session, deployment_id)
            if row.status == "pending":
                await rollouts.fail(session, row, refused.message)


async def _start_run(loop: Loop, name: str) -> None:
    run = await loop.open_run(name)
    try:
        await loop.start_opened_run(run)
    except OptimizerError as refused:
        async with loop.database.transaction() as session:
            await optimizations.refuse(session, run, refused.message)


async def _break(
    stack: EmbeddedStack,
    loop: Loop,
    workers: list[Process],
    random_: random.Random,
    deadline: float,
) -> Counter[str]:
    async def crash() -> None:
        worker = random_.choice(workers)
        await worker.kill()
        await asyncio.sleep(random_.uniform(0, 5))
        await worker.start()

    async def hang() -> None:
        worker = random_.choice(workers)
        worker.freeze()
        await asyncio.sleep(random_.uniform(1, 8))
        worker.thaw()

    async def restart(component: Component) -> None:
        await component.kill()
        await asyncio.sleep(random_.uniform(0, 3))
        await component.start()

    async def pause() -> None:
        async with loop.database.transaction() as session:
            await control.pause(session, reason="soak", by="soak")
        await asyncio.sleep(random_.uniform(0, 5))
        await _resume(loop)

    async def stop() -> None:
        async with loop.database.transaction() as session:
            await control.emergency_stop(session, reason="soak", by="soak")
        await asyncio.sleep(random_.uniform(0, 3))
        await _resume(loop)

    async def terminate() -> None:
        query = "ExecutionStatus = 'Running' AND WorkflowType IN ('Rollout', 'Optimization')"
        running = [execution.id async for execution in loop.client.list_workflows(query)]
        if running:
            await loop.client.get_workflow_handle(random_.choice(sorted(running))).terminate()

    faults: dict[str, tuple[float, Callable[[], Awaitable[None]]]] = {
        "worker killed": (4, crash),
        "worker frozen": (2, hang),
        "postgresql killed": (1, lambda: restart(started(stack.postgres))),
        "temporal killed": (1, lambda: restart(started(stack.temporal))),
        "paused": (2, pause),
        "stopped": (1, stop),
        "workflow terminated": (2, terminate),
    }
    done = Counter[str]()
    while time.monotonic() < deadline:
        await asyncio.sleep(random_.uniform(0.5, 6))
        (name,) = random_.choices(list(faults), [weight for weight, _ in faults.values()])
        with contextlib.suppress(*_EXPECTED):
            await faults[name][1]()
        done[name] += 1
    return done


async def _resume(loop: Loop) -> None:
    async with loop.database.transaction() as session:
        await control.resume(session, by="soak")


async def _settle(loop: Loop) -> None:
    """With every server and worker there again, all must come to an end by itself."""
    await _resume(loop)
    pool = await loop.database.pool()
    still_open = """
        SELECT id FROM rollouts WHERE status NOT IN ('completed', 'rolled_back', 'failed')
        UNION ALL SELECT id FROM optimizations WHERE status IN ('queued', 'running')
    """

    async def ended() -> bool:
        return not await pool.fetch(still_open)

    await until(ended, SETTLE_SECONDS)
    await loop.until_no_workflow("Rollout", "Optimization")


async def _account(loop: Loop) -> Counter[str]:
    """Nothing lost, nothing twice, nothing out of order."""
    pool = await loop.database.pool()
    told = await records.events(loop.database)
    outcomes = Counter[str]()
    for row in await pool.fetch("SELECT * FROM rollouts"):
        of_row = [event for event in told if event.data.get("deploymentId") == row["id"]]
        kinds = Counter(event.type for event in of_row)
        steps = await pool.fetch(
            "SELECT * FROM rollout_steps WHERE deployment_id = $1 ORDER BY step", row["id"]
        )
        looks = await pool.fetch(
            "SELECT * FROM rollout_checks WHERE deployment_id = $1 ORDER BY number", row["id"]
        )
        assert [step["step"] for step in steps] == list(range(row["step"] + 1)), row["id"]
        assert all(step["ended_at"] is not None for step in steps), row["id"]
        assert [event.data["currentStep"] for event in of_row if event.type == "deployment.progressed"] == [
            f"{step['percent']:g} %" for step in steps
        ], row["id"]
        assert [look["number"] for look in looks] == list(range(1, len(looks) + 1)), row["id"]
        assert [look["step"] for look in looks] == sorted(look["step"] for look in looks), row["id"]
        assert kinds["deployment.started"] == (row["started_at"] is not None), row["id"]
        ends = ("deployment.completed", "deployment.failed", "rollback.triggered", "rollback.completed")
        assert {kind: kinds[kind] for kind in ends} == {
            "deployment.completed": row["status"] == "completed",
            "deployment.failed": row["status"] == "failed",
            "rollback.triggered": row["status"] == "rolled_back",
            "rollback.completed": row["status"] == "rolled_back",
        }, row["id"]
        outcomes[row["status"]] += 1
    for run in await pool.fetch("SELECT id, status FROM optimizations"):
        ended = [event for event in told if event.data.get("optimizationId") == run["id"]]
        assert len(ended) == 1, run["id"]
        outcomes[f"run {run['status']}"] += 1
    assert not await pool.fetch("SELECT 1 FROM optimized_services WHERE open")
    assert not await pool.fetch(
        "SELECT optimization_id FROM rollouts WHERE optimization_id IS NOT NULL "
        "GROUP BY optimization_id, scope HAVING count(*) > 1"
    )
    for name in SERVICES:
        await _account_for_versions(loop, name)
    return outcomes


async def _account_for_versions(loop: Loop, name: str) -> None:
    pool = await loop.database.pool()
    numbers = await pool.fetch("SELECT number FROM config_versions WHERE scope = $1 ORDER BY number", name)
    assert [row["number"] for row in numbers] == list(range(1, len(numbers) + 1))
    changed = [event.data for event in await records.events(loop.database, "config.changed", scope=name)]
    assert all(after["previousVersion"] == before["newVersion"] for before, after in pairwise(changed)), name
    assert changed[-1]["newVersion"] == await records.served(loop.database, name)
    kept = await pool.fetchval(
        "SELECT to_version FROM rollouts WHERE scope = $1 AND status = 'completed' "
        "ORDER BY ended_at DESC LIMIT 1",
        name,
    )
    assert await records.known_good(loop.database, name) == (kept or f"{name}@1")
