"""The sidecar of a real server: it answers as the server does, and goes on without it."""

import asyncio
import json
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from llm_auto_optimizer import OptimizerClient

from api.sidecar import configs
from api.sidecar.spool import Spool
from domain.assignment import assigned_to_canary
from infra import ports
from storage.database import Database
from tests.api.answers import done, eventually, refused
from tests.api.conftest import CONFIG, Served
from tests.api.sidecar.beside import AMPLE, sidecar, spooled
from tests.api.streams import streaming
from tests.api.test_reports import METRICS, QUALITY, count, evaluation, metric
from tests.chaos.proxy import proxy_to
from tests.storage.records import change, enter, first_config, make
from tests.waiting import until

CURRENT, CHAT, STREAM = "/api/v1/config/current", "/api/v1/config/service/chat", "/api/v1/config/stream"


async def test_configurations_are_the_servers_own_to_the_byte(
    client: httpx.AsyncClient, database: Database, tmp_path: Path
) -> None:
    await first_config(database, "global", "gpt-4o")
    await first_config(database, "chat", "o3")
    await eventually(client, CHAT, lambda body: body["version"] == "chat@1")
    async with sidecar(str(client.base_url), tmp_path) as beside:
        for path in (CURRENT, CHAT, f"{CHAT}?endpoint=/a", "/api/v1/config/service/global"):
            theirs, ours = await client.get(path), await beside.get(path)
            assert (ours.status_code, ours.content) == (200, theirs.content)
            assert ours.headers["etag"] == theirs.headers["etag"]
            unchanged = await beside.get(path, headers={"If-None-Match": ours.headers["etag"]})
            assert (unchanged.status_code, unchanged.content) == (304, b"")
        for path, status, code in (
            (f"{CHAT}?other=x", 400, "INVALID_REQUEST"),
            (f"{CURRENT}?unit={'u' * 1025}", 400, "INVALID_REQUEST"),
            ("/api/v1/config/service/global?endpoint=/a", 400, "INVALID_REQUEST"),
            ("/api/v1/services", 404, "NOT_FOUND"),
        ):
            refused(await beside.get(path), status, code)


async def test_both_arms_of_a_rollout_are_handed_out_by_unit_and_a_change_comes_within_a_second(
    client: httpx.AsyncClient, database: Database, tmp_path: Path
) -> None:
    await first_config(database, "global", "gpt-4o")
    await first_config(database, "chat", "o3")
    await eventually(client, CHAT, lambda body: body["version"] == "chat@1")
    async with sidecar(str(client.base_url), tmp_path, service="chat") as beside:
        assert done(await beside.get(CHAT))["version"] == "chat@1"
        async with streaming(beside, STREAM, params={"service": "chat", "unit": "u"}) as stream:
            assert (await stream.next()).json()["version"] == "chat@1"
            opened = await make(database, change("chat", "gpt-4o-mini"))
            deployment = opened.deployment_id
            assert deployment is not None
            began = time.monotonic()
            await enter(database, deployment, 1)
            while (await stream.next()).json()["rollout"]["trafficPercent"] != 25:
                pass
            assert time.monotonic() - began < 1
        seen = set()
        for number in range(40):
            unit = f"user-{number}"
            theirs = await client.get(CHAT, params={"unit": unit})
            ours = await beside.get(CHAT, params={"unit": unit})
            assert (ours.content, ours.headers["etag"]) == (theirs.content, theirs.headers["etag"])
            expected = "chat@2" if assigned_to_canary(deployment, unit, 25) else "chat@1"
            own = done(await beside.get(CURRENT, params={"unit": unit}))
            assert own["version"] == done(ours)["version"] == expected
            assert own.keys() == {"version", "config", "appliedAt", "appliedBy", "rollout"}
            seen.add(expected)
        assert seen == {"chat@1", "chat@2"}
        assert {done(await beside.get(CHAT))["version"] for _ in range(100)} == seen
        pool = await database.pool()
        await pool.execute("UPDATE rollouts SET watched_until = clock_timestamp() + interval '300 ms'")
        canary = next(u for u in map(str, range(100)) if assigned_to_canary(deployment, u, 25))
        lapsed = await eventually(beside, CHAT, lambda body: "rollout" not in body, params={"unit": canary})
    assert lapsed["version"] == "chat@1"


