"""Reports that are answered from the buffer: written in time and once, kept while PostgreSQL is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy.engine import make_url

from domain.errors import Conflict, DatabaseError, RateLimited, ServiceUnavailable
from domain.idempotency import Answer, Claim
from domain.reports import QualityEvaluation
from infra.embedded import EmbeddedStack, started
from storage.database import Database
from storage.intake import Intake
from tests.chaos.proxy import Proxy, proxy_to
from tests.storage.test_intake import NOW, metric
from tests.waiting import until

OK = Answer(200, {"accepted": 1, "rejected": 0, "ack": "buffer"})
LOCK = 4_711


@asynccontextmanager
async def running(database: Database, **options: Any) -> AsyncIterator[Intake]:
    intake = Intake(database, **options)
    await intake.start()
    try:
        yield intake
    finally:
        await intake.close()


@pytest_asyncio.fixture
async def connection(database: Database) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    opened = await database.connect()
    yield opened
    await opened.close()


async def count(database: Database) -> int:
    connection = await database.connect()
    try:
        found: int = await connection.fetchval("SELECT count(*) FROM metrics")
        return found
    finally:
        await connection.close()


async def early(intake: Intake, rows: int = 1, claim: Claim | None = None) -> Answer:
    return await intake.metrics([metric()] * rows, OK, claim, "buffer")


async def until_written(intake: Intake, rows: int) -> None:
    async def written() -> bool:
        return intake.stats.committed == rows and intake.stats.buffered == 0

    await until(written)


async def test_a_hundred_are_written_at_once_and_fewer_wait(database: Database) -> None:
    async with running(database) as intake:
        for _ in range(3):
            assert await early(intake, 33) == OK
        assert (intake.stats.buffered, intake.stats.early) == (99, 99)
        assert await count(database) == 0
        await early(intake)
        await until_written(intake, 100)
        assert (intake.stats.early, intake.stats.lost) == (0, 0)
    assert await count(database) == 100


async def test_the_first_of_few_waits_for_so_long_and_no_longer(database: Database) -> None:
    async with running(database, flush_seconds=0.2) as intake:
        for total in (5, 10):
            await early(intake, 5)
            assert await count(database) == total - 5
            await until_written(intake, total)
    assert await count(database) == 10


async def test_a_caller_that_waits_has_them_all_written(database: Database) -> None:
    async with running(database) as intake:
        await early(intake, 5)
        await intake.metrics([metric()], OK)
        assert await count(database) == 6


async def test_closing_writes_what_waits(database: Database) -> None:
    async with running(database) as intake:
        await early(intake, 5)
    assert await count(database) == 5
    with pytest.raises(ServiceUnavailable):
        await early(intake)


async def test_the_buffer_is_bounded_for_itself(database: Database) -> None:
    intake = Intake(database, early_capacity=10)
    await early(intake, 9)
    with pytest.raises(RateLimited) as refused:
        await early(intake, 2)
    assert refused.value.retry_after == 1
    await early(intake)
    with pytest.raises(RateLimited):
        intake.require_room(1, "buffer")
    intake.require_room(1, "commit")
    await intake.start()
    await intake.close()
    assert await count(database) == 10


async def test_the_buffer_is_bounded_by_what_it_holds(database: Database) -> None:
    """Else 10,000 reports with all their tags would hold 400 MB."""
    large = metric(tags={f"{number:0128d}": "x" * 512 for number in range(62)})
    intake = Intake(database, early_bytes=2**20, flush_seconds=1.0)
    taken = 0
    while taken * 62 * 640 < 2**20:
        await intake.metrics([large] * 5, OK, ack="buffer")
        taken += 5
    with pytest.raises(RateLimited, match="1 MiB of reports in the buffer wait") as refused:
        await intake.metrics([large] * 5, OK, ack="buffer")
    assert refused.value.retry_after == 1
    with pytest.raises(RateLimited):
        intake.require_room(1, "buffer")
    intake.require_room(1, "commit")
    await intake.start()
    await until_written(intake, taken)
    scored = {f"{number:0128d}": 1.0 for number in range(64)}
    scores = [QualityEvaluation(NOW, "chat", 1.0, dimension_scores=scored)] * 150
    await intake.quality(scores, OK, ack="buffer")
    with pytest.raises(RateLimited):
        await intake.quality(scores, OK, ack="buffer")
    await intake.close()
    assert await count(database) == taken


async def test_while_postgresql_is_away_they_are_kept_and_callers_refused(
    stack: EmbeddedStack, database: Database
) -> None:
    async with running(database) as intake:
        await early(intake, 200)
        await until_written(intake, 200)
        await started(stack.postgres).kill()
        try:
            for _ in range(3):
                await early(intake, 200)
                with pytest.raises(DatabaseError):
                    await intake.metrics([metric()], OK)
            assert (intake.stats.buffered, intake.stats.early) == (600, 600)
        finally:
            await started(stack.postgres).start()
        await until_written(intake, 800)
    assert await count(database) == 800


async def test_the_next_try_comes_soon_whatever_came_in_during_the_last(
    stack: EmbeddedStack, database: Database
) -> None:
    async with running(database, flush_seconds=600) as intake:
        await started(stack.postgres).kill()
        try:
            turned_away = asyncio.create_task(intake.metrics([metric()], OK))
            await asyncio.sleep(0)
            await early(intake, 200)
            await asyncio.sleep(0)
            await early(intake, 200)
            with pytest.raises(DatabaseError):
                await turned_away
        finally:
            await started(stack.postgres).start()
        await until_written(intake, 400)


async def test_the_next_try_comes_soon_though_nothing_was_left_to_be_tried(
    stack: EmbeddedStack, database: Database
) -> None:
    async with running(database, flush_seconds=600) as intake:
        await started(stack.postgres).kill()
        try:
            with pytest.raises(DatabaseError):
                await intake.metrics([metric()], OK)
        finally:
            await started(stack.postgres).start()
        await early(intake, 100)
        await until_written(intake, 100)


async def test_a_fault_in_what_waited_for_postgresql_does_not_keep_the_rest_waiting(
    stack: EmbeddedStack, database: Database
) -> None:
    async with running(database, flush_seconds=600) as intake:
        await started(stack.postgres).kill()
        try:
            with pytest.raises(DatabaseError):
                await intake.metrics([metric()], OK)
            await early(intake, 5)
            await intake.metrics([metric(model="nul\0inside")], OK, ack="buffer")
        finally:
            await started(stack.postgres).start()
        await until_written(intake, 5)
    assert intake.stats.lost == 1


async def test_what_cannot_be_written_before_the_end_is_counted_as_lost(
    stack: EmbeddedStack, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    intake = Intake(database, close_seconds=0.3)
    await intake.start()
    await started(stack.postgres).kill()
    try:
        await early(intake, 150)
        await intake.close()
    finally:
        await started(stack.postgres).start()
    assert (intake.stats.lost, intake.stats.buffered) == (150, 0)
    assert "150 answered reports are lost" in caplog.text


async def test_a_batch_that_cannot_be_written_is_lost_alone(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    intake = Intake(database)
    await early(intake, 60)
    await intake.metrics([metric(model="nul\0inside")] * 7, OK, ack="buffer")
    await early(intake, 60)
    await intake.start()
    await until(lambda: _settled(intake))
    await intake.close()
    assert (intake.stats.committed, intake.stats.lost) == (120, 7)
    assert await count(database) == 120
    assert "7 answered reports are lost" in caplog.text


async def _settled(intake: Intake) -> bool:
    return intake.stats.buffered == 0


async def test_a_claim_holds_from_the_buffer_on(database: Database) -> None:
    claim, other = Claim("key_1", "batch-1", "f1"), Claim("key_1", "batch-1", "another")
    async with running(database) as intake:
        assert await early(intake, 5, claim) == OK
        assert await intake.metrics([metric()], Answer(200, {}), claim, "buffer") == OK
        with pytest.raises(Conflict):
            await early(intake, 1, other)
        assert intake.stats.early == 5
        assert await intake.metrics([metric()], Answer(200, {}), claim) == OK
        # It is committed by now.
        assert await early(intake, 5, claim) == OK
        with pytest.raises(Conflict):
            await early(intake, 1, other)
        assert intake.stats.early == 0
    assert await count(database) == 5


async def test_a_claim_without_reports_does_not_wait_in_the_buffer(database: Database) -> None:
    claim = Claim("key_1", "batch-1", "f1")
    connection = await database.connect()
    async with running(database, flush_seconds=600) as intake:
        assert await early(intake, 0, claim) == OK
        kept = await connection.fetchval("SELECT count(*) FROM idempotency_keys WHERE principal = 'key_1'")
    await connection.close()
    assert kept == 1


Ending = Literal["committed", "under way", "rolled back"]


@pytest_asyncio.fixture
async def slow_commits(connection: "asyncpg.Connection[asyncpg.Record]") -> AsyncIterator[None]:
    """Marked transactions wait at their commit for a lock."""
    await connection.execute(
        f"""
        CREATE FUNCTION wait_for_lock() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock({LOCK}); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER slow AFTER INSERT OR UPDATE ON idempotency_keys
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_for_lock();
        """
    )
    yield
    await connection.execute("DROP FUNCTION wait_for_lock CASCADE")


@pytest.mark.parametrize("ending", ["committed", "under way", "rolled back"])
@pytest.mark.usefixtures("slow_commits")
async def test_a_commit_of_which_nobody_heard_is_written_once(
    stack: EmbeddedStack,
    database: Database,
    connection: "asyncpg.Connection[asyncpg.Record]",
    ending: Ending,
) -> None:
    address = make_url(stack.database_url)
    async with proxy_to(f"{address.host}:{address.port}") as proxy:
        host, _, port = proxy.address.rpartition(":")
        behind = Database(address.set(host=host, port=int(port)).render_as_string(hide_password=False))
        async with running(behind) as intake:
            await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
            await early(intake, 150)
            await until(lambda: _commits(connection, 1))
            await _break(connection, proxy, ending)
            await until_written(intake, 150)
            # The same again is another batch.
            await early(intake, 150)
            await until_written(intake, 300)
        await behind.close()
    assert await count(database) == 300


async def _break(connection: "asyncpg.Connection[asyncpg.Record]", proxy: Proxy, ending: Ending) -> None:
    """Lose the answer to a commit, and the connection."""
    release = connection.execute("SELECT pg_advisory_unlock($1)", LOCK)
    match ending:
        case "committed":
            proxy.lose_answers = True
            await release
            await proxy.lost.wait()
            proxy.lose_answers = False
            proxy.close()
        case "under way":
            proxy.close()
            # The second attempt waits for the end of the first.
            await until(lambda: _waits_for_the_mark(connection))
            await release
        case "rolled back":
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'advisory'"
            )
            await release


async def _commits(connection: "asyncpg.Connection[asyncpg.Record]", number: int) -> bool:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND query LIKE 'COMMIT%'"
    return bool(await connection.fetchval(waiting) == number)


async def _waits_for_the_mark(connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'transactionid'"
    return bool(await connection.fetchval(waiting) == 1)


async def test_callers_that_wait_are_settled_when_the_server_stops(
    stack: EmbeddedStack, database: Database
) -> None:
    intake = Intake(database)
    waiting = asyncio.create_task(intake.metrics([metric()], OK))
    await asyncio.sleep(0)
    await intake.close()
    with pytest.raises(DatabaseError):
        await waiting
    assert (intake.stats.buffered, intake.stats.lost) == (0, 0)
