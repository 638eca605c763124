"""A worker ends in order: what it has begun is finished, and nothing of it is left."""

import asyncio

from temporalio.client import Client

from storage.database import Database
from tests.storage import records
from tests.storage.locks import until_waiting
from tests.storage.records import change, make
from worker.run import running_worker
from workflows import starts


async def test_a_worker_finishes_what_it_has_begun_and_begins_nothing_more(
    database: Database, temporal: Client
) -> None:
    await records.first_config(database, "chat")
    outcome = await make(database, change("chat", "gpt-5"))
    assert outcome.deployment_id is not None
    before = asyncio.all_tasks()
    pool = await database.pool()
    ending = asyncio.Event()

    async def work() -> None:
        async with running_worker(database, temporal, step_seconds=1.0):
            await ending.wait()

    async with pool.acquire() as connection, connection.transaction():
        # The claim is under way, and cannot come to its end yet.
        await connection.execute("SELECT * FROM rollouts FOR UPDATE")
        working = asyncio.create_task(work())
        await starts.start_rollout(temporal, outcome.deployment_id, summary="chat")
        await until_waiting(database)
        ending.set()
        done, _ = await asyncio.wait([working], timeout=0.5)
        assert not done
    await working
    handle = starts.rollout_handle(temporal, outcome.deployment_id)
    history = [event.event_type async for event in handle.fetch_history_events()]
    assert (await records.get_rollout(database, outcome.deployment_id)).status == "running"
    assert sum(kind == COMPLETED for kind in history) == 1
    assert asyncio.all_tasks() <= before
    await handle.terminate()


COMPLETED = 12  # EVENT_TYPE_ACTIVITY_TASK_COMPLETED
