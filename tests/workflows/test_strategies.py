"""The other strategies: at once under watch, and in ten equal steps."""

from typing import Any

from tests.workflows.lab import CANDIDATE, Lab, policy
from tests.workflows.traffic import Arm, Traffic


def at_once(**fields: Any) -> dict[str, Any]:
    return {"rollout": {"strategy": "immediate", "stepSeconds": 300, "checkSeconds": 100}, **fields}


async def test_an_immediate_change_is_served_at_once_and_kept_after_a_step(lab: Lab) -> None:
    old = await lab.first_config()
    deployment_id = await lab.open(policy(**at_once()))
    await lab.traffic(deployment_id)
    new = (await lab.row(deployment_id)).to_version
    handle = await lab.start(deployment_id)
    served: list[tuple[str, float]] = []

    async def look_around() -> None:
        served.append((await lab.served(), (await lab.row(deployment_id)).traffic_percent))

    lab.at_look[1] = look_around
    assert (await handle.result()).status == "completed"
    assert served == [(new, 100)]
    found = await lab.deployment(deployment_id)
    assert [(step.percent, step.verdict) for step in found.steps] == [(100, "healthy")]
    events = await lab.events()
    assert [event.type for event in events] == [
        "config.changed",
        "deployment.started",
        "deployment.progressed",
        "config.changed",
        "deployment.completed",
    ]
    assert events[3].data["previousVersion"] == old


async def test_an_immediate_change_of_which_nothing_is_measured_is_kept(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(policy(**at_once()))
    handle = await lab.start(deployment_id)
    assert (await handle.result()).status == "completed"
    assert len(await lab.looks(deployment_id)) == 3


async def test_an_immediate_change_is_compared_with_nothing(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(policy(**at_once()))
    row = await lab.row(deployment_id)
    # Late reports of the version before, and a new one that is far worse, but breaks no bound.
    late = Arm(row.from_version, CANDIDATE)
    worse = Arm(row.to_version, CANDIDATE, latency_ms=4_000, error_rate=0.4, quality=20)
    sender = Traffic(lab.database)
    await sender.prepare()
    lab.feed = lambda arg: sender.send((late, 500), (worse, 500))
    handle = await lab.start(deployment_id)
    assert (await handle.result()).status == "completed"


async def test_an_immediate_change_that_breaks_a_ceiling_is_taken_back(lab: Lab) -> None:
    old = await lab.first_config()
    given = policy(**at_once(guardrails=[{"metric": "errors.rate", "ceiling": 0.05}]))
    deployment_id = await lab.open(given)
    bad = Arm((await lab.row(deployment_id)).to_version, CANDIDATE, error_rate=0.4)
    await lab.traffic(deployment_id, canary=bad)
    handle = await lab.start(deployment_id)
    assert (await handle.result()).status == "rolled_back"
    found = await lab.deployment(deployment_id)
    assert found.rollback is not None
    assert [(trigger.metric, trigger.threshold) for trigger in found.rollback.triggers] == [
        ("errors.rate", 0.05)
    ]
    assert await lab.served() == old
    events = await lab.events()
    assert [event.type for event in events[-3:]] == [
        "rollback.triggered",
        "config.changed",
        "rollback.completed",
    ]
    assert (events[-2].data["previousVersion"], events[-2].data["newVersion"]) == (found.to_version, old)


async def test_an_immediate_change_below_a_floor_of_quality_is_taken_back_and_inherits_again(
    lab: Lab,
) -> None:
    old = await lab.first_config("global")
    given = policy(**at_once(constraints=[{"type": "hard", "metric": "quality.avg", "min": 80}]))
    deployment_id = await lab.open(given)
    bad = Arm((await lab.row(deployment_id)).to_version, CANDIDATE, quality=50)
    await lab.traffic(deployment_id, canary=bad)
    handle = await lab.start(deployment_id)
    assert (await handle.result()).status == "rolled_back"
    assert await lab.served() == old == "global@1"


async def test_gradual_is_ten_equal_steps(lab: Lab) -> None:
    await lab.first_config()
    given = policy(rollout={"strategy": "gradual", "stepSeconds": 200, "checkSeconds": 100})
    deployment_id = await lab.open(given)
    await lab.traffic(deployment_id, requests=1_000)
    handle = await lab.start(deployment_id)
    assert (await handle.result()).status == "completed"
    found = await lab.deployment(deployment_id)
    assert [step.percent for step in found.steps] == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert (await lab.shares(deployment_id))[-2:] == [90, 95]
    assert {step.verdict for step in found.steps} == {"healthy"}


async def test_a_first_share_raised_for_little_traffic_drops_the_steps_at_or_below_it(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(policy(rollout={"checkSeconds": 100}), rate=0.5)
    await lab.traffic(deployment_id, requests=2_000)
    handle = await lab.start(deployment_id)
    assert (await handle.result()).status == "completed"
    shares = await lab.shares(deployment_id)
    # 50 requests of the canary in 300 seconds at 0.5 a second are a third of them.
    assert shares[1:] == [50, 95]
    assert 33 < shares[0] < 34
