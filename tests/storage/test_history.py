"""The history: what became of runs and rollouts, in pages, the newest first."""

from typing import Any

import pytest

from domain.analysis.analysis import Analysis
from domain.analysis.standing import Standing
from domain.optimization_event import OptimizationEvent
from domain.plan import OptimizationPlan, Prediction
from storage import history, optimizations, rollback, rollouts
from storage.database import Database
from storage.tables import Optimization, Rollout, db_now
from tests.storage import records
from tests.storage.ledgers import measured
from tests.storage.records import change, config, first_config, make, open_run

PLAN = OptimizationPlan(
    service="chat",
    recommended_config=config("gpt-5"),
    expected_improvement={"cost.avg": 0.4, "quality.avg": -0.01},
    predictions={"cost.avg": Prediction(mean=0.001, low=0.0005, high=0.002, samples=100)},
    confidence=0.9,
    rationale="40 % cheaper",
    alternatives=[],
    source="model",
)
PRICE = Prediction(mean=0.002, low=0.001, high=0.003, samples=7)
STANDING = Standing(requests=7, metrics={"cost.avg": PRICE}, breaches=[])


async def events(database: Database, **given: Any) -> tuple[int, list[OptimizationEvent]]:
    async with database.transaction() as session:
        return await history.list_events(session, **({"limit": 50, "offset": 0} | given))


async def analyse(database: Database, run: Optimization, service: str) -> None:
    async with database.transaction() as session:
        part = await optimizations.part(session, run.id, service)
        part.observation = {"incumbent": config().to_json()}
        part.analysis, part.analyzed_at = Analysis(standing=STANDING).to_json(), db_now()


async def decide(database: Database, run: Optimization, service: str, plan: OptimizationPlan | None) -> None:
    async with database.transaction() as session:
        part = await optimizations.part(session, run.id, service)
        part.plan = plan.to_json() if plan else None
        part.reasoning, part.decided_at = plan.rationale if plan else "nothing better", db_now()


async def deploy(database: Database, run: Optimization, service: str) -> Rollout:
    rollout = await records.open_for_run(database, run, service, "gpt-5")
    async with database.transaction() as session:
        (await optimizations.part(session, run.id, service)).deployment_id = rollout.id
    return rollout


async def finish(database: Database, run: Optimization) -> None:
    async with database.transaction() as session:
        await optimizations.finish(session, run.id, decision="optimize", reasoning="chat: done")


async def take_back(database: Database, deployment_id: str, **why: Any) -> None:
    async with database.transaction() as session:
        row = await rollouts.lock(session, deployment_id)
        await rollback.roll_back(session, row, **why)


def told(event: OptimizationEvent) -> dict[str, Any]:
    body = event.to_json()
    del body["timestamp"]
    return body


async def test_a_run_that_was_rolled_out(database: Database) -> None:
    await first_config(database, "chat")
    details = {"scheduledAt": 17}
    run = await open_run(database, "chat", triggered_by="timer", by="schedule", details=details)
    await analyse(database, run, "chat")
    assert await events(database) == (0, []), "it may yet be decided either way"
    await decide(database, run, "chat", PLAN)
    rollout = await deploy(database, run, "chat")
    await finish(database, run)
    await records.complete(database, rollout.id)
    await measured(database, rollout.id, cost=(0.010, 0.0065))
    total, found = await events(database)
    assert (total, [event.type for event in found]) == (3, ["deployment", "decision", "analysis"])
    assert [event.timestamp for event in found] == sorted((event.timestamp for event in found), reverse=True)
    row = await records.get_rollout(database, rollout.id)
    assert row.ended_at is not None
    assert row.started_at is not None
    of_run = {"scheduledAt": 17, "optimizationId": run.id, "by": "schedule"}
    common = {"service": "chat", "triggeredBy": "timer", "previousConfig": config().to_json()}
    promised = {
        "proposedConfig": config("gpt-5").to_json(),
        "confidence": 0.9,
        "predictedImprovement": {"cost.avg": 0.4, "quality.avg": -0.01},
        "decision": "optimize",
        "executed": True,
        "executionStrategy": "canary",
    }
    assert told(found[0]) == common | promised | {
        "id": f"{rollout.id}/deployment",
        "type": "deployment",
        "triggerDetails": of_run | {"deploymentId": rollout.id},
        "reasoning": "cheaper",
        "actualImprovement": pytest.approx({"cost.avg": 0.35}),
        "executionDurationMs": row.ended_at - row.started_at,
        "success": True,
    }
    assert told(found[1]) == common | promised | {
        "id": f"{run.id}/chat/decision",
        "type": "decision",
        "triggerDetails": of_run,
        "reasoning": "40 % cheaper",
    }
    assert told(found[2]) == common | {
        "id": f"{run.id}/chat/analysis",
        "type": "analysis",
        "triggerDetails": of_run,
        "decision": "optimize",
        "reasoning": "7 requests: cost.avg 0.002.",
        "executed": False,
    }


