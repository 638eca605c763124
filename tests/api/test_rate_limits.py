"""Rate limits over HTTP: one count for all replicas, by key and kind, which Redis may leave at any time."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis
from starlette.requests import Request

from api.rate_limits import RateLimiter
from domain.rate_limits import RateLimits
from infra.embedded import EmbeddedStack
from tests.api.answers import done, refused
from tests.api.conftest import CONFIG, UNLIMITED, Served
from tests.waiting import until

READ, WRITE, REPORT = "/api/v1/services", "/api/v1/services/chat", "/api/v1/metrics"
STOP, PAUSE = "/api/v1/admin/emergency-stop", "/api/v1/admin/pause"
STANDING = re.compile(r'"(\w+)";r=(\d+);t=(\d+)\Z')
MakeKey = Callable[..., Awaitable[str]]


def limits(**amounts: int) -> RateLimits:
    return UNLIMITED.model_copy(update=amounts)


@pytest_asyncio.fixture(autouse=True)
async def redis(stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Redis]:
    """Redis without a count, and a limiter patient enough for a machine that stands still for a while."""
    monkeypatch.setattr("api.rate_limits.REDIS_SECONDS", 30.0)
    async with Redis.from_url(stack.redis_url, decode_responses=True) as client:
        await client.flushall()
        yield client


async def _empty(redis: Redis) -> bool:
    return not await redis.dbsize()


def standing(answer: httpx.Response) -> tuple[str, int, int]:
    """Policy, what is left of it, and in how many seconds that grows."""
    found = STANDING.match(answer.headers["ratelimit"])
    assert found is not None, answer.headers
    return found[1], int(found[2]), int(found[3])


def limited(answer: httpx.Response, policy: str) -> None:
    error = refused(answer, 429, "RATE_LIMITED")
    assert policy in error["message"]
    name, remaining, reset = standing(answer)
    assert (name, remaining) == (policy, 0)
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert int(answer.headers["retry-after"]) == max(1, reset)


async def test_answers_tell_where_a_caller_stands(served: Served) -> None:
    async with served(rate_limits=limits(reads=6000, writes=600, reports=60000)) as client:
        first = await client.get(READ)
        assert first.headers["ratelimit-policy"] == '"reads";q=6000;w=60'
        assert standing(first) == ("reads", 5999, 60)
        assert standing(await client.get(READ))[:2] == ("reads", 5998)
        assert standing(await client.get(f"{READ}/none"))[:2] == ("reads", 5997)
        write = await client.put(WRITE, json={})
        assert (write.headers["ratelimit-policy"], standing(write)[1]) == ('"writes";q=600;w=60', 599)
        assert standing(await client.put(WRITE, json={"mode": 1}))[1] == 598
        report = await client.post(REPORT, json={"metrics": []})
        assert standing(report)[:2] == ("reports", 59999)


async def test_a_window_that_begins_now_ends_in_a_minute(stack: EmbeddedStack) -> None:
    """Also when the count is read in the very millisecond in which it began."""
    limiter = RateLimiter(limits(reads=10), stack.redis_url)
    try:
        for who in range(300):
            request = Request({"type": "http"})
            await limiter.admit(request, "reads", str(who))
            assert dict(request.state.rate_limit)[b"ratelimit"] == b'"reads";r=9;t=60'
    finally:
        await limiter.close()


async def test_each_kind_of_request_has_a_limit_of_its_own(served: Served) -> None:
    async with served(rate_limits=limits(reads=2, writes=1, reports=1)) as client:
        done(await client.put(WRITE, json={}))
        limited(await client.put(WRITE, json={}), "writes")
        limited(await client.post("/api/v1/optimize/trigger", json={}), "writes")
        limited(await client.post(PAUSE), "writes")
        done(await client.get("/api/v1/keys"))
        done(await client.get(READ))
        limited(await client.get(READ), "reads")
        done(await client.post(REPORT, json={"metrics": []}))
        limited(await client.post("/api/v1/quality", json={"evaluations": []}), "reports")


async def test_each_key_has_a_limit_of_its_own(served: Served) -> None:
    async with served(rate_limits=limits(reads=1)) as client:
        made = done(await client.post("/api/v1/keys", json={"name": "app", "scopes": ["read"]}))
        done(await client.get(READ))
        limited(await client.get(READ), "reads")
        headers = {"Authorization": f"Bearer {made['key']}"}
        done(await client.get(READ, headers=headers))
        limited(await client.get(READ, headers=headers), "reads")


async def test_replicas_share_the_count(served: Served) -> None:
    options = {"rate_limits": limits(writes=4)}
    async with served(**options) as one, served(**options) as two:
        for client, left in ((one, 3), (two, 2), (one, 1), (two, 0)):
            assert standing(await client.put(WRITE, json={}))[1] == left
        limited(await one.put(WRITE, json={}), "writes")
        limited(await two.put(WRITE, json={}), "writes")


async def test_requests_at_once_are_all_counted(served: Served) -> None:
    async with served(rate_limits=limits(reads=20)) as client:
        answers = await asyncio.gather(*(client.get(READ) for _ in range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] * 20 + [429] * 30


async def test_a_limit_is_lifted_by_time(served: Served, redis: Redis) -> None:
    async with served(rate_limits=limits(writes=2)) as client:
        for _ in range(2):
            done(await client.put(WRITE, json={}))
        limited(await client.put(WRITE, json={}), "writes")
        # Two minutes pass for what was counted.
        async for key in redis.scan_iter():
            await redis.pexpire(key, 1)
        await until(lambda: _empty(redis))
        assert standing(await client.put(WRITE, json={}))[1] == 1


async def test_without_redis_each_process_counts_by_itself_until_it_is_back(
    served: Served, stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.rate_limits.AWAY_SECONDS", 0.0)
    options = {"rate_limits": limits(writes=2)}
    async with served(**options) as one, served(**options) as two:
        for client in (one, two):
            done(await client.put(WRITE, json={}))
        limited(await one.put(WRITE, json={}), "writes")
        assert stack.redis is not None
        await stack.redis.kill()
        try:
            for client in (one, two):
                for left in (1, 0):
                    assert standing(await client.put(WRITE, json={}))[1] == left
                limited(await client.put(WRITE, json={}), "writes")
        finally:
            await stack.redis.start()
        # Its file remembers what was counted before.
        limited(await one.put(WRITE, json={}), "writes")
        async with Redis.from_url(stack.redis_url) as mended:
            await mended.flushall()
        for client, left in ((one, 1), (two, 0)):
            assert standing(await client.put(WRITE, json={}))[1] == left


async def test_a_redis_that_does_not_answer_is_not_waited_for(
    served: Served, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.rate_limits.REDIS_SECONDS", 0.2)
    async with served(rate_limits=limits(writes=2)) as client:
        done(await client.put(WRITE, json={}))
        await redis.client_pause(60_000, all=False)
        try:
            answers = [await client.put(WRITE, json={}) for _ in range(3)]
        finally:
            await redis.client_unpause()
    assert [answer.status_code for answer in answers] == [200, 200, 429]


async def test_it_works_without_any_redis(served: Served) -> None:
    async with served(redis_url=None, rate_limits=limits(reads=2)) as client:
        assert [standing(await client.get(READ))[1] for _ in range(2)] == [1, 0]
        limited(await client.get(READ), "reads")


async def test_what_keeps_applications_going_is_never_limited(served: Served) -> None:
    async with served(rate_limits=limits(reads=1, writes=1)) as client:
        update = {"config": CONFIG, "reason": "first"}
        done(await client.post("/api/v1/config/update", json=update))
        done(await client.get(READ))
        for path in (
            "/api/v1/config/current",
            # An address that takes a closer look goes by the route.
            "/api/v1/config/current?unit=a&unit=b",
            "/api/v1/config/service/chat?unit=a&unit=b",
            "/api/v1/health",
            "/livez",
            "/readyz",
            "/metrics",
            "/openapi.json",
        ):
            for _ in range(3):
                answer = await client.get(path)
                assert answer.status_code == 200, path
                assert "ratelimit" not in answer.headers
        limited(await client.get(READ), "reads")


async def test_an_emergency_stop_is_never_refused(served: Served) -> None:
    async with served(rate_limits=limits(writes=1)) as client:
        done(await client.put(WRITE, json={}))
        limited(await client.post(PAUSE), "writes")
        for _ in range(3):
            assert done(await client.post(STOP, json={"reason": "fire"}))["stopped"] is True


async def test_wrong_keys_are_limited_and_right_ones_beside_them_are_not(served: Served) -> None:
    async with served(rate_limits=limits(wrong_keys=3)) as client:
        wrong = {"Authorization": "Bearer guess"}
        for _ in range(3):
            refused(await client.get(READ, headers=wrong), 401, "UNAUTHORIZED")
        for path in (READ, "/api/v1/config/current", "/api/v1/audit"):
            answer = await client.get(path, headers=wrong)
            assert "API key" in refused(answer, 429, "RATE_LIMITED")["message"]
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        done(await client.get(READ))
        refused(await client.get(READ, headers={"Authorization": ""}), 401, "UNAUTHORIZED")


async def test_without_a_limit_nothing_is_said_of_one(client: httpx.AsyncClient) -> None:
    answer: Any = await client.get(READ)
    assert {"ratelimit", "ratelimit-policy"}.isdisjoint(answer.headers)
