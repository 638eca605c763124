"""The conformance scenario while the API server is killed again and again: no report lost, none double."""

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path
from random import Random

import httpx
import pytest

from infra import ports
from infra.embedded import EmbeddedStack
from tests.chaos.processes import API_KEY, Process, worker_process
from tests.chaos.test_ingest import up
from tests.conformance.checks import (
    counted,
    require_configs,
    require_counted,
    require_short,
    require_total,
)
from tests.conformance.participants import PARTICIPANTS
from tests.conformance.playing import Addresses, Pace, available, play
from tests.conformance.scenario import begin
from tests.sdks.tools import need
from tests.waiting import until

pytestmark = pytest.mark.alone

KILLS = int(os.environ.get("CONFORMANCE_KILLS", "3"))
SEED = int(os.environ.get("CONFORMANCE_SEED", "7"))
PACE_SECONDS = 0.1
# How many kills find a server that may not have come up yet.
EARLY = 0.25


async def kill_at_random(process: Process, server: httpx.AsyncClient, pace: Pace) -> None:
    """Kill the server and start it again, so many times; it is `enough` once it is back for good."""
    random = Random(SEED)

    async def back() -> bool:
        process.require_alive()
        with suppress(httpx.TransportError):
            return (await server.get("/readyz")).status_code == 200
        return False

    await pace.under_way.wait()
    for _ in range(KILLS):
        if random.random() >= EARLY:
            await until(back)
        await asyncio.sleep(random.uniform(0, 6))
        process.require_alive()
        await process.kill()
        await asyncio.sleep(random.uniform(0, 1))
        await process.start()
    await until(back)
    pace.enough.set()


@pytest.mark.usefixtures("database")
async def test_killing_the_server_loses_no_report_and_shows_nobody_an_error(
    stack: EmbeddedStack, tmp_path: Path
) -> None:
    api_port, grpc_port = ports.choose(None), ports.choose(None)
    address = Addresses(f"http://127.0.0.1:{api_port}", f"127.0.0.1:{grpc_port}", API_KEY)
    options = ("serve", "--port", str(api_port), "--grpc-port", str(grpc_port))
    api = Process(stack, tmp_path / "api.log", *options)
    headers = {"Authorization": f"Bearer {API_KEY}"}
    since = time.time_ns() // 1_000_000 - 60_000
    participants = available(PARTICIPANTS)
    try:
        await api.start()
        async with (
            worker_process(stack, tmp_path),
            httpx.AsyncClient(base_url=address.api, headers=headers, timeout=30) as server,
        ):
            await up(server)
            rollout = await begin(server)
            pace = Pace(PACE_SECONDS)
            async with asyncio.TaskGroup() as group:
                playing = group.create_task(play(participants, address, tmp_path, pace))
                group.create_task(kill_at_random(api, server, pace))
            played = playing.result()
            certain = sum(len(one.calls) - len(one.uncertain) for one in played.values())
            found = await counted(server, since, certain)
    finally:
        await api.kill()
    fallen_back = [answer for one in played.values() for _, answer in one.calls if answer["version"] is None]
    assert fallen_back, "nobody has missed the server"
    for participant in participants:
        done = played[participant.name]
        require_configs(participant, done, rollout, away=True)
        require_short(participant, done)
        require_counted(participant, done, found)
    require_total(played, found)
    # Who cannot be built here took no part.
    need(*{tool for participant in PARTICIPANTS for tool in participant.needs})