async def test_without_its_server_it_serves_the_last_configuration_after_a_restart_too(
    client: httpx.AsyncClient, database: Database, tmp_path: Path
) -> None:
    await first_config(database, "global", "gpt-4o")
    opened = await make(database, change("chat", "o3"))
    assert opened.deployment_id is not None
    await enter(database, opened.deployment_id, 2)
    await eventually(client, CHAT, lambda body: "rollout" in body)
    port = ports.choose(None)
    target = urlsplit(str(client.base_url)).netloc
    async with proxy_to(target, port=port), sidecar(f"http://127.0.0.1:{port}", tmp_path) as beside:
        assert "rollout" in done(await beside.get(CHAT))
        current = done(await beside.get(CURRENT))
        assert done(await beside.get("/api/v1/health"))["status"] == "healthy"
    async with sidecar(f"http://127.0.0.1:{port}", tmp_path) as beside:
        assert done(await beside.get(CURRENT)) == current
        # Nobody knows whether the canary is watched still.
        again = done(await beside.get(CHAT, params={"unit": "u"}))
        assert (again["version"], "rollout" in again) == ("global@1", False)
        refused(await beside.get("/api/v1/config/service/mail"), 503, "SERVICE_UNAVAILABLE")
        health = done(await beside.get("/api/v1/health"))
        assert (health["status"], [check["healthy"] for check in health["checks"]]) == (
            "degraded",
            [False, True],
        )
        status = done(await beside.get("/api/v1/status"))
        assert (status["mode"], status["controlLoop"]["state"]) == ("sidecar", "ERROR")
        assert done(await beside.get("/readyz")) == done(await beside.get("/livez")) == {"status": "ok"}
        async with proxy_to(target, port=port):
            await eventually(beside, CHAT, lambda body: "rollout" in body)
            await eventually(beside, "/api/v1/status", lambda body: body["controlLoop"]["state"] != "ERROR")


async def test_whoever_asks_first_has_the_server_asked(
    client: httpx.AsyncClient, database: Database, tmp_path: Path
) -> None:
    await first_config(database, "global", "gpt-4o")
    port = ports.choose(None)
    async with sidecar(f"http://127.0.0.1:{port}", tmp_path) as beside:
        # Time for it to have asked in vain, and to pause for longer and longer.
        await asyncio.sleep(3)
        async with proxy_to(urlsplit(str(client.base_url)).netloc, port=port):
            assert done(await beside.get(CURRENT))["version"] == "global@1"


async def test_a_server_that_comes_later_is_asked_as_soon_as_somebody_asks(
    client: httpx.AsyncClient, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configs, "AGAIN_SECONDS", 0.2)
    await first_config(database, "global", "gpt-4o")
    port = ports.choose(None)
    async with sidecar(f"http://127.0.0.1:{port}", tmp_path) as beside:
        for _ in range(5):
            refused(await beside.get(CURRENT), 503, "SERVICE_UNAVAILABLE")
            await asyncio.sleep(0.3)
        async with proxy_to(urlsplit(str(client.base_url)).netloc, port=port):
            await asyncio.sleep(0.3)
            assert done(await beside.get(CURRENT))["version"] == "global@1"


async def test_what_is_followed_no_more_is_kept_no_more(
    client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configs, "MAX_SCOPES", 3)
    done(await client.post("/api/v1/config/update", json={"config": CONFIG, "reason": "first"}))
    async with sidecar(str(client.base_url), tmp_path) as beside:
        for endpoint in ("/a", "/b", "/a", "/c"):
            done(await beside.get(CHAT, params={"endpoint": endpoint}))
        address = str(client.base_url).rstrip("/")
    spool = Spool(tmp_path / "spool.db", AMPLE)
    kept = {(service, endpoint) for service, endpoint, _ in spool.configs(address)}
    spool.close()
    assert kept == {("", ""), ("chat", "/a"), ("chat", "/c")}


