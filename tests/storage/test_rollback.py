"""Compensation: once, whoever comes, and to what was served before."""

import asyncio

import pytest

from domain.policy import Strategy
from storage import rollback, rollouts
from storage.database import Database
from tests.storage import records
from tests.storage.records import change, events, get_rollout, make, served


async def roll_back(database: Database, deployment_id: str) -> bool:
    async with database.transaction() as session:
        row = await rollouts.lock(session, deployment_id)
        return await rollback.roll_back(
            session,
            row,
            reason="errors",
            automatic=True,
            triggers=[{"metric": "errors.rate", "threshold": 0.01, "actual": 0.2}],
        )


@pytest.mark.parametrize("strategy", ["canary", "gradual", "immediate"])
@pytest.mark.parametrize("inherits", [False, True])
@pytest.mark.parametrize("begun", [False, True])
async def test_what_was_served_before_is_served_again(
    database: Database, strategy: Strategy, inherits: bool, begun: bool
) -> None:
    await records.first_config(database, "global" if inherits else "chat")
    before = await served(database, "chat")
    outcome = await make(database, change("chat", "gpt-5", strategy=strategy))
    assert outcome.deployment_id is not None
    if begun:
        await records.enter(database, outcome.deployment_id)
    assert await roll_back(database, outcome.deployment_id)

    row = await get_rollout(database, outcome.deployment_id)
    assert (row.status, row.traffic_percent, row.watched_until) == ("rolled_back", 0, None)
    assert row.ended_at is not None
    assert await served(database, "chat") == before
    for event in await events(database, "rollback.triggered", "rollback.completed"):
        assert event.scope == "chat"
        assert event.data == {
            "deploymentId": row.id,
            "fromVersion": row.to_version,
            "toVersion": before,
            "reason": "errors" if begun else "errors (before any traffic)",
            "automatic": True,
            "triggers": [{"metric": "errors.rate", "threshold": 0.01, "actual": 0.2}],
        }


async def test_ten_at_once_roll_back_once(database: Database) -> None:
    await records.first_config(database, "chat")
    outcome = await make(database, change("chat", "gpt-5", strategy="immediate"))
    assert outcome.deployment_id is not None
    await records.enter(database, outcome.deployment_id)
    done = await asyncio.gather(*(roll_back(database, str(outcome.deployment_id)) for _ in range(10)))
    assert sorted(done) == [False] * 9 + [True]
    assert (await get_rollout(database, outcome.deployment_id)).fence == 1
    assert len(await events(database, "rollback.completed")) == 1
    assert [event.data["newVersion"] for event in await events(database, "config.changed")] == [
        "chat@1",
        "chat@2",
        "chat@1",
    ]


async def test_a_completion_and_a_rollback_at_once_leave_one_outcome(database: Database) -> None:
    await records.first_config(database, "chat")
    for round_ in range(10):
        before = await served(database, "chat")
        outcome = await make(database, change("chat", f"model-{round_}"))
        assert outcome.deployment_id is not None
        await records.enter(database, outcome.deployment_id, step=3)

        async def complete(deployment_id: str = outcome.deployment_id) -> bool:
            async with database.transaction() as session:
                return await rollouts.complete(session, deployment_id, fence=0)

        kept, taken = await asyncio.gather(
            complete(), roll_back(database, outcome.deployment_id), return_exceptions=True
        )
        assert (kept, taken) == (True, False) or (isinstance(kept, rollouts.RolloutClosed) and taken is True)
        assert await served(database, "chat") == (before if taken else outcome.version)