async def test_a_run_that_found_nothing_better(database: Database) -> None:
    run = await open_run(database, "chat", dry_run=True)
    await decide(database, run, "chat", None)
    _, (decision,) = await events(database)
    assert (decision.decision, decision.reasoning, decision.executed) == ("skip", "nothing better", False)
    assert (decision.triggered_by, (decision.trigger_details or {})["dryRun"]) == ("manual", True)
    await finish(database, run)
    assert (await events(database))[1] == [decision]


async def test_a_run_that_failed_before_it_decided(database: Database) -> None:
    run = await open_run(database, "chat", "mail")
    await decide(database, run, "mail", None)
    async with database.transaction() as session:
        await optimizations.fail(session, run.id, "PostgreSQL went away")
    _, found = await events(database)
    assert {(event.service, event.type, event.reasoning) for event in found} == {
        ("chat", "decision", "The run failed: PostgreSQL went away"),
        ("mail", "decision", "nothing better"),
    }
    assert [event.errors for event in found] == [["PostgreSQL went away"]] * 2


async def test_a_rollout_that_harms_is_told_twice(database: Database) -> None:
    await first_config(database, "chat")
    opened = (await make(database, change("chat", "gpt-5", by="ada", reason="I like it"))).deployment_id
    assert opened is not None
    await records.enter(database, opened)
    _, (running,) = await events(database)
    assert (running.executed, running.success, running.execution_duration_ms) == (True, None, None)
    trigger = {"metric": "errors.rate", "threshold": 0.02, "actual": 0.15}
    await take_back(database, opened, reason="errors", automatic=True, triggers=[trigger])
    total, (back, deployment) = await events(database)
    assert total == 2
    assert told(back) == {
        "id": f"{opened}/rollback",
        "type": "rollback",
        "service": "chat",
        "triggeredBy": "threshold",
        "triggerDetails": {"deploymentId": opened, "triggers": [trigger]},
        "previousConfig": config("gpt-5").to_json(),
        "proposedConfig": config().to_json(),
        "decision": "rollback",
        "reasoning": "errors",
        "executed": True,
        "executionStrategy": "immediate",
        "success": True,
        "errors": ["errors.rate was 0.15, past 0.02"],
    }
    assert (deployment.id, deployment.timestamp) == (running.id, running.timestamp)
    assert (deployment.triggered_by, deployment.trigger_details) == (
        "manual",
        {"by": "ada", "deploymentId": opened},
    )
    assert (deployment.reasoning, deployment.success, deployment.errors) == ("I like it", False, ["errors"])


@pytest.mark.parametrize(("automatic", "triggered_by"), [(True, "event"), (False, "manual")])
async def test_a_rollout_taken_back_before_it_served_anything(
    database: Database, automatic: bool, triggered_by: str
) -> None:
    await first_config(database, "chat")
    opened = (await make(database, change("chat", "gpt-5"))).deployment_id
    assert opened is not None
    await take_back(database, opened, reason="no need", automatic=automatic)
    _, (back, deployment) = await events(database)
    assert (back.triggered_by, back.errors) == (triggered_by, None)
    assert (deployment.executed, deployment.success, deployment.execution_duration_ms) == (False, False, None)


async def test_pages_services_and_times(database: Database) -> None:
    await first_config(database, "chat:summarize")
    for scope in ("chat", "mail", "global"):
        await first_config(database, scope)
    for scope in ("chat", "mail", "chat:summarize"):
        await make(database, change(scope, "gpt-5"))
    for _ in range(3):
        run = await open_run(database, "chat", "mail")
        for service in ("chat", "mail"):
            await analyse(database, run, service)
            await decide(database, run, service, None)
        await finish(database, run)
    total, everything = await events(database)
    assert total == len(everything) == 15
    assert len({event.id for event in everything}) == 15
    times = [event.timestamp for event in everything]
    assert times == sorted(times, reverse=True)
    paged = []
    for offset in range(0, 18, 4):
        total, page = await events(database, limit=4, offset=offset)
        assert total == 15
        paged += page
    assert paged == everything
    assert await events(database, limit=4, offset=15) == (15, [])
    of_chat = [event for event in everything if event.service in ("chat", "chat:summarize")]
    assert await events(database, services=["chat"]) == (8, of_chat)
    assert await events(database, services=["chat", "mail"], limit=1) == (15, everything[:1])
    assert await events(database, services=["nobody", "global"]) == (0, [])
    start, end = times[-1], times[3]
    within = [event for event in everything if start <= event.timestamp < end]
    assert await events(database, start=start, end=end) == (len(within), within)
    assert 0 < len(within) < 15
