"""`StreamConfig`: the answer of `GetConfig`, pushed at each change, to a thousand streams of one process."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest_asyncio

from api.grpc.optimizer_pb2 import ConfigRequest, ConfigStreamRequest, ConfigUpdate
from domain.assignment import assigned_to_canary
from storage.database import Database
from tests.api.answers import done
from tests.api.conftest import Served
from tests.api.grpc_client import Both, Client, refused, served_both
from tests.storage.records import change, enter, first_config, make

STREAMS = 1000


@pytest_asyncio.fixture
async def both(served: Served, database: Database) -> AsyncIterator[Both]:
    await first_config(database, "global", "gpt-4o")
    async with served_both(served) as opened:
        yield opened


async def test_a_stream_begins_with_the_present_and_brings_each_change(
    both: Both, database: Database
) -> None:
    of_all = both.grpc.StreamConfig()
    of_endpoint = both.grpc.StreamConfig(ConfigStreamRequest(service="chat", endpoint="/a"))
    first = await of_all.read()
    present = await both.grpc.GetConfig()
    assert (first.version, first.config) == (present.version, present.config)
    assert abs(first.timestamp - time.time() * 1000) < 5000
    assert (await of_endpoint.read()).version == "global@1"
    await first_config(database, "mail", "other")
    for scope, model, stream in (
        ("chat", "gpt-4o-mini", of_endpoint),
        ("chat:/a", "o3", of_endpoint),
        ("global", "gpt-5", of_all),
    ):
        await first_config(database, scope, model)
        async with asyncio.timeout(10):
            assert (await stream.read()).config.model == model
    of_all.cancel()
    of_endpoint.cancel()


async def test_units_keep_their_side_of_a_rollout_until_its_watch_lapses(
    both: Both, database: Database
) -> None:
    await first_config(database, "chat", "gpt-4o")
    opened = await make(database, change("chat", "gpt-4o-mini"))
    assert opened.deployment_id is not None
    await enter(database, opened.deployment_id, 2)
    units = [f"user-{number}" for number in range(20)]
    given_canary = next(u for u in units if assigned_to_canary(opened.deployment_id, u, 50))
    given_control = next(u for u in units if not assigned_to_canary(opened.deployment_id, u, 50))
    canary, control, anybody = (
        both.grpc.StreamConfig(ConfigStreamRequest(service="chat", unit=unit))
        for unit in (given_canary, given_control, "")
    )
    assert (await _at(canary, 50)).version == "chat@2"
    assert (await _at(control, 50)).version == "chat@1"
    drawn = (await _at(anybody, 50)).version
    pool = await database.pool()
    await pool.execute("UPDATE rollouts SET watched_until = watched_until + interval '1 second'")
    assert (await anybody.read()).version == drawn, "a stream keeps its draw"
    assert (await canary.read()).rollout.control.version == "chat@1"
    # From here on nothing happens but that the time runs out.
    await pool.execute("UPDATE rollouts SET watched_until = clock_timestamp() + interval '300 ms'")
    assert (await canary.read()).version == "chat@2"
    lapsed = await canary.read()
    assert lapsed.version == "chat@1"
    assert not lapsed.HasField("rollout")
    for stream in (canary, control, anybody):
        stream.cancel()


async def _at(stream: Any, percent: float) -> ConfigUpdate:
    """The first update with this share: a stream may have begun before the rollout."""
    async with asyncio.timeout(10):
        while True:
            found: ConfigUpdate = await stream.read()
            if found.rollout.traffic_percent == percent:
                return found


async def test_a_stream_ends_with_its_key(both: Both) -> None:
    made = done(await both.rest.post("/api/v1/keys", json={"name": "app", "scopes": ["read"]}))
    stream = both.grpc.with_key(made["key"]).StreamConfig()
    await stream.read()
    other = both.grpc.StreamConfig()
    await other.read()
    (await both.rest.delete(f"/api/v1/keys/{made['id']}")).raise_for_status()
    async with asyncio.timeout(1):
        await refused(stream, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHORIZED")
    assert not other.done()
    other.cancel()


async def test_a_stream_whose_client_goes_away_is_let_go(both: Both, database: Database) -> None:
    async with grpc.aio.insecure_channel(both.target) as channel:
        await Client(channel).StreamConfig().read()
    ended = 'grpc_requests_total{code="CANCELLED",method="/optimizer.OptimizerService/StreamConfig"} 1.0'
    async with asyncio.timeout(10):
        while ended not in (await both.rest.get("/metrics")).text:  # noqa: ASYNC110  # the server tells nobody
            await asyncio.sleep(0.02)


async def test_a_thousand_streams_hear_of_a_change(both: Both, database: Database) -> None:
    async with asyncio.timeout(60):
        streams = [
            both.grpc.StreamConfig(ConfigStreamRequest(service="chat", unit=f"u-{n}"), timeout=None)
            for n in range(STREAMS)
        ]
        assert {(await stream.read()).version for stream in streams} == {"global@1"}
    # What goes on beside them is answered.
    assert (await both.grpc.GetConfig(ConfigRequest(service="chat"))).version == "global@1"
    await first_config(database, "chat", "gpt-4o-mini")
    async with asyncio.timeout(30):
        updates = await asyncio.gather(*(stream.read() for stream in streams))
    assert {update.version for update in updates} == {"chat@1"}
    for stream in streams:
        stream.cancel()
