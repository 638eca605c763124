"""A long rollout goes on in one run after another, so that no history grows without bound."""

from itertools import pairwise

from temporalio.api.enums.v1 import EventType

from tests.workflows.lab import Lab, policy
from workflows.rollout import CHECKS_PER_RUN


async def test_a_hold_of_more_than_two_hundred_looks_is_carried_from_run_to_run(lab: Lab) -> None:
    await lab.first_config()
    given = policy(
        rollout={"steps": [50, 100], "stepSeconds": 60, "checkSeconds": 30, "maxExtensions": 0},
    )
    deployment_id = await lab.open(given)
    handle = await lab.start(deployment_id)
    lab.at_look[170] = lambda: handle.execute_update("promote")
    lab.at_look[210] = lambda: handle.execute_update("abort")
    outcome = await handle.result()

    assert outcome.status == "rolled_back"
    looks = await lab.looks(deployment_id)
    assert [look.number for look in looks] == list(range(1, 211))
    step_ends = {2: await lab.step_start(deployment_id, 0), 172: await lab.step_start(deployment_id, 1)}
    gaps = [after.at - before.at for before, after in pairwise(looks) if after.number not in step_ends]
    assert len(gaps) == 207
    assert min(gaps) >= 30_000, "the hold is looked at every 30 seconds, and no more often"
    # A step ends by its own clock: where its first look came late, its last is that much nearer to it.
    assert [looks[number - 1].at - start >= 60_000 for number, start in step_ends.items()] == [True, True]

    runs = await lab.runs(handle)
    per_run = [
        sum(
            event.activity_task_scheduled_event_attributes.activity_type.name == "check-rollout"
            for event in run
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        )
        for run in runs
    ]
    assert per_run == [CHECKS_PER_RUN, 210 - CHECKS_PER_RUN]
    assert {run[-1].event_type for run in runs[:-1]} == {
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW
    }
    assert max(len(run) for run in runs) < 2_500
    assert (await lab.event_types()).count("deployment.held") == 2
    assert [look.step for look in looks] == [0] * 170 + [1] * 40, "the promotion reached the second run"


async def test_a_rollout_of_ordinary_length_is_one_run(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(policy(rollout={"steps": [20, 60, 100], "checkSeconds": 100}))
    await lab.traffic(deployment_id, requests=2_000)
    handle = await lab.start(deployment_id)
    assert (await handle.result()).status == "completed"
    assert len(await lab.runs(handle)) == 1
    assert [look.number for look in await lab.looks(deployment_id)] == list(range(1, 10))
