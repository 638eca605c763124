"""Errors of gRPC: every code of the API as a status with details, and what each comes from."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest
import pytest_asyncio
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status
from sqlalchemy import text

from api.grpc.optimizer import Optimizer
from api.grpc.optimizer_pb2 import ConfigRequest
from domain import errors
from storage.database import Database
from tests.api.conftest import UNLIMITED, Served
from tests.api.grpc_client import SERVICE, Both, failed, refused, served_both
from tests.api.test_grpc import batch, metric
from tests.storage.locks import until_waiting
from tests.storage.records import first_config

Call: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type)
    and issubclass(kind, errors.OptimizerError)
    and kind is not errors.OptimizerError
]
# As the contract has them.
STATUSES = {
    "INVALID_REQUEST": grpc.StatusCode.INVALID_ARGUMENT,
    "UNAUTHORIZED": grpc.StatusCode.UNAUTHENTICATED,
    "FORBIDDEN": grpc.StatusCode.PERMISSION_DENIED,
    "NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "CONFLICT": grpc.StatusCode.FAILED_PRECONDITION,
    "CONSTRAINT_VIOLATION": grpc.StatusCode.FAILED_PRECONDITION,
    "RATE_LIMITED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "INTERNAL_ERROR": grpc.StatusCode.INTERNAL,
    "OPTIMIZATION_FAILED": grpc.StatusCode.INTERNAL,
    "DEPLOYMENT_FAILED": grpc.StatusCode.INTERNAL,
    "ROLLBACK_FAILED": grpc.StatusCode.INTERNAL,
    "DATABASE_ERROR": grpc.StatusCode.UNAVAILABLE,
    "SERVICE_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "TIMEOUT": grpc.StatusCode.DEADLINE_EXCEEDED,
}
UNAUTHENTICATED = (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHORIZED")
LIMITED = (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
NOWHERE = "postgresql://nobody@127.0.0.1:9/nothing"


@pytest_asyncio.fixture
async def both(served: Served, database: Database) -> AsyncIterator[Both]:
    await first_config(database, "global")
    async with served_both(served) as opened:
        yield opened


def raising(error: Exception) -> Callable[..., Any]:
    async def fail(*_: object) -> bytes:
        raise error

    return fail


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_every_code_has_its_status(
    served: Served, kind: type[errors.OptimizerError], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = kind("it is so: ü", details={"isValid": False}, retry_after=3)
    monkeypatch.setattr(Optimizer, "get_config", raising(error))
    async with served_both(served) as both:
        info = await refused(both.grpc.GetConfig(), STATUSES[kind.code], kind.code)
    assert info.metadata["details"] == '{"isValid":false}'


def test_the_page_says_the_same() -> None:
    page = (Path(__file__).parents[2] / "docs" / "grpc.md").read_text(encoding="utf-8")
    section = page.split("## Errors")[1].split("## ")[0]
    found = re.findall(r"^\| (`.+`) \| `(\w+)` \| (yes|no) \|$", section, re.MULTILINE)
    listed = {reason: status for reasons, status, _ in found for reason in re.findall(r"`(\w+)`", reasons)}
    assert listed == {code: status.name for code, status in STATUSES.items()}


async def test_what_nobody_foresaw_is_an_internal_error(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Optimizer, "get_config", raising(ZeroDivisionError("a secret")))
    async with served_both(served) as both:
        info = await refused(both.grpc.GetConfig(), grpc.StatusCode.INTERNAL, "INTERNAL_ERROR")
        assert "secret" not in str(await failed(both.grpc.GetConfig()))
    assert info.metadata["requestId"] in caplog.text
    assert "a secret" in caplog.text


async def test_the_key_is_the_one_of_rest(both: Both) -> None:
    made = (await both.rest.post("/api/v1/keys", json={"name": "app", "scopes": ["ingest"]})).json()
    app = both.grpc.with_key(made["key"])
    assert (await app.ReportMetrics(batch(metric()))).accepted == 1
    info = await refused(app.GetConfig(), grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN")
    assert info.metadata["retryable"] == "false"
    await refused(app.StreamConfig(), grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN")
    (await both.rest.delete(f"/api/v1/keys/{made['id']}")).raise_for_status()
    await refused(app.ReportMetrics(batch(metric())), *UNAUTHENTICATED)
    for nobody in (both.grpc.with_key(None), both.grpc.with_key("unknown"), both.grpc.with_key("")):
        for method in SERVICE.methods_by_name:
            await refused(getattr(nobody, method)(), *UNAUTHENTICATED)
    basic = both.grpc.with_key(None).GetConfig(None, ("authorization", "Basic YWxsOmFsbA=="))
    await refused(basic, *UNAUTHENTICATED)


async def test_who_may_not_ask_is_told_so_before_anything_of_the_message(both: Both) -> None:
    for key, expected in ((None, UNAUTHENTICATED), ("admin", None)):
        client = both.grpc if key else both.grpc.with_key(None)
        call: Call = both.grpc.channel.unary_unary(f"/{SERVICE.full_name}/GetConfig")
        status = expected or (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        await refused(call(b"\xff\xff\xff", metadata=client.metadata), *status)


async def test_a_call_without_a_message_is_refused(both: Both) -> None:
    call: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = both.grpc.channel.stream_unary(
        f"/{SERVICE.full_name}/GetConfig"
    )
    await refused(
        call(iter(()), metadata=both.grpc.metadata), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"
    )


async def test_a_method_that_there_is_not(both: Both) -> None:
    call: Call = both.grpc.channel.unary_unary(f"/{SERVICE.full_name}/GetWeather")
    assert (await failed(call(b""))).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_callers_request_id_is_kept(both: Both) -> None:
    info = await refused(
        both.grpc.GetConfig(ConfigRequest(endpoint="/a"), ("x-request-id", "mine-1")),
        *(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
    )
    assert info.metadata["requestId"] == "mine-1"
    call = both.grpc.GetConfig(None, ("x-request-id", "mine-2"))
    await call
    assert dict(await call.trailing_metadata())["x-request-id"] == "mine-2"
    stream = both.grpc.StreamConfig(None, ("x-request-id", "mine-3"))
    await stream.read()
    assert dict(await stream.initial_metadata())["x-request-id"] == "mine-3"
    stream.cancel()


async def test_a_long_message_stays_within_what_a_client_takes(both: Both) -> None:
    for name in ("x" * 9000, "ü" * 9000, "\n" * 9000):
        await refused(
            both.grpc.GetConfig(ConfigRequest(service=name)),
            *(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        )


async def test_a_key_that_asks_too_often(served: Served) -> None:
    limits = UNLIMITED.model_copy(update={"reports": 2, "reads": 1, "wrong_keys": 2})
    async with served_both(served, rate_limits=limits, redis_url=None) as both:
        await both.rest.post("/api/v1/metrics", json={"metrics": []})
        call = both.grpc.ReportMetrics(batch(metric()))
        await call
        assert dict(await call.trailing_metadata())["ratelimit"].startswith('"reports";r=0;t=')
        over = both.grpc.ReportMetrics(batch(metric()))
        await refused(over, *LIMITED)
        assert dict(await over.trailing_metadata())["ratelimit-policy"] == '"reports";q=2;w=60'
        found = await rpc_status.aio.from_call(over)
        retry = RetryInfo()
        assert found is not None
        assert found.details[1].Unpack(retry)
        assert 1 <= retry.retry_delay.seconds <= 60
        # Not counted: there is no configuration yet, which is said each time.
        for _ in range(5):
            await refused(both.grpc.GetConfig(), grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
        await refused(both.grpc.StreamConfig(), grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
        await refused(both.grpc.StreamConfig(), *LIMITED)
        stranger = both.grpc.with_key("guessed")
        for _ in range(2):
            await refused(stranger.GetConfig(), *UNAUTHENTICATED)
        await refused(stranger.GetConfig(), *LIMITED)
        await refused(both.grpc.GetConfig(), grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_without_postgresql(served: Served) -> None:
    nothing = Database(NOWHERE)
    async with served_both(served, database=nothing) as both:
        for method in SERVICE.methods_by_name:
            given = batch(metric()) if method == "ReportMetrics" else None
            await refused(getattr(both.grpc, method)(given), UNAVAILABLE, "DATABASE_ERROR")
    await nothing.close()


async def test_an_answer_that_takes_too_long_is_given_up(served: Served, database: Database) -> None:
    async with served_both(served, request_seconds=0.5) as both, database.transaction() as session:
        await session.execute(text("LOCK TABLE metrics IN ACCESS EXCLUSIVE MODE"))
        late = both.grpc.ReportMetrics(batch(metric()))
        await refused(late, grpc.StatusCode.DEADLINE_EXCEEDED, "TIMEOUT")


async def test_a_callers_deadline_ends_its_call_on_the_server(both: Both, database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text("LOCK TABLE metrics IN ACCESS EXCLUSIVE MODE"))
        given = batch(metric())
        call = both.grpc.ReportMetrics(given, ("idempotency-key", "k"), timeout=0.5)
        waiting = asyncio.create_task(failed(call))
        await until_waiting(database)
        assert (await waiting).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        ended = 'grpc_requests_total{code="CANCELLED",method="/optimizer.OptimizerService/ReportMetrics"} 1.0'
        async with asyncio.timeout(10):
            while ended not in (await both.rest.get("/metrics")).text:  # noqa: ASYNC110  # the server tells nobody
                await asyncio.sleep(0.02)
    # It may have been kept all the same; the same again is no duplicate.
    assert (await both.grpc.ReportMetrics(given, ("idempotency-key", "k"))).accepted == 1
    pool = await database.pool()
    assert await pool.fetchval("SELECT count(*) FROM metrics") == 1


async def test_more_calls_than_the_server_can_have(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.grpc.calls.MAX_CALLS", 1)
    stream = both.grpc.StreamConfig()
    await stream.read()
    await refused(both.grpc.GetConfig(), UNAVAILABLE, "SERVICE_UNAVAILABLE")
    stream.cancel()
    async with asyncio.timeout(10):
        while True:
            try:
                assert (await both.grpc.GetConfig()).version == "global@1"
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.01)
