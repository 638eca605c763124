"""Ten thousand events, while the receiver and the worker are killed: none is lost, none out of order."""

from itertools import groupby
from pathlib import Path

import pytest

from activities.delivery_batch import LANES
from infra.embedded import EmbeddedStack
from storage.database import Database
from tests.chaos.processes import worker_process
from tests.chaos.receiver import receiver_process
from tests.storage.hooks import happen, open_webhook
from tests.waiting import until

pytestmark = pytest.mark.alone

EVENTS, SCOPES = 10_000, 20


async def count(database: Database, condition: str) -> int:
    pool = await database.pool()
    return int(await pool.fetchval(f"SELECT count(*) FROM webhook_deliveries WHERE {condition}"))


async def test_ten_thousand_events_arrive_in_order_whoever_is_killed(
    stack: EmbeddedStack, database: Database, temporal: object, tmp_path: Path
) -> None:
    async with (
        receiver_process(tmp_path / "taken") as receiver,
        worker_process(stack, tmp_path) as worker,
    ):
        policy = {"maxRetries": 1000, "initialDelayMs": 100, "maxDelayMs": 500}
        url = f"http://127.0.0.1:{receiver.port}/hook"
        await open_webhook(database, url, retryPolicy=policy)
        await happen(database, *(f"s{number % SCOPES}" for number in range(EVENTS)))

        await receiver.until_taken(EVENTS // 4)
        await receiver.kill()

        async def failing() -> bool:
            return await count(database, "status = 'pending' AND attempts > 1") >= SCOPES

        await until(failing)
        await receiver.start()
        await receiver.until_taken(EVENTS // 2)
        await worker.kill()
        await worker.start()

        async def all_delivered() -> bool:
            return await count(database, "status = 'delivered'") == EVENTS

        await until(all_delivered, seconds=120)
        taken = receiver.taken()
    for scope in range(SCOPES):
        numbers = [number for of, number in taken if of == f"s{scope}"]
        # What was repeated was repeated at once: nothing came between, and nothing older came after.
        assert [number for number, _ in groupby(numbers)] == list(range(scope, EVENTS, SCOPES))
    # Two kills, each in the middle of one event per lane at most.
    assert len(taken) - EVENTS <= 2 * LANES
