"""Pauses: a rollout's own, and the whole system's."""

import pytest

from storage import control
from tests.workflows.lab import CANDIDATE, Lab, refusal, two_steps
from tests.workflows.traffic import Arm
from workflows import messages as m
from workflows.rollout import RolloutWorkflow

STEP_MS = 300_000


async def pause_all(lab: Lab) -> m.ControlSignal:
    async with lab.database.transaction() as session:
        row = await control.pause(session, reason="looking", by="ada")
        return m.ControlSignal(revision=row.revision, reason="looking")


async def resume_all(lab: Lab) -> m.ControlSignal:
    async with lab.database.transaction() as session:
        row = await control.resume(session, by="ada")
        return m.ControlSignal(revision=row.revision)


async def test_a_pause_keeps_the_share_and_the_time_left(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    await lab.traffic(deployment_id, requests=2_000)
    handle = await lab.start(deployment_id)
    seen: list[m.RolloutStatus] = []

    async def look_around() -> None:
        seen.append(await handle.query(RolloutWorkflow.status))
        assert (await lab.row(deployment_id)).status == "paused"
        assert (await lab.row(deployment_id)).traffic_percent == 50

    lab.at_look[1] = lambda: handle.signal(RolloutWorkflow.pause)
    lab.at_look[3] = look_around
    lab.at_look[5] = look_around
    lab.at_look[6] = lambda: handle.signal(RolloutWorkflow.resume)
    assert (await handle.result()).status == "completed"

    assert [status.status for status in seen] == ["paused", "paused"]
    assert seen[0].seconds_left == seen[1].seconds_left
    assert 190 < seen[0].seconds_left <= 200
    found = await lab.deployment(deployment_id)
    first, second = found.steps
    assert first.started_at is not None
    assert first.ended_at is not None
    looks = [look for look in await lab.looks(deployment_id) if look.step == 0]
    paused_ms = looks[5].at - looks[0].at
    assert paused_ms >= 5 * 100_000, "it went on looking, every 100 seconds"
    lasted = first.ended_at - first.started_at - paused_ms
    assert STEP_MS <= lasted < STEP_MS + 60_000, "the step had all of its own time, and no more"
    assert second.verdict == "healthy"


async def test_a_resume_of_all_leaves_a_rollout_s_own_pause_alone(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    handle = await lab.start(deployment_id)
    seen: list[str] = []

    async def pause_twice() -> None:
        await handle.signal(RolloutWorkflow.pause)
        await handle.signal(RolloutWorkflow.pause, await pause_all(lab))

    async def resume_one_and_then_look() -> None:
        await handle.signal(RolloutWorkflow.resume, await resume_all(lab))

    async def look() -> None:
        seen.append((await handle.query(RolloutWorkflow.status)).status)

    async def resume_own() -> None:
        await look()
        await handle.signal(RolloutWorkflow.resume)

    async def abort() -> None:
        await look()
        await handle.execute_update(RolloutWorkflow.abort)

    lab.at_look[1] = pause_twice
    lab.at_look[3] = resume_one_and_then_look
    lab.at_look[6] = resume_own
    lab.at_look[8] = abort
    await handle.result()
    assert seen == ["paused", "running"]


async def test_what_pauses_all_is_heard_of_without_a_signal(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    await lab.traffic(deployment_id, requests=2_000)
    handle = await lab.start(deployment_id)
    lab.at_look[2] = lambda: pause_all(lab)
    shown: list[tuple[str, float, str | None]] = []

    async def look_and_resume() -> None:
        found = await lab.deployment(deployment_id)
        shown.append((found.status, found.traffic_percent, found.steps[0].verdict))
        await resume_all(lab)

    lab.at_look[6] = look_and_resume
    assert (await handle.result()).status == "completed"
    assert shown == [("paused", 50, None)]


@pytest.mark.parametrize("activity", ["enter-step", "complete-rollout"])
async def test_no_share_is_raised_by_a_step_that_ends_as_the_pause_comes(lab: Lab, activity: str) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    await lab.traffic(deployment_id, requests=2_000)
    handle = await lab.start(deployment_id)
    looks_at_pause: list[int] = []

    async def pause_now(arg: m.EnterStepInput | m.RolloutRef) -> None:
        if looks_at_pause or (isinstance(arg, m.EnterStepInput) and arg.step == 0):
            return
        looks_at_pause.append((await lab.row(deployment_id)).check_number)
        await pause_all(lab)
        lab.at_look[looks_at_pause[0] + 3] = look_and_resume

    seen: list[tuple[str, float]] = []

    async def look_and_resume() -> None:
        row = await lab.row(deployment_id)
        seen.append((row.status, row.traffic_percent))
        assert await lab.served() == row.from_version
        await handle.signal(RolloutWorkflow.resume, await resume_all(lab))

    lab.hooks.before[activity] = pause_now
    assert (await handle.result()).status == "completed"
    assert seen == [("paused", 50 if activity == "enter-step" else 95)]
    assert (await lab.event_types()).count("deployment.progressed") == 2


async def test_a_pause_that_reaches_a_step_at_its_end_holds_it_there(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    await lab.traffic(deployment_id, requests=2_000)
    handle = await lab.start(deployment_id)
    seen: list[tuple[str, float, str | None]] = []

    async def look_and_resume() -> None:
        found = await lab.deployment(deployment_id)
        seen.append((found.status, found.traffic_percent, found.steps[0].verdict))
        await handle.signal(RolloutWorkflow.resume)

    # The third look is the first step's last.
    lab.at_look[3] = lambda: handle.signal(RolloutWorkflow.pause)
    lab.at_look[6] = look_and_resume
    assert (await handle.result()).status == "completed"
    assert seen == [("paused", 50, None)], "its verdict is asked for when it is resumed"


async def test_a_signal_older_than_what_is_known_is_ignored(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    await lab.traffic(deployment_id, requests=2_000)
    handle = await lab.start(deployment_id)

    async def signal_late() -> None:
        old = await pause_all(lab)
        new = await resume_all(lab)
        await handle.signal(RolloutWorkflow.resume, new)
        await handle.signal(RolloutWorkflow.pause, old)
        await handle.signal(RolloutWorkflow.emergency_stop, old)
        # It would be refused in a pause.
        await handle.execute_update(RolloutWorkflow.promote)

    lab.at_look[1] = signal_late
    assert (await handle.result()).status == "completed"


async def test_harm_that_shows_in_a_pause_is_taken_back(lab: Lab) -> None:
    old = await lab.first_config()
    deployment_id = await lab.open(two_steps())
    bad = Arm((await lab.row(deployment_id)).to_version, CANDIDATE, error_rate=0.5)
    await lab.traffic(deployment_id, requests=2_000)
    handle = await lab.start(deployment_id)
    lab.at_look[1] = lambda: handle.signal(RolloutWorkflow.pause)
    lab.at_look[3] = lambda: lab.traffic(deployment_id, requests=2_000, canary=bad)
    assert (await handle.result()).status == "rolled_back"
    found = await lab.deployment(deployment_id)
    assert found.rollback is not None
    assert [trigger.metric for trigger in found.rollback.triggers] == ["errors.rate"]
    assert await lab.served() == old


async def test_what_is_opened_in_a_pause_waits_for_its_end(lab: Lab) -> None:
    await lab.first_config()
    await pause_all(lab)
    deployment_id = await lab.open(two_steps())
    await lab.traffic(deployment_id, requests=2_000)
    asked = 0

    async def count(arg: m.BeginRolloutInput) -> None:
        nonlocal asked
        asked += 1
        assert (await lab.row(deployment_id)).status == "pending"
        if asked == 4:
            await resume_all(lab)

    lab.hooks.before["begin-rollout"] = count
    handle = await lab.start(deployment_id)
    assert (await handle.result()).status == "completed"
    assert asked == 4


async def test_a_rollout_paused_before_its_first_step_serves_nothing(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    await lab.traffic(deployment_id, requests=2_000)
    asked = 0

    async def poll(arg: m.BeginRolloutInput) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            await lab.handle(deployment_id).signal(RolloutWorkflow.pause)
        if asked == 4:
            row = await lab.row(deployment_id)
            assert (row.status, row.traffic_percent) == ("paused", 0)
            await lab.handle(deployment_id).signal(RolloutWorkflow.resume)

    lab.hooks.before["begin-rollout"] = poll
    handle = await lab.start(deployment_id)
    assert (await handle.result()).status == "completed"
    assert asked >= 4


async def test_a_paused_rollout_is_not_promoted(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    handle = await lab.start(deployment_id)
    said: list[str] = []

    async def promote() -> None:
        said.append(await refusal(handle.execute_update(RolloutWorkflow.promote)))
        await handle.execute_update(RolloutWorkflow.abort)

    lab.at_look[1] = lambda: handle.signal(RolloutWorkflow.pause)
    lab.at_look[3] = promote
    assert (await handle.result()).status == "rolled_back"
    assert said == ["Conflict: the rollout is paused; resume it first"]
