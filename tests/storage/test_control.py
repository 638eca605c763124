"""The control row: pause, resume, and the emergency stop in its one transaction."""

import asyncio

import pytest

from domain.errors import Conflict, Stopped
from domain.optimization import OptimizationRequest
from domain.policy import Strategy
from storage import control, optimizations, rollouts
from storage.control import StopOutcome
from storage.database import Database
from storage.tables import Control
from tests.storage import records
from tests.storage.locks import until_waiting
from tests.storage.records import change, events, make, served


async def pause(database: Database) -> Control:
    async with database.transaction() as session:
        return await control.pause(session, reason="lunch", by="ada")


async def resume(database: Database) -> Control:
    async with database.transaction() as session:
        return await control.resume(session, by="ada")


async def stop(database: Database) -> StopOutcome:
    async with database.transaction() as session:
        return await control.emergency_stop(session, reason="smoke", by="ada")


async def present(database: Database) -> tuple[str, int, int]:
    async with database.transaction() as session:
        row = await control.get(session)
    return row.state, row.epoch, row.revision


async def test_pause_and_resume_count_once(database: Database) -> None:
    await pause(database)
    assert (await pause(database)).reason == "lunch"
    assert await present(database) == ("paused", 0, 1)
    await resume(database)
    row = await resume(database)
    assert (row.reason, row.changed_by) == (None, "ada")
    assert await present(database) == ("running", 0, 2)


async def test_a_stop_is_stronger_than_a_pause_and_ends_by_resume(database: Database) -> None:
    await pause(database)
    await stop(database)
    with pytest.raises(Conflict, match="emergency stop"):
        await pause(database)
    assert await present(database) == ("stopped", 1, 2)
    await stop(database)
    assert await present(database) == ("stopped", 2, 3)
    await resume(database)
    assert await present(database) == ("running", 2, 4)


async def test_a_run_of_an_earlier_epoch_can_do_nothing_more(database: Database) -> None:
    await make(database, change("chat"))
    run = await records.open_run(database, "chat")
    await stop(database)
    for state in ("stopped", "running"):
        assert (await present(database))[0] == state
        for epoch in (0, run.epoch):
            with pytest.raises(Stopped):
                async with database.transaction() as session:
                    await control.require_running(session, epoch)
        await resume(database)
    async with database.transaction() as session:
        assert (await control.require_running(session, 1)).state == "running"


async def test_a_stop_ends_every_run_and_every_rollout(database: Database) -> None:
    await make(database, change("global"))
    run = await records.open_run(database, "chat", "mail")
    async with database.transaction() as session:
        await optimizations.claim(session, run.id)
    opened = await records.open_for_run(database, run, "chat", "gpt-5")
    begun = await make(database, change("code", "gpt-5"))
    assert begun.deployment_id is not None
    await records.enter(database, begun.deployment_id, step=1)
    queued = await records.open_run(database, "news")

    outcome = await stop(database)

    assert outcome.rollouts == sorted([opened.id, begun.deployment_id])
    assert outcome.optimizations == sorted([run.id, queued.id])
    for deployment_id in outcome.rollouts:
        row = await records.get_rollout(database, deployment_id)
        assert (row.status, row.traffic_percent, row.watched_until) == ("rolled_back", 0, None)
        assert row.rollback == {"reason": "emergency stop: smoke", "automatic": False, "triggers": []}
    for optimization_id in outcome.optimizations:
        ended = await records.get_run(database, optimization_id)
        assert (ended.status, ended.error) == ("failed", "emergency stop: smoke")
        assert ended.ended_at is not None
    told = [(event.type, event.scope) for event in await events(database)][1:]
    assert sorted(told) == [
        ("alert.raised", "global"),
        ("deployment.progressed", "code"),
        ("deployment.progressed", "code"),
        ("deployment.started", "code"),
        ("optimization.complete", "global"),
        ("optimization.complete", "news"),
        ("rollback.completed", "chat"),
        ("rollback.completed", "code"),
        ("rollback.triggered", "chat"),
        ("rollback.triggered", "code"),
    ]
    assert not any(event.data["changesApplied"] for event in await events(database, "optimization.complete"))
    # The services are free again.
    await resume(database)
    await records.open_run(database, "chat", "mail", "news")


async def test_a_stop_serves_the_last_version_known_good_in_every_kind_of_scope(database: Database) -> None:
    async def started(scope: str, strategy: Strategy, step: int = 0) -> str:
        outcome = await make(database, change(scope, f"new-{scope}", strategy=strategy))
        assert outcome.deployment_id is not None
        await records.enter(database, outcome.deployment_id, step=step)
        return outcome.deployment_id

    await make(database, change("global"))
    for scope in ("own-canary", "own-immediate", "kept", "unwatched", "kept:/old", "unwatched:/inherits"):
        await records.first_config(database, scope)
    await started("own-canary", "canary", step=3)
    await started("own-immediate", "immediate")
    await started("inherits-canary", "gradual")
    await started("inherits-immediate", "immediate")
    await started("kept:/inherits", "immediate")
    await started("kept:/old", "immediate")
    await records.complete(database, await started("kept", "canary"))
    # Served since an immediate change whose watch ended without a verdict: not known good.
    unwatched = await started("unwatched", "immediate")
    async with database.transaction() as session:
        await rollouts.fail(session, await rollouts.lock(session, unwatched), "its workflow is gone")
    assert await served(database, "unwatched") == "unwatched@2"

    await stop(database)

    assert {scope: await served(database, scope) for scope in EXPECTED} == EXPECTED


