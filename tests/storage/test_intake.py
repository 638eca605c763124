"""The intake: what is acknowledged is committed, once, and one caller's trouble is not another's."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from domain.errors import Conflict, DatabaseError, InternalError, RateLimited, ServiceUnavailable
from domain.idempotency import Answer, Claim
from domain.policy import CandidateModel
from domain.reports import MetricReport, QualityEvaluation
from infra.embedded import EmbeddedStack, started
from storage import copying
from storage.database import Database
from storage.intake import Intake
from storage.partitions import drop_partitions, ensure_partitions

OK = Answer(200, {"accepted": 1, "rejected": 0})
NOW = 1_760_000_000_000


def metric(**change: Any) -> MetricReport:
    report = MetricReport(
        timestamp=NOW,
        service="chat",
        endpoint="/api/chat",
        model="gpt-4o-mini",
        provider="openai",
        latency_ms=12.5,
        tokens_input=1000,
        tokens_output=1000,
        tokens_total=2000,
        status_code=200,
    )
    return msgspec.structs.replace(report, **change)


@pytest_asyncio.fixture
async def intake(database: Database) -> AsyncIterator[Intake]:
    started = Intake(database)
    await started.start()
    yield started
    await started.close()


async def rows(database: Database, query: str) -> list[dict[str, Any]]:
    connection = await database.connect()
    try:
        return [dict(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def test_what_is_acknowledged_is_stored_with_all_its_fields(database: Database, intake: Intake) -> None:
    before = datetime.now(UTC)
    tags = {"configVersion": "chat@3", "requestId": "req-1", "team": "日本"}
    full = metric(cost_usd=0.25, error_type="overloaded", retry_count=2, tags=tags, status_code=529)
    assert await intake.metrics([full], OK) == OK
    (row,) = await rows(database, "SELECT *, tags ->> 'team' AS team FROM metrics")
    assert row["ts"] == datetime.fromtimestamp(NOW / 1000, UTC)
    assert before - timedelta(seconds=1) < row["received_at"] < datetime.now(UTC) + timedelta(seconds=1)
    expected = {
        "service": "chat",
        "endpoint": "/api/chat",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "config_version": "chat@3",
        "request_id": "req-1",
        "latency_ms": 12.5,
        "tokens_input": 1000,
        "tokens_output": 1000,
        "tokens_total": 2000,
        "cost_usd": 0.25,
        "status_code": 529,
        "error_type": "overloaded",
        "retry_count": 2,
        "team": "日本",
    }
    assert {name: row[name] for name in expected} == expected
    assert [service["name"] for service in await rows(database, "SELECT name FROM services")] == ["chat"]
    assert (intake.stats.buffered, intake.stats.committed) == (0, 1)
    assert intake.stats.rate > 0
    assert intake.stats.last_flush >= before.timestamp() * 1000 - 1000


async def test_a_missing_cost_is_priced_by_policy_then_list_and_unknown_stays_unknown(
    database: Database,
) -> None:
    own = CandidateModel(provider="acme", model="tiny", price_per_m_tok_in=1.0, price_per_m_tok_out=2.0)
    intake = Intake(
        database, override=lambda service, _, model: own if (service, model) == ("chat", "tiny") else None
    )
    await intake.start()
    reports = [
        metric(provider="acme", model="tiny"),
        metric(),
        metric(provider="acme", model="unheard-of"),
        metric(cost_usd=0.0),
    ]
    await intake.metrics(reports, OK)
    await intake.close()
    costs = [row["cost_usd"] for row in await rows(database, "SELECT cost_usd FROM metrics")]
    assert costs[0] == pytest.approx(0.003)
    assert costs[1] == pytest.approx(0.00015 + 0.0006)
    assert costs[2:] == [None, 0.0]


async def test_evaluations_are_stored(database: Database, intake: Intake) -> None:
    evaluation = QualityEvaluation(
        timestamp=NOW,
        service="chat",
        overall_score=92.0,
        request_id="req-1",
        dimension_scores={"accuracy": 95.0},
        evaluation_method="llm-as-judge",
        tags={"configVersion": "chat@2"},
    )
    await intake.quality([evaluation, msgspec.structs.replace(evaluation, config_version="chat@3")], OK)
    stored = await rows(
        database,
        "SELECT service, request_id, config_version, overall_score, evaluation_method, "
        "dimension_scores ->> 'accuracy' AS accuracy FROM quality ORDER BY config_version",
    )
    assert stored[0] == {
        "service": "chat",
        "request_id": "req-1",
        "config_version": "chat@2",
        "overall_score": 92.0,
        "evaluation_method": "llm-as-judge",
        "accuracy": "95.0",
    }
    assert stored[1]["config_version"] == "chat@3"


async def test_the_same_claim_again_gets_the_first_answer_and_stores_nothing(
    database: Database, intake: Intake
) -> None:
    claim, later = Claim("key_1", "batch-1", "f1"), Answer(200, {"accepted": 1, "rejected": 5})
    first, second = await asyncio.gather(
        intake.metrics([metric()], OK, claim), intake.metrics([metric()], later, claim)
    )
    third = await intake.metrics([metric()], later, claim)
    assert [first, second, third] == [OK, OK, OK]
    with pytest.raises(Conflict):
        await intake.metrics([metric()], OK, Claim("key_1", "batch-1", "another"))
    await intake.metrics([metric()], OK, Claim("key_2", "batch-1", "another"))
    assert len(await rows(database, "SELECT 1 FROM metrics")) == 2


async def test_a_claim_may_be_used_anew_after_a_day(database: Database, intake: Intake) -> None:
    claim, second = Claim("key_1", "batch-1", "f1"), Answer(200, {"accepted": 2, "rejected": 0})
    await intake.metrics([metric()], OK, claim)
    await rows(database, "UPDATE idempotency_keys SET created_at = now() - interval '25 hours'")
    assert await intake.metrics([metric()], second, claim) == second
    assert len(await rows(database, "SELECT 1 FROM metrics")) == 2


async def test_many_callers_share_commits(database: Database, intake: Intake) -> None:
    await asyncio.gather(*(intake.metrics([metric(service=f"s{n % 7}")] * 10, OK) for n in range(200)))
    assert len(await rows(database, "SELECT 1 FROM metrics")) == 2000
    commits = await rows(database, "SELECT DISTINCT received_at FROM metrics")
    assert len(commits) < 20
    assert len(await rows(database, "SELECT 1 FROM services")) == 7


async def test_a_batch_that_cannot_be_written_fails_alone(database: Database, intake: Intake) -> None:
    poisoned = metric(model="nul\0inside")
    good, bad, good_too = await asyncio.gather(
        intake.metrics([metric()], OK),
        intake.metrics([poisoned], OK),
        intake.metrics([metric()], OK),
        return_exceptions=True,
    )
    assert (good, good_too) == (OK, OK)
    assert isinstance(bad, InternalError)
    assert len(await rows(database, "SELECT 1 FROM metrics")) == 2


async def test_a_caller_that_left_does_not_stop_the_writer(database: Database, intake: Intake) -> None:
    leaving = asyncio.create_task(intake.metrics([metric()], OK))
    await asyncio.sleep(0)
    leaving.cancel()
    await intake.metrics([metric()], OK)
    assert len(await rows(database, "SELECT 1 FROM metrics")) == 2


async def test_what_waits_is_bounded(database: Database) -> None:
    intake = Intake(database, capacity=10)
    with pytest.raises(RateLimited) as refused:
        await intake.metrics([metric()] * 11, OK)
    assert refused.value.retry_after == 1


async def test_closing_writes_what_waits_and_takes_nothing_more(database: Database) -> None:
    intake = Intake(database)
    waiting = [asyncio.create_task(intake.metrics([metric()], OK)) for _ in range(5)]
    await asyncio.sleep(0)
    await intake.start()
    await intake.close()
    assert await asyncio.gather(*waiting) == [OK] * 5
    with pytest.raises(ServiceUnavailable):
        await intake.metrics([metric()], OK)


async def test_without_postgresql_reports_are_refused_as_retryable_and_taken_again_later(
    stack: EmbeddedStack, database: Database, intake: Intake
) -> None:
    await intake.metrics([metric()], OK)
    await started(stack.postgres).kill()
    try:
        with pytest.raises(DatabaseError):
            await intake.metrics([metric()], OK)
    finally:
        await started(stack.postgres).start()
    assert await intake.metrics([metric()], OK) == OK
    assert len(await rows(database, "SELECT 1 FROM metrics")) == 2


async def test_a_partition_that_is_gone_is_made_again(database: Database, intake: Intake) -> None:
    """It was dropped, or the clock has jumped to a day that has none."""
    await intake.metrics([metric()], OK)
    connection = await database.connect()
    await drop_partitions(connection, date(9999, 12, 31))
    answers = await asyncio.gather(
        *(intake.metrics([metric()], OK, Claim("key_1", f"batch-{n}", "f")) for n in range(3)),
        intake.metrics([metric()], OK, ack="buffer"),
    )
    await connection.close()
    assert answers == [OK] * 4
    assert len(await rows(database, "SELECT 1 FROM metrics")) == 4
    assert len(await rows(database, "SELECT 1 FROM idempotency_keys WHERE principal = 'key_1'")) == 3


async def test_where_no_partition_can_be_had_reports_are_refused_as_retryable_or_kept(
    database: Database, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    await intake.metrics([metric()], OK)

    async def none_made(_: object) -> date:
        return date(9999, 12, 31)

    monkeypatch.setattr(copying, "ensure_partitions", none_made)
    connection = await database.connect()
    await drop_partitions(connection, date(9999, 12, 31))
    await connection.close()
    await intake.metrics([metric()] * 100, OK, ack="buffer")
    with pytest.raises(DatabaseError) as refused:
        await intake.metrics([metric()], OK)
    assert refused.value.retryable
    assert (intake.stats.early, intake.stats.lost) == (100, 0)
    monkeypatch.undo()
    assert await intake.metrics([metric()], OK) == OK
    await intake.close()
    assert len(await rows(database, "SELECT 1 FROM metrics")) == 101


async def test_only_so_many_services_are_remembered(
    database: Database, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "MOST_SERVICES", 3)
    for number in range(20):
        await intake.metrics([metric(service=f"s{number % 5}")], OK)
        assert len(intake._copier._known) <= 3
    assert len(await rows(database, "SELECT 1 FROM services")) == 5


async def test_arrival_is_by_the_databases_clock(
    database: Database, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    await intake.metrics([metric()], OK)
    monkeypatch.undo()
    (row,) = await rows(database, "SELECT now() - received_at AS age FROM metrics")
    assert timedelta(0) <= row["age"] < timedelta(minutes=1)


async def test_partitions_are_made_by_many_at_once_and_dropped_by_age(database: Database) -> None:
    async def ensure() -> date:
        connection = await database.connect()
        try:
            return await ensure_partitions(connection, 20)
        finally:
            await connection.close()

    first_missing = await asyncio.gather(*(ensure() for _ in range(5)))
    assert set(first_missing) == {datetime.now(UTC).date() + timedelta(days=21)}
    connection = await database.connect()
    old = date(2024, 2, 29)
    await connection.execute(
        "CREATE TABLE metrics_20240229 PARTITION OF metrics FOR VALUES FROM ('2024-02-29') TO ('2024-03-01')"
    )
    assert await drop_partitions(connection, old) == []
    assert await drop_partitions(connection, old + timedelta(days=1)) == ["metrics_20240229"]
    with pytest.raises(asyncpg.UndefinedTableError):
        await connection.execute("SELECT 1 FROM metrics_20240229")
    await connection.close()
