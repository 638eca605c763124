"""Rules in a run of the loop, and the watch by its schedule's workflow, with all the real activities."""

import asyncio
from typing import Any

from sqlalchemy import select

from storage import brakes, history, rollback, rollouts, services
from storage.tables import Event, Firing, Optimization, Rollout
from tests.storage import records
from tests.workflows.lab import CANDIDATE, Lab, policy
from workflows import ids
from workflows import messages as m
from workflows.loop import WatchWorkflow

BUSY: dict[str, Any] = {"metric": "requests.count", "op": ">=", "value": 500, "window": "1h"}
SWITCH = {"type": "model_switch", "provider": CANDIDATE.provider, "model": CANDIDATE.model}


def rule(action: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": "busy", "condition": BUSY, "action": action, **fields}


async def age_reports(lab: Lab) -> None:
    """Let what was reported be of a minute that is over: windows end with the last whole one."""
    await lab.execute("UPDATE metrics SET ts = ts - interval '2 minutes'")


async def ruled_service(lab: Lab, *rules: dict[str, Any], **fields: Any) -> None:
    await lab.service(rules=list(rules), **fields)
    await age_reports(lab)


async def put(lab: Lab, **fields: Any) -> None:
    async with lab.database.transaction() as session:
        await services.put_policy(session, policy(**fields))


async def watch(lab: Lab) -> list[str]:
    """One look, as the schedule has it."""
    handle = await lab.client.start_workflow(
        WatchWorkflow.run, m.HousekeepingInput(), id=ids.WATCH, task_queue=ids.TASK_QUEUE
    )
    return (await handle.result()).notes


async def all_of(lab: Lab, table: type[Any]) -> list[Any]:
    async with lab.database.transaction() as session:
        return list((await session.execute(select(table))).scalars())


async def test_a_rule_decides_a_run_alone_and_its_plan_is_rolled_out(lab: Lab) -> None:
    await ruled_service(lab, rule(SWITCH, priority=1))
    run_id = await lab.open_run("chat")
    outcome = await (await lab.start_run(run_id)).result()

    assert outcome.decision == "optimize"
    status = await lab.run_status(run_id)
    assert status.result is not None
    (plan,) = status.result.plans
    assert plan.source == "rule"
    assert plan.recommended_config == CANDIDATE
    assert plan.rationale.startswith(
        "Rule busy: requests.count 500 >= 500 over 1h. Hence openai/gpt-4o-mini in"
    )
    assert plan.rationale in status.result.reasoning
    (rollout,) = await all_of(lab, Rollout)
    assert (rollout.reason, rollout.optimization_id) == (plan.rationale, run_id)
    (fired,) = await all_of(lab, Firing)
    assert (fired.key, fired.action, fired.reference) == ("rule/busy", "model_switch", run_id)


async def test_a_dry_run_uses_up_no_cooldown(lab: Lab) -> None:
    await ruled_service(lab, rule(SWITCH, priority=1))
    run_id = await lab.open_run("chat", dryRun=True)
    await (await lab.start_run(run_id)).result()
    status = await lab.run_status(run_id)
    assert status.result is not None
    assert [plan.source for plan in status.result.plans] == ["rule"]
    assert await all_of(lab, Firing) == []


async def test_a_run_that_the_watch_opened_for_a_rule_carries_it_out(lab: Lab) -> None:
    await ruled_service(lab, rule(SWITCH, priority=1))
    (note,) = await watch(lab)
    (run,) = await all_of(lab, Optimization)
    assert note == f"chat: opened {run.id}: requests.count 500 >= 500 over 1h"
    await (await lab.start_run(run.id)).result()
    status = await lab.run_status(run.id)
    assert status.result is not None
    assert [plan.source for plan in status.result.plans] == ["rule"], (
        "the watch's own firing is no earlier one"
    )
    assert len(await all_of(lab, Firing)) == 1


async def test_a_rule_makes_a_run_a_rollback(lab: Lab) -> None:
    await ruled_service(lab)
    first = await lab.open(policy())
    await records.complete(lab.database, first)
    await put(lab, rules=[rule({"type": "rollback"})], automatic=False)
    run_id = await lab.open_run("chat")
    outcome = await (await lab.start_run(run_id)).result()

    assert outcome.decision == "rollback"
    (deployment_id,) = outcome.deployments
    row = await lab.row(deployment_id)
    assert (row.to_version, row.strategy, row.changed_by) == ("chat@3", "immediate", brakes.BY_RULE)
    status = await lab.run_status(run_id)
    assert status.result is not None
    assert (status.result.decision, status.result.plans) == ("rollback", [])
    assert [found.deployment_id for found in status.result.deployments] == [deployment_id]
    assert status.result.changes_applied
    assert f"Rollout {deployment_id} of chat@3 was opened." in status.result.reasoning
    await (lab.handle(deployment_id)).result()
    assert await lab.served() == "chat@3"
    async with lab.database.transaction() as session:
        _, told = await history.list_events(session, services=["chat"], limit=9, offset=0)
    decided = [(found.type, found.decision) for found in told if found.type != "analysis"]
    assert decided == [("deployment", "rollback"), ("decision", "rollback"), ("deployment", "optimize")]
    complete = [event for event in await lab.events() if event.type == "optimization.complete"]
    assert [event.data["decision"] for event in complete] == ["rollback"]


async def test_a_run_takes_back_the_rollout_that_is_open(lab: Lab) -> None:
    await ruled_service(lab, rule({"type": "rollback"}))
    deployment_id = await lab.open(policy())
    await records.enter(lab.database, deployment_id)
    run_id = await lab.open_run("chat")
    outcome = await (await lab.start_run(run_id)).result()
    assert (outcome.decision, outcome.deployments) == ("rollback", [])
    assert (await lab.row(deployment_id)).status == "rolled_back"
    status = await lab.run_status(run_id)
    assert status.result is not None
    assert status.result.changes_applied


async def test_with_the_breaker_open_a_plan_is_not_deployed(lab: Lab) -> None:
    await lab.service(breakerAfter=1)
    first = await lab.open_run("chat")
    await (await lab.start_run(first)).result()
    (failed,) = await all_of(lab, Rollout)
    await lab.handle(failed.id).terminate("the test takes it over")
    async with lab.database.transaction() as session:
        row = await rollouts.lock(session, failed.id)
        await rollback.roll_back(session, row, reason="harm", automatic=True)
    await put(
        lab,
        breakerAfter=1,
        rules=[rule({"type": "config_change", "set": {"temperature": 0.1}}, priority=1)],
    )
    await age_reports(lab)
    second = await lab.open_run("chat")
    outcome = await (await lab.start_run(second)).result()
    assert (outcome.decision, outcome.deployments) == ("optimize", [])
    status = await lab.run_status(second)
    assert status.result is not None
    refusal = f"the circuit breaker is open: the last automatic rollout failed ({failed.id})"
    assert f"Not deployed: {refusal}." in status.result.reasoning
    raised = [event for event in await lab.events() if event.type == "alert.raised"]
    assert [event.data["reason"] for event in raised] == [refusal]
    await watch(lab)
    assert len([e for e in await all_of(lab, Event) if e.type == "alert.raised"]) == 1, "it is told once"
    assert len(await all_of(lab, Rollout)) == 1


async def test_looks_that_overlap_open_one_run(lab: Lab) -> None:
    await lab.service(triggers=[{"condition": BUSY, "cooldownMs": 60_000}])
    await age_reports(lab)
    looks = [
        lab.client.start_workflow(
            WatchWorkflow.run, m.HousekeepingInput(), id=f"{ids.WATCH}/{n}", task_queue=ids.TASK_QUEUE
        )
        for n in range(4)
    ]
    notes = [(await handle.result()).notes for handle in await asyncio.gather(*looks)]
    (run,) = await all_of(lab, Optimization)
    assert sum(f"opened {run.id}" in note for found in notes for note in found) == 1
    assert len(await all_of(lab, Firing)) == 1
    assert (run.triggered_by, run.created_by) == ("threshold", "watch")
