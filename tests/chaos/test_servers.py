"""PostgreSQL and Temporal killed in the middle of rollouts and runs: all goes on by itself."""

import asyncio
from typing import Literal

import pytest

from infra.component import Component
from infra.embedded import EmbeddedStack
from tests.chaos.loop import Loop
from worker.run import running_worker

pytestmark = pytest.mark.alone


def component(stack: EmbeddedStack, name: Literal["postgres", "temporal"]) -> Component:
    found = {"postgres": stack.postgres, "temporal": stack.temporal}[name]
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["postgres", "temporal"])
async def test_a_server_killed_in_the_middle_is_missed_for_its_absence_alone(
    stack: EmbeddedStack, loop: Loop, name: Literal["postgres", "temporal"]
) -> None:
    scopes = [f"chat-{number}" for number in range(5)]
    await loop.serve(*scopes, "optimized", stepSeconds=2.0, checkSeconds=0.4)
    async with running_worker(loop.database, loop.client, step_seconds=1.0):
        going = await asyncio.gather(*map(loop.start_rollout, scopes))
        for step in (0, 2):
            await loop.until_step(going[0], step)
            await component(stack, name).kill()
            await component(stack, name).start()
        run = await loop.open_run("optimized")  # For the dispatcher, which was cut off too.
        for deployment_id in going:
            await loop.until_rollout(deployment_id, "completed", "rolled_back", "failed")
            await loop.require_completed(deployment_id)
        await loop.until_run(run, "completed", "failed")
        opened = await loop.require_run_completed(run)
        await loop.until_rollout(opened, "completed", "rolled_back", "failed")
        await loop.require_completed(opened)
