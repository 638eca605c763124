"""What people do to a rollout: approve, promote, abort, and what is refused."""

from collections.abc import Awaitable, Callable

import pytest

from domain.deployment import Deployment
from tests.workflows.lab import INCUMBENT, Lab, RolloutHandle, policy, refusal, two_steps
from workflows import messages as m
from workflows.rollout import RolloutWorkflow

OTHER = INCUMBENT.model_copy(update={"model": "gpt-4.1"})
ADA = m.Act(by="ada", reason="enough")


async def test_a_rollout_waits_for_approval_before_it_starts(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps(approval="before-start"))
    await lab.traffic(deployment_id, requests=2_000)
    handle = await lab.start(deployment_id, skipping=False)
    row = await lab.until_row(deployment_id, status="awaiting_approval")
    assert (row.step, row.traffic_percent) == (-1, 0)
    not_yet = await refusal(handle.execute_update(RolloutWorkflow.promote))
    assert not_yet == "Conflict: the rollout has not started yet"

    status = await handle.execute_update(RolloutWorkflow.approve, ADA)
    assert status.status == "awaiting_approval"
    await lab.until_row(deployment_id, status="running")
    await lab.until_row(deployment_id, step=0)
    twice = await refusal(handle.execute_update(RolloutWorkflow.approve))
    assert twice == "Conflict: the rollout waits for no approval"
    await lab.skipper.fast_forward(handle)
    assert (await handle.result()).status == "completed"


async def test_a_rollout_waits_for_approval_before_full_exposure_and_goes_on_looking(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps(approval="before-full"))
    await lab.traffic(deployment_id, requests=2_000)
    handle = await lab.start(deployment_id)
    seen: list[tuple[str, float]] = []

    async def approve() -> None:
        row = await lab.row(deployment_id)
        seen.append((row.status, row.traffic_percent))
        await handle.execute_update(RolloutWorkflow.approve, ADA)

    lab.at_look[1] = lambda: too_early(handle)
    lab.at_look[6] = approve
    assert (await handle.result()).status == "completed"
    assert seen == [("awaiting_approval", 50)]
    found = await lab.deployment(deployment_id)
    assert [step.verdict for step in found.steps] == ["healthy", "healthy"]


async def too_early(handle: RolloutHandle) -> None:
    said = await refusal(handle.execute_update(RolloutWorkflow.approve))
    assert said == "Conflict: the rollout waits for no approval"


async def test_a_new_model_whose_quality_nobody_measured_wants_a_person_before_full_exposure(
    lab: Lab,
) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    await lab.traffic(deployment_id, requests=2_000, quality=None)
    handle = await lab.start(deployment_id)

    async def approve() -> None:
        assert (await lab.row(deployment_id)).status == "awaiting_approval"
        await handle.execute_update(RolloutWorkflow.approve)

    lab.at_look[5] = approve
    assert (await handle.result()).status == "completed"
    assert not lab.at_look


async def test_where_the_first_step_is_full_exposure_its_approval_comes_before_the_start(lab: Lab) -> None:
    await lab.first_config()
    given = policy(rollout={"steps": [100], "checkSeconds": 100, "approval": "before-full"})
    deployment_id = await lab.open(given)
    handle = await lab.start(deployment_id, skipping=False)
    row = await lab.until_row(deployment_id, status="awaiting_approval")
    assert row.traffic_percent == 0
    await handle.execute_update(RolloutWorkflow.abort)
    assert (await handle.result()).status == "rolled_back"


