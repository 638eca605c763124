"""A canary whose server is gone: it is served to its units while it counts as watched, and no longer."""

import json
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from domain.assignment import assigned_to_canary
from tests.api.answers import done
from tests.api.conftest import CONFIG
from tests.api.sidecar.beside import Asked, faulty, http, sidecar
from tests.api.streams import streaming

CHAT, STREAM = "/api/v1/config/service/chat", "/api/v1/config/stream"
DEPLOYMENT, SHARE, WATCHED_MS = "dep_1", 25, 5_000
ARMS = {
    name: {"version": f"chat@{number}", "config": CONFIG | {"topK": number}}
    for number, name in enumerate(("control", "canary"), 1)
}


def is_canary(unit: str) -> bool:
    return assigned_to_canary(DEPLOYMENT, unit, SHARE)


async def test_a_canary_is_served_no_longer_than_it_is_watched(tmp_path: Path) -> None:
    until_ms = time.time_ns() // 1_000_000 + WATCHED_MS
    rollout = {"deploymentId": DEPLOYMENT, "trafficPercent": SHARE, "watchedUntil": until_ms, **ARMS}
    gone = False

    async def answer(asked: Asked) -> bytes:
        parts = urlsplit(asked.path)
        if gone or parts.path != CHAT:
            return b""
        arm = ARMS["canary" if is_canary(parse_qs(parts.query)["unit"][0]) else "control"]
        body = {"service": "chat", **arm, "overrides": [], "rollout": rollout}
        return http(json.dumps(body).encode())

    units = [f"user-{number}" for number in range(40)]
    canary = next(filter(is_canary, units))
    async with faulty(answer) as peer, sidecar(peer.url, tmp_path) as beside:

        async def versions() -> dict[str, str]:
            return {unit: done(await beside.get(CHAT, params={"unit": unit}))["version"] for unit in units}

        split = {unit: "chat@2" if is_canary(unit) else "chat@1" for unit in units}
        assert await versions() == split
        gone = True
        assert time.time_ns() // 1_000_000 < until_ms, "too slow to tell"
        async with streaming(beside, STREAM, params={"service": "chat", "unit": canary}) as stream:
            assert (await stream.next()).json()["version"] == "chat@2"
            # Nothing comes from the server any more.
            assert (await stream.next()).json()["version"] == "chat@1"
            late_ms = time.time_ns() // 1_000_000 - until_ms
        # Timers and clocks differ by a little.
        assert -50 < late_ms < 1000
        assert set((await versions()).values()) == {"chat@1"}
        assert "rollout" not in done(await beside.get(CHAT, params={"unit": canary}))