EXPECTED = {
    "global": "global@1",
    "own-canary": "own-canary@1",
    "own-immediate": "own-immediate@1",
    "inherits-canary": "global@1",
    "inherits-immediate": "global@1",
    "kept": "kept@2",
    "kept:/inherits": "kept@2",
    "kept:/old": "kept:/old@1",
    "unwatched": "unwatched@1",
    "unwatched:/inherits": "unwatched:/inherits@1",
}


async def test_nothing_of_before_a_stop_goes_on_after_resume(database: Database) -> None:
    await make(database, change("chat"))
    await make(database, change("mail"))
    run = await records.open_run(database, "chat")
    pending = await make(database, change("chat", "gpt-5"))
    running = await make(database, change("mail", "gpt-5"))
    assert pending.deployment_id is not None
    assert running.deployment_id is not None
    await records.enter(database, running.deployment_id)
    fence = (await records.get_rollout(database, running.deployment_id)).fence
    await stop(database)
    await resume(database)
    async with database.transaction() as session:
        with pytest.raises(rollouts.RolloutClosed):
            await rollouts.begin(session, pending.deployment_id)
    for attempt in (
        lambda session: optimizations.claim(session, run.id),
        lambda session: optimizations.begin_phase(session, run.id, phase="decide", progress=50),
        lambda session: rollouts.complete(session, str(running.deployment_id), fence=fence),
        lambda session: rollouts.enter_step(session, str(running.deployment_id), fence=fence, step=1, at=0),
    ):
        async with database.transaction() as session:
            with pytest.raises(Stopped):
                await attempt(session)
    with pytest.raises(Stopped):
        await records.open_for_run(database, run, "chat", "gpt-5")
    assert await served(database, "mail") == "mail@1"


async def test_nothing_is_opened_while_a_stop_holds(database: Database) -> None:
    await make(database, change("chat"))
    await stop(database)
    with pytest.raises(Stopped):
        await records.open_run(database, "chat")
    with pytest.raises(Stopped):
        await make(database, change("chat", "gpt-5"))
    async with database.transaction() as session:
        assert (await control.get(session)).reason == "smoke"
        with pytest.raises(Stopped):
            await optimizations.open_optimization(
                session, OptimizationRequest(services=["chat"]), triggered_by="manual", by="ada"
            )


async def test_whoever_comes_after_a_waiting_stop_waits_for_it(database: Database) -> None:
    """Those who hold the row share it. Were a newcomer let in before the stop, it might wait for ever."""
    async with asyncio.TaskGroup() as group, database.transaction() as session:
        await control.hold(session)
        stopping = group.create_task(stop(database))
        await until_waiting(database)
        newcomer = group.create_task(_epoch_when_held(database))
        await until_waiting(database, 2)
        # One that holds the row already may ask again.
        await control.hold(session)
    assert stopping.result().revision == 1
    assert newcomer.result() == 1


async def _epoch_when_held(database: Database) -> int:
    async with database.transaction() as session:
        return (await control.hold(session)).epoch


async def test_a_stop_and_a_failing_run_do_not_lock_each_other_out(database: Database) -> None:
    """Both end the run and its rollout. The scope is kept locked until each has come as far as it can."""
    await make(database, change("chat"))
    run = await records.open_run(database, "chat")
    opened = await records.open_for_run(database, run, "chat", "gpt-5")
    pool = await database.pool()
    async with asyncio.TaskGroup() as group, pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT * FROM scopes FOR UPDATE")
        stopping = group.create_task(stop(database))
        await until_waiting(database)
        failing = group.create_task(_fail(database, run.id))
        await until_waiting(database, 2)
    assert stopping.result().rollouts == [opened.id]
    assert failing.result() is False


async def _fail(database: Database, optimization_id: str) -> bool:
    async with database.transaction() as session:
        return await optimizations.fail(session, optimization_id, "no data")


async def test_a_stop_that_fails_leaves_everything_as_it_was(database: Database) -> None:
    await make(database, change("chat"))
    outcome = await make(database, change("chat", "gpt-5", strategy="immediate"))
    assert outcome.deployment_id is not None
    await records.enter(database, outcome.deployment_id)
    before = await records.event_types(database)

    async def fail_after_stopping() -> None:
        async with database.transaction() as session:
            await control.emergency_stop(session, reason="smoke", by="ada")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail_after_stopping()
    assert await present(database) == ("running", 0, 0)
    assert await records.event_types(database) == before
    assert await served(database, "chat") == "chat@2"
    assert (await records.get_rollout(database, outcome.deployment_id)).status == "running"