async def test_a_person_s_promotion_ends_the_step_at_once(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    await lab.traffic(deployment_id, requests=2_000)
    handle = await lab.start(deployment_id)
    lab.at_look[1] = lambda: handle.execute_update(RolloutWorkflow.promote, ADA)
    assert (await handle.result()).status == "completed"
    found = await lab.deployment(deployment_id)
    # The look in which the promotion came is the step's only one; the last step takes its time.
    assert [look.step for look in await lab.looks(deployment_id)] == [0, 1, 1, 1]
    assert [step.verdict for step in found.steps] == ["inconclusive", "healthy"]
    assert length(found, 0) < 150_000
    assert length(found, 1) >= 300_000


async def test_a_promotion_as_the_step_ends_does_not_end_the_next_one(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    await lab.traffic(deployment_id, requests=2_000)
    handle = await lab.start(deployment_id)

    async def promote(arg: m.EnterStepInput) -> None:
        if arg.step == 1:
            await handle.execute_update(RolloutWorkflow.promote, ADA)

    lab.hooks.before["enter-step"] = promote
    assert (await handle.result()).status == "completed"
    assert length(await lab.deployment(deployment_id), 1) >= 300_000


async def test_a_promotion_stands_in_for_the_approval_and_leaves_the_verdict(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps(approval="before-full"))
    await lab.traffic(deployment_id, requests=2_000)
    handle = await lab.start(deployment_id)
    lab.at_look[5] = lambda: handle.execute_update(RolloutWorkflow.promote, ADA)
    assert (await handle.result()).status == "completed"
    assert (await lab.deployment(deployment_id)).steps[0].verdict == "healthy"


async def before_the_start(lab: Lab, deployment_id: str, abort: Callable[[], Awaitable[object]]) -> None:
    async def once(arg: m.BeginRolloutInput) -> None:
        await abort()

    lab.hooks.before["begin-rollout"] = once


async def in_the_first_step(lab: Lab, deployment_id: str, abort: Callable[[], Awaitable[object]]) -> None:
    lab.at_look[1] = abort


async def at_the_end_of_the_first_step(
    lab: Lab, deployment_id: str, abort: Callable[[], Awaitable[object]]
) -> None:
    lab.at_look[3] = abort


async def as_the_first_step_is_closed(
    lab: Lab, deployment_id: str, abort: Callable[[], Awaitable[object]]
) -> None:
    async def once(arg: m.EndStepInput) -> None:
        await abort()

    lab.hooks.before["end-step"] = once


async def at_the_end_of_the_last_step(
    lab: Lab, deployment_id: str, abort: Callable[[], Awaitable[object]]
) -> None:
    lab.at_look[6] = abort


@pytest.mark.parametrize(
    ("when", "most_steps"),
    [
        (before_the_start, 0),
        (in_the_first_step, 1),
        (at_the_end_of_the_first_step, 1),
        (as_the_first_step_is_closed, 1),
        (at_the_end_of_the_last_step, 2),
    ],
)
async def test_an_abort_takes_the_rollout_back_whenever_it_comes(
    lab: Lab,
    when: Callable[[Lab, str, Callable[[], Awaitable[object]]], Awaitable[None]],
    most_steps: int,
) -> None:
    old = await lab.first_config()
    deployment_id = await lab.open(two_steps())
    await lab.traffic(deployment_id, requests=2_000)
    handle = lab.handle(deployment_id)
    await when(lab, deployment_id, lambda: handle.execute_update(RolloutWorkflow.abort, ADA))
    await lab.start(deployment_id)
    outcome = await handle.result()
    assert (outcome.status, outcome.reason) == ("rolled_back", "aborted by ada: enough")
    shares = await lab.shares(deployment_id)
    assert len(shares) == most_steps, "no share is raised once the abort was accepted"
    assert await lab.served() == old
    found = await lab.deployment(deployment_id)
    assert all(step.ended_at is not None for step in found.steps[:most_steps])


async def test_nothing_can_be_done_to_a_rollout_that_ends(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    await lab.traffic(deployment_id, requests=2_000)
    handle = await lab.start(deployment_id)
    said: list[str] = []

    async def try_all(arg: m.RolloutRef | m.RollBackInput) -> None:
        said.append(await refusal(handle.execute_update(RolloutWorkflow.approve)))
        said.append(await refusal(handle.execute_update(RolloutWorkflow.promote)))
        said.append(await refusal(handle.execute_update(RolloutWorkflow.abort)))

    lab.hooks.before["complete-rollout"] = try_all
    assert (await handle.result()).status == "completed"
    assert said == ["Conflict: the rollout has ended, or is about to"] * 3

    said.clear()
    other = await lab.open(two_steps(), config=OTHER)
    lab.feed = None
    handle = await lab.start(other)
    lab.hooks.before["roll-back"] = try_all
    lab.at_look[1] = lambda: handle.signal(RolloutWorkflow.emergency_stop)
    assert (await handle.result()).status == "rolled_back"
    assert said == ["Conflict: the rollout has ended, or is about to"] * 3


def length(found: Deployment, step: int) -> int:
    """How long a step lasted, ms."""
    started_at, ended_at = found.steps[step].started_at, found.steps[step].ended_at
    assert started_at is not None
    assert ended_at is not None
    return ended_at - started_at
