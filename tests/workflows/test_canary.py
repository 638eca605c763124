"""Whole rollouts at their true length, by the server's time skipping."""

from itertools import pairwise

import pytest
from temporalio.client import WorkflowExecutionStatus

from activities import checks
from storage import configs
from tests.workflows.lab import CANDIDATE, Lab, policy
from tests.workflows.traffic import Arm
from workflows import messages as m

STEP_MS = 300_000


async def test_a_healthy_canary_goes_through_four_steps_of_five_minutes(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "ARRIVAL_MARGIN_MS", 1_000)
    old = await lab.first_config()
    deployment_id = await lab.open(policy())
    await lab.traffic(deployment_id)
    send = lab.feed
    assert send is not None

    async def send_and_let_age(arg: m.CheckInput) -> None:
        await send(arg)
        if arg.step_end:
            await lab.let_arrivals_age(1_000)

    lab.feed = send_and_let_age
    handle = await lab.start(deployment_id)
    outcome = await handle.result()

    assert outcome.status == "completed"
    found = await lab.deployment(deployment_id)
    assert (found.status, found.progress, found.traffic_percent) == ("completed", 100, 100)
    assert [step.percent for step in found.steps] == [5, 25, 50, 100]
    assert [step.verdict for step in found.steps] == ["healthy"] * 4
    for step in found.steps:
        assert step.started_at is not None
        assert step.ended_at is not None
        assert step.ended_at - step.started_at >= STEP_MS
    for before, after in pairwise(found.steps):
        assert before.ended_at is not None
        assert after.started_at is not None
        assert after.started_at >= before.ended_at
    looks = await lab.looks(deployment_id)
    assert [look.number for look in looks] == list(range(1, len(looks) + 1))
    assert [sum(look.step == step for look in looks) for step in range(4)] == [10] * 4
    assert await lab.shares(deployment_id) == [5, 25, 50, 95], "5 % are held back"

    new = found.to_version
    async with lab.database.transaction() as session:
        state = await configs.lock_scope(session, "chat")
        assert (state.active_version, state.known_good_version) == (new, new)
    events = await lab.events()
    assert [event.type for event in events] == [
        "config.changed",
        "deployment.started",
        *["deployment.progressed"] * 4,
        "config.changed",
        "deployment.completed",
    ]
    assert [event.data["currentStep"] for event in events[2:6]] == ["5 %", "25 %", "50 %", "100 %"]
    assert (events[6].data["previousVersion"], events[6].data["newVersion"]) == (old, new)


async def test_a_canary_that_turns_harmful_in_its_second_step_is_taken_back(lab: Lab) -> None:
    old = await lab.first_config()
    deployment_id = await lab.open(policy())
    version = (await lab.row(deployment_id)).to_version

    def turning(step: int) -> Arm:
        return Arm(version, CANDIDATE, error_rate=0.01 if step == 0 else 0.3)

    await lab.traffic(deployment_id, canary=turning)
    handle = await lab.start(deployment_id)
    outcome = await handle.result()

    assert outcome.status == "rolled_back"
    found = await lab.deployment(deployment_id)
    assert (found.status, found.traffic_percent) == ("rolled_back", 0)
    assert [step.verdict for step in found.steps] == ["healthy", "unhealthy", None, None]
    first, second = found.steps[:2]
    assert first.ended_at is not None
    assert first.started_at is not None
    assert first.ended_at - first.started_at >= STEP_MS
    assert second.ended_at is not None
    assert second.started_at is not None
    assert second.ended_at - second.started_at < STEP_MS, "harm is not waited out"
    assert found.rollback is not None
    assert found.rollback.automatic
    assert [trigger.metric for trigger in found.rollback.triggers] == ["errors.rate"]
    assert found.rollback.triggers[0].actual > found.rollback.triggers[0].threshold > 0

    assert await lab.served() == old
    assert await lab.event_types() == [
        "config.changed",
        "deployment.started",
        "deployment.progressed",
        "deployment.progressed",
        "rollback.triggered",
        "rollback.completed",
    ]
    triggered = (await lab.events())[4].data
    assert triggered["triggers"][0]["metric"] == "errors.rate"
    assert (triggered["fromVersion"], triggered["toVersion"]) == (version, old)
    assert (await lab.row(deployment_id)).fence == 1, "no late attempt can write any more"
    assert (await handle.describe()).status == WorkflowExecutionStatus.COMPLETED
