"""Rollouts as people see them."""

from typing import Any

from domain.deployment import Deployment
from storage import deployments, rollback, rollouts
from storage.database import Database
from storage.tables import RolloutCheck
from tests.storage import records
from tests.storage.records import AT, change, make


async def describe(database: Database, deployment_id: str) -> Deployment:
    async with database.transaction() as session:
        (shown,) = await deployments.describe(session, [await rollouts.get(session, deployment_id)])
    return shown


async def opened(database: Database, scope: str = "chat") -> str:
    await records.first_config(database, scope)
    outcome = await make(database, change(scope, "gpt-5"))
    assert outcome.deployment_id is not None
    return outcome.deployment_id


def reading(evidence: float) -> dict[str, Any]:
    return {"metric": "errors.rate", "evidence": evidence, "samples": {"control": 90, "canary": 10}}


async def test_a_rollout_is_shown_from_opening_to_completion(database: Database) -> None:
    deployment_id = await opened(database)
    shown = await describe(database, deployment_id)
    assert (shown.status, shown.progress, shown.traffic_percent) == ("pending", 0, 0)
    assert (shown.from_version, shown.to_version, shown.reason) == ("chat@1", "chat@2", "cheaper")
    assert [step.percent for step in shown.steps] == [5, 25, 50, 100]
    assert all(step.started_at is None and step.verdict is None for step in shown.steps)

    await records.enter(database, deployment_id, step=1)
    async with database.transaction() as session:
        await rollouts.end_step(
            session, deployment_id, fence=0, step=0, verdict="healthy", extensions=2, at=AT + 9
        )
    shown = await describe(database, deployment_id)
    assert (shown.status, shown.progress, shown.traffic_percent) == ("running", 25, 25)
    first, second = shown.steps[:2]
    assert (first.started_at, first.ended_at, first.extensions, first.verdict) == (AT, AT + 9, 2, "healthy")
    assert (second.started_at, second.ended_at, second.verdict) == (AT, None, None)

    await records.complete(database, deployment_id)
    shown = await describe(database, deployment_id)
    assert (shown.status, shown.progress, shown.traffic_percent) == ("completed", 100, 100)
    assert shown.ended_at is not None


async def test_each_step_shows_what_its_last_look_saw(database: Database) -> None:
    deployment_id = await opened(database)
    await records.enter(database, deployment_id, step=1)
    async with database.transaction() as session:
        for number, step, evidence in ((1, 0, 1.0), (2, 0, 2.0), (3, 1, 3.0)):
            session.add(
                RolloutCheck(
                    deployment_id=deployment_id,
                    number=number,
                    step=step,
                    at=AT,
                    bucket_from=AT,
                    bucket_until=AT,
                    verdict="continue",
                    reason="",
                    result={"guardrails": [reading(evidence)]},
                )
            )
    shown = await describe(database, deployment_id)
    assert [[seen.evidence for seen in step.guardrails] for step in shown.steps] == [[2.0], [3.0], [], []]


async def test_a_rollback_is_shown_with_its_cause(database: Database) -> None:
    deployment_id = await opened(database)
    await records.enter(database, deployment_id)
    trigger = {"metric": "errors.rate", "threshold": 0.01, "actual": 0.2}
    async with database.transaction() as session:
        row = await rollouts.lock(session, deployment_id)
        await rollback.roll_back(session, row, reason="errors", automatic=True, triggers=[trigger])
    shown = await describe(database, deployment_id)
    assert (shown.status, shown.traffic_percent) == ("rolled_back", 0)
    assert shown.rollback is not None
    assert shown.rollback.to_json() == {"reason": "errors", "automatic": True, "triggers": [trigger]}


async def test_rollouts_are_listed_newest_first_by_scope_and_by_being_open(database: Database) -> None:
    ids = [await opened(database, scope) for scope in ("chat", "mail", "code")]
    await records.complete(database, ids[1])

    async def listed(**given: Any) -> tuple[int, list[str]]:
        wanted: dict[str, Any] = {"scope": None, "open_only": False, "limit": 10, "offset": 0} | given
        async with database.transaction() as session:
            total, page = await deployments.list_deployments(session, **wanted)
        return total, [shown.deployment_id for shown in page]

    assert await listed() == (3, ids[::-1])
    assert await listed(limit=1, offset=1) == (3, [ids[1]])
    assert await listed(open_only=True) == (2, [ids[2], ids[0]])
    assert await listed(scope="mail") == (1, [ids[1]])
    assert await listed(scope="mail", open_only=True) == (0, [])
