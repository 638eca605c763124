"""Rollouts under their fence and lease: each write once, by the run that holds it, and only while watched."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from domain.errors import NotFound
from storage import control, optimizations, rollback, rollouts
from storage.database import Database
from storage.rollouts import LeaseLapsed, RolloutClosed
from storage.tables import Rollout, RolloutCheck, RolloutStep
from tests.storage import records
from tests.storage.locks import until_waiting
from tests.storage.records import AT, change, events, get_rollout, make, served


async def opened(database: Database, scope: str = "chat", **given: Any) -> str:
    """A pending rollout on a scope that serves its first version."""
    await records.first_config(database, scope)
    outcome = await make(database, change(scope, "gpt-5", **given))
    assert outcome.deployment_id is not None
    return outcome.deployment_id


async def enter(database: Database, deployment_id: str, step: int, *, fence: int = 0) -> Rollout | None:
    async with database.transaction() as session:
        return await rollouts.enter_step(session, deployment_id, fence=fence, step=step, at=AT)


async def steps(database: Database, deployment_id: str) -> list[tuple[int, float, str | None]]:
    async with database.transaction() as session:
        query = select(RolloutStep).where(RolloutStep.deployment_id == deployment_id)
        rows = (await session.execute(query.order_by(RolloutStep.step))).scalars()
        return [(row.step, row.traffic_percent, row.verdict) for row in rows]


async def roll_back(database: Database, deployment_id: str) -> bool:
    async with database.transaction() as session:
        row = await rollouts.lock(session, deployment_id)
        return await rollback.roll_back(session, row, reason="harm", automatic=True)


async def test_an_opened_rollout_waits_and_serves_nothing(database: Database) -> None:
    row = await get_rollout(database, await opened(database))
    assert (row.status, row.step, row.traffic_percent, row.watched_until) == ("pending", -1, 0, None)
    assert (row.from_version, row.to_version, row.fence, row.epoch) == ("chat@1", "chat@2", 0, 0)
    assert not row.dispatched


async def test_a_workflow_claims_its_rollout_once(database: Database) -> None:
    deployment_id = await opened(database)
    for _ in range(2):
        async with database.transaction() as session:
            row = await rollouts.begin(session, deployment_id)
        assert row is not None
        assert (row.status, row.dispatched) == ("running", True)
    assert len(await events(database, "deployment.started")) == 1


async def test_a_claim_waits_out_a_pause(database: Database) -> None:
    deployment_id = await opened(database)
    async with database.transaction() as session:
        await control.pause(session, reason=None, by="ada")
        assert await rollouts.begin(session, deployment_id) is None
    assert (await get_rollout(database, deployment_id)).status == "pending"
    async with database.transaction() as session:
        await control.resume(session, by="ada")
        assert await rollouts.begin(session, deployment_id) is not None


async def test_what_ended_before_it_began_is_not_claimed(database: Database) -> None:
    deployment_id = await opened(database)
    async with database.transaction() as session:
        await rollouts.fail(session, await rollouts.lock(session, deployment_id), "Temporal refused")
    async with database.transaction() as session:
        with pytest.raises(RolloutClosed, match="failed"):
            await rollouts.begin(session, deployment_id)
    (failed,) = await events(database, "deployment.failed")
    assert failed.data["error"] == "Temporal refused"
    assert await served(database, "chat") == "chat@1"


async def test_each_step_is_entered_once_and_announced_once(database: Database) -> None:
    deployment_id = await opened(database)
    await records.enter(database, deployment_id)
    for step in (0, 1, 1, 2, 3, 3):
        await enter(database, deployment_id, step)
    assert await steps(database, deployment_id) == [(0, 5, None), (1, 25, None), (2, 50, None), (3, 95, None)]
    told = [event.data["currentStep"] for event in await events(database, "deployment.progressed")]
    assert told == ["5 %", "25 %", "50 %", "100 %"]


async def test_a_late_attempt_does_not_take_the_share_back(database: Database) -> None:
    """An attempt that timed out may still be under way when the rollout has gone on, paused or not."""
    deployment_id = await opened(database)
    await records.enter(database, deployment_id, step=2)
    async with database.transaction() as session:
        await rollouts.set_status(session, deployment_id, fence=0, status="held", reason="too little traffic")
    before = await get_rollout(database, deployment_id)
    for step in (1, 2):
        await enter(database, deployment_id, step)
        after = await get_rollout(database, deployment_id)
        assert (after.status, after.step, after.traffic_percent) == ("held", 2, 50)
        assert after.bucket_until == before.bucket_until


async def test_entering_a_step_again_goes_on_watching_it(database: Database) -> None:
    deployment_id = await opened(database)
    await records.enter(database, deployment_id, step=1)
    pool = await database.pool()
    await pool.execute("UPDATE rollouts SET watched_until = clock_timestamp() + interval '1 second'")
    about_to_lapse = (await get_rollout(database, deployment_id)).watched_until
    assert about_to_lapse is not None
    # One that was left since is not watched on the strength of a late attempt.
    await enter(database, deployment_id, 0)
    assert (await get_rollout(database, deployment_id)).watched_until == about_to_lapse
    await enter(database, deployment_id, 1)
    renewed = (await get_rollout(database, deployment_id)).watched_until
    assert renewed is not None
    assert renewed > about_to_lapse + 30_000


async def test_the_lease_is_three_checks_but_a_minute_at_least(database: Database) -> None:
    for scope, check_seconds, lease in (("chat", 1.0, 60.0), ("mail", 25.0, 75.0)):
        policy = records.change(scope).policy
        rollout = policy.rollout.model_copy(update={"check_seconds": check_seconds})
        deployment_id = await opened(database, scope, policy=policy.model_copy(update={"rollout": rollout}))
        await records.enter(database, deployment_id)
        async with database.transaction() as session:
            row = await rollouts.get(session, deployment_id)
            left = ((row.watched_until or 0) - await rollouts.clock(session)) / 1000
        assert lease - 10 < left <= lease


async def test_no_share_is_raised_while_a_pause_holds(database: Database) -> None:
    deployment_id = await opened(database)
    await records.enter(database, deployment_id)
    async with database.transaction() as session:
        await control.pause(session, reason=None, by="ada")
    assert await enter(database, deployment_id, 1) is None
    async with database.transaction() as session:
        assert await rollouts.complete(session, deployment_id, fence=0) is False
    row = await get_rollout(database, deployment_id)
    assert (row.status, row.step, row.traffic_percent) == ("running", 0, 5)


async def test_an_immediate_rollout_serves_everyone_at_once_and_tells_once(database: Database) -> None:
    deployment_id = await opened(database, strategy="immediate")
    await records.enter(database, deployment_id)
    assert await served(database, "chat") == "chat@2"
    assert await records.known_good(database, "chat") == "chat@1"
    pool = await database.pool()
    since = "SELECT applied_at FROM scopes WHERE scope = 'chat'"
    applied_at = await pool.fetchval(since)
    await records.complete(database, deployment_id)
    assert await records.known_good(database, "chat") == "chat@2"
    assert await pool.fetchval(since) == applied_at
    changed = await events(database, "config.changed")
    assert [event.data["newVersion"] for event in changed] == ["chat@1", "chat@2"]


async def test_completion_serves_the_new_version_and_is_idempotent(database: Database) -> None:
    deployment_id = await opened(database)
    await records.complete(database, deployment_id)
    async with database.transaction() as session:
        assert await rollouts.complete(session, deployment_id, fence=0)
    row = await get_rollout(database, deployment_id)
    assert (row.status, row.traffic_percent, row.watched_until) == ("completed", 100, None)
    assert await served(database, "chat") == await records.known_good(database, "chat") == "chat@2"
    assert len(await events(database, "deployment.completed")) == 1
    assert len(await events(database, "config.changed")) == 2
    assert await roll_back(database, deployment_id) is False


async def test_whoever_holds_an_old_fence_writes_nothing(database: Database) -> None:
    deployment_id = await opened(database)
    await records.enter(database, deployment_id)
    await roll_back(database, deployment_id)
    before = await records.event_types(database)
    attempts: list[Any] = [
        lambda s: rollouts.enter_step(s, deployment_id, fence=0, step=1, at=AT),
        lambda s: rollouts.complete(s, deployment_id, fence=0),
        lambda s: rollouts.set_status(s, deployment_id, fence=0, status="held", reason=None),
        lambda s: rollouts.end_step(
            s, deployment_id, fence=0, step=0, verdict="healthy", extensions=0, at=AT
        ),
        lambda s: rollouts.extend_step(s, deployment_id, fence=0, step=0, extensions=1),
        lambda s: rollouts.begin(s, deployment_id),
        # It knows the new fence, but not that the rollout has ended.
        lambda s: rollouts.complete(s, deployment_id, fence=1),
    ]
    for attempt in attempts:
        async with database.transaction() as session:
            with pytest.raises(RolloutClosed, match="rolled_back"):
                await attempt(session)
    assert await records.event_types(database) == before
    assert await served(database, "chat") == "chat@1"


async def test_a_share_that_nobody_watched_is_neither_raised_nor_kept(database: Database) -> None:
    deployment_id = await opened(database)
    await records.enter(database, deployment_id)
    await records.lapse(database, deployment_id)
    for step in (0, 1):
        with pytest.raises(LeaseLapsed):
            await enter(database, deployment_id, step)
    async with database.transaction() as session:
        with pytest.raises(LeaseLapsed):
            await rollouts.complete(session, deployment_id, fence=0)
    assert await served(database, "chat") == "chat@1"


async def test_what_serves_no_share_cannot_lapse(database: Database) -> None:
    waiting = await opened(database)
    await records.lapse(database, waiting)
    await records.enter(database, waiting)
    immediate = await opened(database, "mail", strategy="immediate")
    await records.enter(database, immediate)
    await records.lapse(database, immediate)
    await records.complete(database, immediate)
    assert await served(database, "mail") == "mail@2"


async def test_a_hold_is_announced_once(database: Database) -> None:
    deployment_id = await opened(database)
    await records.enter(database, deployment_id)
    for status in ("paused", "held", "held", "running"):
        async with database.transaction() as session:
            await rollouts.set_status(
                session,
                deployment_id,
                fence=0,
                status=status,
                reason="too little traffic",
            )
    (held,) = await events(database, "deployment.held")
    assert held.data == {"deploymentId": deployment_id, "step": "5 %", "reason": "too little traffic"}


async def test_a_step_keeps_its_verdict_and_extensions(database: Database) -> None:
    deployment_id = await opened(database)
    await records.enter(database, deployment_id)
    for _ in range(2):
        async with database.transaction() as session:
            await rollouts.extend_step(session, deployment_id, fence=0, step=0, extensions=1)
            await rollouts.end_step(
                session, deployment_id, fence=0, step=0, verdict="healthy", extensions=2, at=AT + 7
            )
    async with database.transaction() as session:
        row = await session.get(RolloutStep, (deployment_id, 0))
    assert row is not None
    assert (row.verdict, row.extensions, row.started_at, row.ended_at) == ("healthy", 2, AT, AT + 7)


async def test_the_database_allows_one_open_rollout_per_scope(database: Database) -> None:
    """The last line of defence, should the rules above be passed by."""
    deployment_id = await opened(database)
    copy = text(
        "INSERT INTO rollouts (id, scope, strategy, change_type, changed_by, reason, plan, policy, status,"
        " from_version, to_version, epoch) SELECT 'dep_other', scope, strategy, change_type, changed_by,"
        " reason, plan, policy, status, from_version, to_version, epoch FROM rollouts"
    )

    async def insert() -> None:
        async with database.transaction() as session:
            await session.execute(copy)

    with pytest.raises(IntegrityError, match="one_open_rollout"):
        await insert()
    await roll_back(database, deployment_id)
    await insert()


async def test_an_optimization_that_asks_twice_gets_one_rollout(database: Database) -> None:
    """The first attempt may still be under way when the second begins."""
    await records.first_config(database, "chat")
    run = await records.open_run(database, "chat")
    both = await asyncio.gather(*(records.open_for_run(database, run, "chat", "gpt-5") for _ in range(10)))
    assert len({row.id for row in both}) == 1
    assert await records.versions(database) == ["chat@1", "chat@2"]


async def test_an_optimization_that_ended_opens_no_rollout(database: Database) -> None:
    await records.first_config(database, "chat")
    run = await records.open_run(database, "chat")
    pool = await database.pool()
    async with asyncio.TaskGroup() as group, pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT * FROM optimizations FOR UPDATE")
        late = group.create_task(_expect_closed(database, run))
        await until_waiting(database)
        await connection.execute("UPDATE optimizations SET status = 'failed', error = 'no worker'")
    assert "no worker" in late.result()
    assert await records.versions(database) == ["chat@1"]


async def _expect_closed(database: Database, run: Any) -> str:
    with pytest.raises(optimizations.OptimizationClosed) as closed:
        await records.open_for_run(database, run, "chat", "gpt-5")
    return str(closed.value)


async def test_the_gate_s_rejections_are_remembered(database: Database) -> None:
    by_gate = await opened(database)
    await records.enter(database, by_gate)
    await roll_back(database, by_gate)
    by_hand = (await make(database, change("chat", "gpt-6"))).deployment_id
    assert by_hand is not None
    async with database.transaction() as session:
        row = await rollouts.lock(session, by_hand)
        await rollback.roll_back(session, row, reason="aborted", automatic=False)
        now = await rollouts.clock(session)
        assert [row.id for row in await rollouts.rejected(session, "chat", now - 60_000)] == [by_gate]
        assert await rollouts.rejected(session, "chat", now + 60_000) == []
        assert await rollouts.rejected(session, "mail", 0) == []


async def test_what_went_past_its_threshold_is_told_from_the_last_look(database: Database) -> None:
    deployment_id = await opened(database)
    trigger = {"metric": "errors.rate", "threshold": 0.01, "actual": 0.2}
    async with database.transaction() as session:
        row = await rollouts.lock(session, deployment_id)
        assert await rollouts.last_triggers(session, row) == []
        for number, verdict in ((1, "continue"), (2, "unhealthy")):
            result = {"triggers": [trigger]}
            session.add(
                RolloutCheck(
                    deployment_id=deployment_id,
                    number=number,
                    step=0,
                    at=AT,
                    bucket_from=AT,
                    bucket_until=AT,
                    verdict=verdict,
                    reason="",
                    result=result,
                )
            )
            row.check_number = number
            await session.flush()
            found = await rollouts.last_triggers(session, row)
            assert found == ([trigger] if verdict == "unhealthy" else [])


async def test_an_unknown_rollout_is_not_found(database: Database) -> None:
    async with database.transaction() as session:
        for look in (rollouts.get, rollouts.lock, rollouts.begin):
            with pytest.raises(NotFound):
                await look(session, "dep_unknown")
