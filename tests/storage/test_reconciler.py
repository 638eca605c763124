"""What is open but carried by nobody is taken back; what is carried is let be."""

import asyncio

import pytest

from domain.policy import Strategy
from storage import reconciler, rollouts
from storage.database import Database
from storage.reconciler import Kind, Probe, WorkflowState
from tests.storage import records
from tests.storage.records import change, get_rollout, get_run, make, served


def probe(state: WorkflowState) -> Probe:
    """Temporal's answer for every workflow."""

    async def answer(_kind: Kind, _row_id: str) -> WorkflowState:
        return state

    return answer


async def running(database: Database, scope: str, strategy: Strategy = "canary") -> str:
    await records.first_config(database, scope)
    outcome = await make(database, change(scope, "gpt-5", strategy=strategy))
    assert outcome.deployment_id is not None
    await records.enter(database, outcome.deployment_id)
    return outcome.deployment_id


async def test_a_canary_that_nobody_watches_is_taken_back_by_postgresql_alone(database: Database) -> None:
    lapsed, watched = await running(database, "chat"), await running(database, "mail")
    immediate = await running(database, "code", "immediate")
    for deployment_id in (lapsed, immediate):
        await records.lapse(database, deployment_id)
    (note,) = await reconciler.roll_back_lapsed(database)
    assert lapsed in note
    row = await get_rollout(database, lapsed)
    assert row.status == "rolled_back"
    assert row.rollback is not None
    assert (row.rollback["reason"], row.rollback["automatic"]) == (reconciler.LAPSED, True)
    assert (await get_rollout(database, watched)).status == "running"
    assert (await get_rollout(database, immediate)).status == "running"
    assert await reconciler.roll_back_lapsed(database) == []


async def test_ten_replicas_take_each_lapsed_canary_back_once(database: Database) -> None:
    ids = [await running(database, f"chat-{number}") for number in range(5)]
    for deployment_id in ids:
        await records.lapse(database, deployment_id)
    notes = await asyncio.gather(*(reconciler.roll_back_lapsed(database) for _ in range(10)))
    assert len([note for some in notes for note in some]) == 5
    assert len(await records.events(database, "rollback.completed")) == 5


async def test_a_canary_that_is_looked_at_just_now_is_left_to_its_run(database: Database) -> None:
    deployment_id = await running(database, "chat")
    await records.lapse(database, deployment_id)
    async with database.transaction() as session:
        row = await rollouts.lock_own(session, deployment_id, 0)
        assert await reconciler.roll_back_lapsed(database) == []
        await rollouts.renew(session, row)
    assert await reconciler.roll_back_lapsed(database) == []
    assert (await get_rollout(database, deployment_id)).status == "running"


@pytest.mark.parametrize("state", ["running", "unknown"])
async def test_what_temporal_runs_or_does_not_tell_of_is_let_be(
    database: Database, state: WorkflowState
) -> None:
    deployment_id = await running(database, "chat")
    run = await records.open_run(database, "mail")
    assert await reconciler.reconcile(database, probe(state)) == []
    assert (await get_rollout(database, deployment_id)).status == "running"
    assert (await get_run(database, run.id)).status == "queued"


@pytest.mark.parametrize("state", ["closed", "missing"])
async def test_what_temporal_runs_no_more_is_ended(database: Database, state: WorkflowState) -> None:
    canary, immediate = await running(database, "chat"), await running(database, "mail", "immediate")
    run = await records.open_run(database, "code")
    pool = await database.pool()
    await pool.execute("UPDATE optimizations SET status = 'running'")
    notes = await reconciler.reconcile(database, probe(state))
    assert [note.split(":")[0] for note in notes] == [
        f"rollout {canary} is rolled_back",
        f"rollout {immediate} is failed",
        f"optimization {run.id} failed",
    ]
    # Served to everyone on a person's word: what has ended is its watch.
    assert await served(database, "mail") == "mail@2"
    assert await records.known_good(database, "mail") == "mail@1"
    assert await served(database, "chat") == "chat@1"
    assert await reconciler.reconcile(database, probe(state)) == []


async def test_what_was_never_started_waits_for_the_dispatcher(database: Database) -> None:
    """A row whose start has not come through has no workflow yet, and is no orphan."""
    await records.first_config(database, "chat")
    pending = await make(database, change("chat", "gpt-5"))
    run = await records.open_run(database, "mail")
    assert await reconciler.reconcile(database, probe("missing")) == []
    pool = await database.pool()
    for table in ("rollouts", "optimizations"):
        await pool.execute(f"UPDATE {table} SET dispatched = true")
    assert len(await reconciler.reconcile(database, probe("missing"))) == 2
    assert (await get_rollout(database, str(pending.deployment_id))).status == "rolled_back"
    assert (await get_run(database, run.id)).status == "failed"


async def test_what_ends_while_temporal_is_asked_is_not_ended_twice(database: Database) -> None:
    deployment_id = await running(database, "chat")

    async def completing(_kind: Kind, row_id: str) -> WorkflowState:
        await records.complete(database, row_id)
        return "closed"

    assert await reconciler.reconcile(database, completing) == []
    assert (await get_rollout(database, deployment_id)).status == "completed"
    assert await served(database, "chat") == "chat@2"