async def test_nothing_configured_is_not_found_until_there_is_something(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    async with sidecar(str(client.base_url), tmp_path) as beside:
        refused(await beside.get(CURRENT), 404, "NOT_FOUND")
        refused(await beside.get(STREAM), 404, "NOT_FOUND")
        done(await client.post("/api/v1/config/update", json={"config": CONFIG, "reason": "first"}))
        assert done(await beside.get(CURRENT))["version"] == "global@1"


async def test_reports_are_judged_as_the_server_judges_them(
    client: httpx.AsyncClient, database: Database, tmp_path: Path
) -> None:
    batch = {"metrics": [metric(), metric(latencyMs=-1), metric(costUsd=None), metric(service="global"), 7]}
    scores = {"evaluations": [evaluation(), evaluation(overallScore=101)]}
    async with sidecar(str(client.base_url), tmp_path) as beside:
        for path, body in ((METRICS, batch), (QUALITY, scores), (f"{METRICS}?ack=buffer", batch)):
            theirs, ours = await client.post(path, json=body), await beside.post(path, json=body)
            assert done(ours) == done(theirs)
        as_json = {"Content-Type": "application/json"}
        for text in ("[]", '{"metrics": 1}', "{", '{"metrics": [], "x": 1}'):
            error = refused(await beside.post(METRICS, content=text, headers=as_json), 400, "INVALID_REQUEST")
            theirs = await client.post(METRICS, content=text, headers=as_json)
            assert error == refused(theirs, 400, "INVALID_REQUEST")
        plain = await beside.post(METRICS, content=json.dumps(batch), headers={"Content-Type": "text/plain"})
        refused(plain, 415, "INVALID_REQUEST")

        async def all_there() -> bool:
            return await count(database, "metrics") == 8 and await count(database, "quality") == 2

        await until(all_there)

        async def delivered() -> bool:
            return (await spooled(beside))["delivered"] == 5

        await until(delivered)
        assert (await spooled(beside))["items"] == 0
        found = (await beside.get("/metrics")).text
    assert 'llm_optimizer_sidecar_reports_total{outcome="delivered"} 5.0' in found


async def test_a_callers_retry_is_no_duplicate(
    client: httpx.AsyncClient, database: Database, tmp_path: Path
) -> None:
    batch, other = {"metrics": [metric(), metric(latencyMs=-1)]}, {"metrics": [metric(), metric()]}
    once = {"Idempotency-Key": "once"}
    async with sidecar(str(client.base_url), tmp_path) as beside:
        first = done(await beside.post(METRICS, json=batch, headers=once))
        assert done(await beside.post(METRICS, json=batch, headers=once)) == first
        refused(await beside.post(METRICS, json=other, headers=once), 409, "CONFLICT")
    async with sidecar(str(client.base_url), tmp_path) as beside:
        assert done(await beside.post(METRICS, json=batch, headers=once)) == first
    # It was delivered before the first sidecar ended.
    assert await count(database, "metrics") == 1


async def test_it_answers_to_this_machine_alone_and_takes_no_key_for_its_own(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    async with sidecar(str(client.base_url), tmp_path, key="wrong") as beside:
        error = refused(await beside.get(CURRENT), 503, "SERVICE_UNAVAILABLE")
        assert "the sidecar's key" in error["message"]
        done(await beside.post(METRICS, json={"metrics": [metric()]}))
        for name in ("evil.example", "localhost.evil.example:9090", ""):
            refused(await beside.get("/livez", headers={"Host": name}), 403, "FORBIDDEN")
        for name in ("localhost:9090", "LOCALHOST", "[::1]:9090", "127.0.0.1"):
            done(await beside.get("/livez", headers={"Host": name}))
    # Kept for whoever mends the key.
    async with sidecar(str(client.base_url), tmp_path) as beside:

        async def delivered() -> bool:
            return (await spooled(beside))["delivered"] == 1

        await until(delivered, 30)


@pytest.mark.parametrize("ack", ["", "?ack=commit", "?ack=buffer"])
async def test_reports_wait_on_disk_while_the_server_is_away(
    served: Served, database: Database, tmp_path: Path, ack: str
) -> None:
    port = ports.choose(None)
    address = f"http://127.0.0.1:{port}"
    async with sidecar(address, tmp_path) as beside:
        for _ in range(3):
            done(await beside.post(METRICS + ack, json={"metrics": [metric()] * 10}))
            done(await beside.post(QUALITY + ack, json={"evaluations": [evaluation()]}))
        waiting = await spooled(beside)
        assert (waiting["items"], waiting["accepted"], waiting["delivered"]) == (33, 33, 0)
    async with (
        served() as client,
        proxy_to(urlsplit(str(client.base_url)).netloc, port=port),
        sidecar(address, tmp_path) as beside,
    ):

        async def delivered() -> bool:
            return (await spooled(beside))["items"] == 0

        await until(delivered, 30)
        assert (await count(database, "metrics"), await count(database, "quality")) == (30, 3)


async def test_an_sdk_needs_no_more_than_the_address(
    served: Served, database: Database, tmp_path: Path
) -> None:
    async with served() as client, sidecar(str(client.base_url), tmp_path) as beside:
        done(await client.post("/api/v1/config/update", json={"config": CONFIG, "reason": "first"}))
        seen = await asyncio.to_thread(_as_an_application, str(beside.base_url))
        assert seen == CONFIG["model"]

        async def reported() -> bool:
            return await count(database, "metrics") == 20

        await until(reported, 30)


def _as_an_application(address: str) -> str:
    with OptimizerClient(endpoint=address) as sdk:
        for _ in range(20):
            with sdk.track_request(service="chat", endpoint="/") as tracker:
                assert tracker.config.model == CONFIG["model"]
                tracker.set_tokens(input=1, output=2)
        assert sdk.flush(30)
        assert sdk.dropped_reports == 0
        return sdk.get_config("chat").model
