"""Tasks end when they are told to."""

import asyncio

from infra.embedded import EmbeddedStack
from storage import fanout
from storage.tasks import stop

SECONDS = 30


async def test_a_task_that_hears_from_redis_ends_whenever_it_is_stopped(stack: EmbeddedStack) -> None:
    redis = fanout.connect(stack.redis_url)

    async def hear() -> None:
        async with redis.pubsub(ignore_subscribe_messages=True) as heard:
            await heard.subscribe("tasks")
            while True:
                await heard.get_message(timeout=1.0)

    await redis.ping()
    for turns in range(60):
        task = asyncio.create_task(hear())
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(SECONDS):
            await stop([task])
        assert task.cancelled()
    await redis.aclose()


async def test_a_cancellation_that_is_lost_is_given_again() -> None:
    lost: list[int] = []

    async def stubborn() -> None:
        while len(lost) < 2:
            try:
                await asyncio.sleep(SECONDS)
            except asyncio.CancelledError:
                lost.append(1)
        await asyncio.sleep(SECONDS)

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(SECONDS):
        await stop([task])
    assert task.cancelled()
    assert len(lost) == 2


async def test_the_error_of_a_task_that_failed_is_not_raised() -> None:
    async def failing() -> None:
        raise ValueError("not raised")

    task = asyncio.create_task(failing())
    await asyncio.sleep(0)
    await stop([task])
    assert task.done()
