"""Too little traffic: a step is extended, and then the policy decides."""

from typing import Literal

import pytest

from tests.workflows.lab import CANDIDATE, Lab, two_steps
from tests.workflows.traffic import Arm

STEP_MS = 300_000


async def test_a_step_is_extended_until_it_has_seen_enough(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    # Half of 12 requests go to the canary: 18 a step, and 50 are wanted.
    await lab.traffic(deployment_id, requests=12, quality=None)

    async def come_back_to_life() -> None:
        await lab.traffic(deployment_id, requests=2_000)

    lab.at_look[6] = come_back_to_life
    handle = await lab.start(deployment_id)
    assert (await handle.result()).status == "completed"
    first = (await lab.deployment(deployment_id)).steps[0]
    assert first.extensions == 2
    assert first.verdict == "healthy"
    assert first.started_at is not None
    assert first.ended_at is not None
    assert first.ended_at - first.started_at >= 3 * STEP_MS


async def test_a_step_that_stays_inconclusive_is_held_with_its_share_until_promoted(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps(maxExtensions=1))
    handle = await lab.start(deployment_id)
    held: list[object] = []

    async def look_around() -> None:
        row = await lab.row(deployment_id)
        status = await handle.query("status")
        held.append((row.status, row.traffic_percent, status["status"], status["secondsLeft"]))

    async def promote() -> None:
        await handle.execute_update("promote", {"by": "ada"})

    # Three looks, three of the extension, and then looks that no longer count down.
    lab.at_look[8] = look_around
    lab.at_look[9] = promote
    # In the last step there is traffic again.
    lab.at_look[10] = lambda: lab.traffic(deployment_id, requests=2_000)
    assert (await handle.result()).status == "completed"
    assert held == [("held", 50, "held", 0)]
    found = await lab.deployment(deployment_id)
    assert [step.verdict for step in found.steps] == ["inconclusive", "healthy"]
    events = await lab.events()
    assert [event.type for event in events].count("deployment.held") == 1
    told = next(event.data for event in events if event.type == "deployment.held")
    assert told["deploymentId"] == deployment_id
    assert told["step"] == "50 %"
    assert "had 0 requests" in told["reason"]


async def test_a_held_rollout_can_be_aborted(lab: Lab) -> None:
    old = await lab.first_config()
    deployment_id = await lab.open(two_steps(maxExtensions=0))
    handle = await lab.start(deployment_id)
    lab.at_look[5] = lambda: handle.execute_update("abort", {"by": "ada", "reason": "no patience"})
    outcome = await handle.result()
    assert (outcome.status, outcome.reason) == ("rolled_back", "aborted by ada: no patience")
    row = await lab.row(deployment_id)
    assert row.rollback == {"reason": "aborted by ada: no patience", "automatic": False, "triggers": []}
    assert await lab.served() == old


async def test_the_policy_may_have_it_rolled_back(lab: Lab) -> None:
    old = await lab.first_config()
    deployment_id = await lab.open(two_steps(maxExtensions=1, onInconclusive="rollback"))
    handle = await lab.start(deployment_id)
    outcome = await handle.result()
    assert outcome.status == "rolled_back"
    assert outcome.reason.startswith("inconclusive after 1 extensions: ")
    found = await lab.deployment(deployment_id)
    assert found.steps[0].verdict == "inconclusive"
    assert found.rollback is not None
    assert found.rollback.automatic
    assert await lab.served() == old


async def test_the_policy_may_have_it_promoted(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps(maxExtensions=0, onInconclusive="promote"))
    handle = await lab.start(deployment_id)
    assert (await handle.result()).status == "completed"
    found = await lab.deployment(deployment_id)
    assert [step.verdict for step in found.steps] == ["inconclusive", "inconclusive"]
    assert await lab.served() == found.to_version


@pytest.mark.parametrize("decides", ["hold", "rollback", "promote"])
async def test_harm_is_harm_whatever_the_policy_says_of_doubt(
    lab: Lab, decides: Literal["hold", "rollback", "promote"]
) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps(maxExtensions=0, onInconclusive=decides))
    bad = Arm((await lab.row(deployment_id)).to_version, CANDIDATE, error_rate=0.5)
    await lab.traffic(deployment_id, canary=bad)
    handle = await lab.start(deployment_id)
    assert (await handle.result()).status == "rolled_back"
    assert (await lab.deployment(deployment_id)).steps[0].verdict == "unhealthy"
