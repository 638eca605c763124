"""Rate limits: counted in Redis for all replicas together, and by each process itself while Redis is away."""

import asyncio
import logging
import math
import time
from dataclasses import dataclass, replace
from typing import Any, Literal

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from starlette.requests import Request

from domain.errors import RateLimited
from domain.rate_limits import RateLimits

Policy = Literal["reports", "reads", "writes", "wrong_keys"]

REDIS_SECONDS = 0.25
AWAY_SECONDS = 1.0
CONNECTIONS = 16
_PREFIX = "llm-optimizer"
_AWAY = (RedisError, OSError, TimeoutError)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a caller stands after a request: what is left of its quota, and in how many seconds it grows."""

    policy: Policy
    quota: int
    window: int
    admitted: bool
    remaining: int
    reset: int

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """As draft-ietf-httpapi-ratelimit-headers has them."""
        return (
            (b"ratelimit-policy", f'"{self.policy}";q={self.quota};w={self.window}'.encode()),
            (b"ratelimit", f'"{self.policy}";r={self.remaining};t={self.reset}'.encode()),
        )

    def require_admitted(self) -> None:
        """Require that the request was within the quota.

        Raises:
            RateLimited: the quota is used up.
        """
        if not self.admitted:
            raise RateLimited(
                f"more than {self.quota} {self.policy} a minute", retry_after=max(1, self.reset)
            )


class RateLimiter:
    """Counts requests in sliding windows of a minute.

    Redis has a quarter of a second to answer. Once it fails to, requests are counted in memory, and one a
    second looks whether it is back.
    """

    def __init__(self, limits: RateLimits, redis_url: str | None) -> None:
        self._items: dict[Policy, RateLimitItem] = {
            policy: RateLimitItemPerMinute(amount, namespace=policy)
            for policy, amount in _amounts(limits).items()
            if amount > 0
        }
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._pool = None if redis_url is None else _pool(redis_url)
        self._shared = None if self._pool is None else _Shared(self._pool)
        self._away = False
        self._look_at = 0.0

    async def admit(self, request: Request, policy: Policy, who: str) -> None:
        """Count a request of a key's holder, and have its answer tell where that one stands.

        Raises:
            RateLimited: the quota is used up.
        """
        standing = await self.count(policy, who)
        if standing is not None:
            request.state.rate_limit = standing.headers
            standing.require_admitted()

    async def count(self, policy: Policy, who: str) -> Standing | None:
        """Count a request, and tell where its maker stands; None where there is no limit."""
        item = self._items.get(policy)
        if item is None:
            return None
        if self._shared is not None and self._is_due():
            try:
                standing = await self._shared.hit(policy, item, who)
            except _AWAY as error:
                self._stay_away(error)
            else:
                self._away = False
                return standing
        return await _hit(self._local, policy, item, who)

    async def admit_wrong_key(self, address: str) -> None:
        """Count a request with an unknown key against its client's address, in this process alone.

        A right key from the same address goes on: many clients may share a proxy's, and keys are too long
        to be guessed. What this bounds is what the others can make the server do.

        Raises:
            RateLimited: there were too many.
        """
        item = self._items.get("wrong_keys")
        if item is not None and not await self._local.hit(item, address):
            reset, _ = await self._local.get_window_stats(item, address)
            raise RateLimited(
                "too many requests with an unknown API key", retry_after=max(1, _seconds_until(reset))
            )

    async def close(self) -> None:
        """Let the connections go."""
        if self._pool is not None:
            await self._pool.aclose()

    def _is_due(self) -> bool:
        """Whether to ask Redis. While it is away the first to come after a while looks for all."""
        if not self._away:
            return True
        now = time.monotonic()
        if now < self._look_at:
            return False
        self._look_at = now + AWAY_SECONDS
        return True

    def _stay_away(self, error: BaseException) -> None:
        if not self._away:
            why = str(error) or type(error).__name__
            log.warning("Redis does not answer; rate limits are counted per process: %s", why)
        self._away, self._look_at = True, time.monotonic() + AWAY_SECONDS


class _Shared:
    """The count in Redis, to which all of a caller's requests that come at once go together.

    While one trip is under way, those who come wait for the next: a trip costs more than many a request.
    """

    def __init__(self, pool: BlockingConnectionPool) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(_storage(pool))
        self._waiting: dict[tuple[Policy, str], list[asyncio.Future[Standing]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def hit(self, policy: Policy, item: RateLimitItem, who: str) -> Standing:
        """Count a request.

        Raises:
            RedisError, OSError, TimeoutError: Redis is away.
        """
        standing: asyncio.Future[Standing] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get((policy, who))
        if waiting is not None:
            waiting.append(standing)
        else:
            self._waiting[policy, who] = [standing]
            task = asyncio.create_task(self._travel(policy, item, who))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await standing

    async def _travel(self, policy: Policy, item: RateLimitItem, who: str) -> None:
        while together := self._waiting[policy, who]:
            self._waiting[policy, who] = []
            try:
                async with asyncio.timeout(REDIS_SECONDS):
                    standings = await self._count(policy, item, who, len(together))
            except Exception as error:
                for future in together:
                    if not future.done():
                        future.set_exception(error)
            else:
                for future, standing in zip(together, standings, strict=True):
                    if not future.done():
                        future.set_result(standing)
        del self._waiting[policy, who]

    async def _count(self, policy: Policy, item: RateLimitItem, who: str, requests: int) -> list[Standing]:
        """Where the caller stands after each of its requests."""
        last = await _hit(self._limiter, policy, item, who, requests)
        if last.admitted:
            return [replace(last, remaining=last.remaining + after) for after in reversed(range(requests))]
        if requests == 1:
            return [last]
        # There is room for some at most.
        return [await _hit(self._limiter, policy, item, who) for _ in range(requests)]


async def _hit(
    limiter: SlidingWindowCounterRateLimiter,
    policy: Policy,
    item: RateLimitItem,
    who: str,
    requests: int = 1,
) -> Standing:
    """Count requests, all or none."""
    admitted = await limiter.hit(item, who, cost=requests)
    at, remaining = await limiter.get_window_stats(item, who)
    reset = _seconds_until(at)
    if not reset and admitted and remaining + requests == item.amount:
        # Asked within a new window's first millisecond, the library says that it ends now.
        reset = item.get_expiry()
    return Standing(policy, item.amount, item.get_expiry(), admitted, remaining, reset)


def _seconds_until(at: float) -> int:
    return max(0, math.ceil(at - time.time()))


def _amounts(limits: RateLimits) -> dict[Policy, int]:
    return {
        "reports": limits.reports,
        "reads": limits.reads,
        "writes": limits.writes,
        "wrong_keys": limits.wrong_keys,
    }


def _pool(url: str) -> BlockingConnectionPool:
    pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=REDIS_SECONDS,
        socket_connect_timeout=REDIS_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    return pool


def _storage(pool: BlockingConnectionPool) -> RedisStorage:
    # The address is the pool's; this one only says that it is a Redis.
    options: dict[str, Any] = {"connection_pool": pool}
    return RedisStorage("async+redis://", implementation="redispy", key_prefix=_PREFIX, **options)
