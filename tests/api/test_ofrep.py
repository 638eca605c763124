"""OFREP: configurations as flags, read over plain HTTP and by OpenFeature's own providers."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import FlagNotFoundError, InvalidContextError, OpenFeatureError
from openfeature.flag_evaluation import Reason

from api.context import MAX_BODY_BYTES
from domain.assignment import assigned_to_canary
from domain.rate_limits import RateLimits
from storage import configs
from storage.database import Database
from tests.api.answers import done, eventually
from tests.api.conftest import ADMIN_KEY, Served
from tests.api.streams import streaming
from tests.node.running import HERE, node_prints
from tests.storage.records import change, config, enter, first_config, make

BULK = "/ofrep/v1/evaluate/flags"
SCRIPT = (HERE / "evaluate-flags.mjs").read_text(encoding="utf-8")


def asking(unit: str | None = None, **attributes: Any) -> dict[str, Any]:
    """A request's body."""
    context = attributes if unit is None else {"targetingKey": unit, **attributes}
    return {"context": context}


def failed(answer: httpx.Response, status: int, code: str, key: str | None = None) -> None:
    """An error in OFREP's form, and in no other."""
    body = answer.json()
    assert (answer.status_code, body["errorCode"], body.get("key")) == (status, code, key), body
    assert body["errorDetails"]
    assert set(body) <= {"key", "errorCode", "errorDetails"}
    assert answer.headers["x-request-id"]


async def split(database: Database, scope: str = "chat") -> tuple[str, str, str]:
    """A rollout at half of a scope's traffic: its id, a unit of the canary, a unit of the control."""
    opened = await make(database, change(scope, "gpt-4o-mini"))
    deployment = opened.deployment_id
    assert deployment is not None
    await enter(database, deployment, 2)
    units = [f"user {number}/&" for number in range(40)]
    canary = next(unit for unit in units if assigned_to_canary(deployment, unit, 50))
    return deployment, canary, next(u for u in units if not assigned_to_canary(deployment, u, 50))


async def shown(client: httpx.AsyncClient, version: str) -> None:
    """Wait until the server serves a version."""
    path = "/api/v1/config/service/chat"
    await eventually(client, path, lambda answer: answer["version"] == version, seconds=10)


async def evaluated(client: httpx.AsyncClient, key: str, unit: str | None = None) -> dict[str, Any]:
    return done(await client.post(f"{BULK}/{key}", json=asking(unit)))


async def test_each_flag_is_a_part_of_the_configuration(served: Served, database: Database) -> None:
    await first_config(database, "global", "gpt-4o")
    async with database.transaction() as session:
        state = await configs.lock_scope(session, "chat.v2")
        wanted = config("o3", temperature=1.0)
        await configs.apply_first(session, state, wanted, by="ada", change_type="manual", reason="first")
    async with served() as client:
        whole = await evaluated(client, "llm.chat.v2.config", "user-1")
        assert whole == {
            "key": "llm.chat.v2.config",
            "value": done(await client.get("/api/v1/config/service/chat.v2"))["config"],
            "reason": "STATIC",
            "variant": "chat.v2@1",
            "metadata": {"service": "chat.v2"},
        }
        assert (await evaluated(client, "llm.chat.v2.model"))["value"] == "o3"
        assert (await evaluated(client, "llm.chat.v2.max_tokens"))["value"] == 100
        warm = await client.post(f"{BULK}/llm.chat.v2.temperature", json=asking())
        assert '"value":1.0,' in warm.text, "a float keeps its point"
        inherited = await evaluated(client, "llm.never-heard-of.model")
        assert (inherited["value"], inherited["variant"]) == ("gpt-4o", "global@1")
        bare = done(await client.post(f"{BULK}/llm.global.model", json={}))
        assert bare["variant"] == "global@1"


async def test_a_unit_gets_its_side_of_a_rollout(served: Served, database: Database) -> None:
    await first_config(database, "chat", "gpt-4o")
    deployment, canary, control = await split(database)
    async with served() as client:
        given = await evaluated(client, "llm.chat.model", canary)
        assert (given["value"], given["variant"], given["reason"]) == ("gpt-4o-mini", "chat@2", "SPLIT")
        assert given["metadata"].keys() == {"service", "deploymentId", "trafficPercent", "watchedUntil"}
        assert (given["metadata"]["deploymentId"], given["metadata"]["trafficPercent"]) == (deployment, 50)
        kept = await evaluated(client, "llm.chat.model", control)
        assert (kept["value"], kept["variant"], kept["reason"]) == ("gpt-4o", "chat@1", "SPLIT")
        drawn = {(await evaluated(client, "llm.chat.model"))["variant"] for _ in range(60)}
        assert drawn == {"chat@1", "chat@2"}, "without a unit each answer draws"
        for _ in range(20):
            bulk = done(await client.post(BULK, json=asking()))
            assert len({flag["variant"] for flag in bulk["flags"]}) == 1, "one draw for all of a service"


async def test_all_flags_come_at_once_with_a_tag(served: Served, database: Database) -> None:
    await first_config(database, "global", "gpt-4o")
    await first_config(database, "chat", "o3")
    await first_config(database, "chat:/endpoint", "o4")
    async with served() as client:
        answer = await client.post(BULK, json=asking("user-1"))
        flags = {flag["key"]: flag for flag in done(answer)["flags"]}
        names = ("config", "model", "temperature", "max_tokens")
        assert set(flags) == {f"llm.{service}.{name}" for service in ("global", "chat") for name in names}
        for key, flag in flags.items():
            assert flag == await evaluated(client, key, "user-1")
        known = {"If-None-Match": answer.headers["etag"]}
        again = await client.post(BULK, json=asking("user-1"), headers=known)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == answer.headers["etag"]
        for told, status in ((answer.headers["etag"], 304), ('"of-another-moment"', 200)):
            event = {"flagConfigEtag": told, "flagConfigLastModified": "1771622898"}
            asked = await client.post(BULK, json=asking("user-1"), headers=known, params=event)
            assert asked.status_code == status, "what an event told of is not said to be unchanged"
        await first_config(database, "chat", "o5")
        await shown(client, "chat@2")
        changed = await client.post(BULK, json=asking("user-1"), headers=known)
        assert done(changed)["flags"][0]["variant"] == "chat@2"
        assert changed.headers["etag"] != answer.headers["etag"]


async def test_a_stream_says_when_to_ask_again(served: Served, database: Database) -> None:
    await first_config(database, "chat", "gpt-4o")
    async with served() as client:
        first = await client.post(BULK, json=asking("user 1/&"))
        (offered,) = done(first)["eventStreams"]
        assert offered["type"] == "sse"
        async with streaming(client, offered["url"]) as stream:
            await first_config(database, "chat", "o3")
            async with asyncio.timeout(1):
                told = (await stream.next()).json()
            assert told.keys() == {"type", "etag", "lastModified"}
            assert told["type"] == "refetchEvaluation"
            second = await client.post(BULK, json=asking("user 1/&"))
            assert second.headers["etag"] == told["etag"] != first.headers["etag"]
        async with streaming(client, offered["url"]) as late:
            missed = await late.next()
            assert missed.json()["etag"] == told["etag"], "what was missed is told at once"
        async with streaming(client, offered["url"], headers={"Last-Event-ID": missed.id}) as resumed:
            await first_config(database, "chat", "o4")
            assert (await resumed.next()).json()["etag"] != told["etag"], "and once"


async def test_a_stream_tells_when_a_canary_is_watched_no_more(served: Served, database: Database) -> None:
    await first_config(database, "chat", "gpt-4o")
    _, canary, _ = await split(database)
    async with served() as client:
        (offered,) = done(await client.post(BULK, json=asking(canary)))["eventStreams"]
        async with streaming(client, offered["url"]) as stream:
            pool = await database.pool()
            await pool.execute("UPDATE rollouts SET watched_until = clock_timestamp() + interval '300 ms'")
            await stream.next()
            lapsed = (await stream.next()).json()
            bulk = await client.post(BULK, json=asking(canary))
    assert bulk.headers["etag"] == lapsed["etag"]
    assert {flag["variant"] for flag in done(bulk)["flags"]} == {"chat@1"}


async def test_a_stream_ends_with_its_key(client: httpx.AsyncClient, key_with: Callable[..., Any]) -> None:
    key = await key_with("read")
    url = "/ofrep/v1/stream?targetingKey=user-1"
    async with streaming(client, url, headers={"Authorization": f"Bearer {key}"}) as stream:
        for found in done(await client.get("/api/v1/keys"))["keys"]:
            done(await client.delete(f"/api/v1/keys/{found['id']}"))
        assert await stream.rest() == []


async def test_errors_have_the_form_of_the_protocol(
    client: httpx.AsyncClient, key_with: Callable[..., Any]
) -> None:
    # Over the API, which shows at once what it has changed.
    update = {"service": "chat", "config": config("gpt-4o").to_json(), "reason": "first"}
    done(await client.post("/api/v1/config/update", json=update))
    key, post = "llm.chat.model", client.post
    for unknown in ("llm.chat.color", "llm..model", "llm.model", "other.chat.model", "llm.a b.model"):
        failed(await post(f"{BULK}/{unknown}", json=asking()), 404, "FLAG_NOT_FOUND", unknown)
    nothing = "llm.nothing-to-inherit.model"
    failed(await post(f"{BULK}/{nothing}", json=asking()), 404, "FLAG_NOT_FOUND", nothing)
    failed(await post(f"{BULK}/{key}", json=asking("")), 400, "TARGETING_KEY_MISSING", key)
    failed(await post(f"{BULK}/{key}", json={"context": {"targetingKey": 7}}), 400, "INVALID_CONTEXT", key)
    failed(await post(BULK, json={"context": "x"}), 400, "INVALID_CONTEXT")
    failed(await post(BULK, json=asking("u" * 1025)), 400, "INVALID_CONTEXT")
    json_type = {"Content-Type": "application/json"}
    failed(await post(BULK, content=b"{", headers=json_type), 400, "PARSE_ERROR")
    failed(await post(BULK, content=b"context=1"), 400, "PARSE_ERROR")
    failed(await post(f"{BULK}?other=1", json=asking()), 400, "GENERAL")
    failed(await client.get("/ofrep/v1/stream"), 400, "INVALID_CONTEXT")
    nobody = await post(BULK, json=asking(), headers={"Authorization": "Bearer wrong"})
    failed(nobody, 401, "GENERAL")
    assert nobody.headers["www-authenticate"] == "Bearer"
    ingest = {"Authorization": f"Bearer {await key_with('ingest')}"}
    failed(await post(f"{BULK}/{key}", json=asking(), headers=ingest), 403, "GENERAL", key)
    # So is what no route comes to see.
    failed(await client.get(BULK), 405, "GENERAL")
    failed(await client.post("/ofrep/v1/nothing"), 404, "GENERAL")
    failed(await post(f"{BULK}/llm.a%00b.model", json=asking()), 400, "GENERAL")
    failed(await post(BULK, json=asking("u", more="x" * MAX_BODY_BYTES)), 413, "GENERAL")


async def test_asking_for_all_flags_is_limited_and_for_one_is_not(served: Served, database: Database) -> None:
    await first_config(database, "chat", "gpt-4o")
    async with served(rate_limits=RateLimits(reports=0, reads=2, writes=0, wrong_keys=0)) as client:
        answers = [await client.post(BULK, json=asking()) for _ in range(4)]
        failed(answers[-1], 429, "GENERAL")
        assert int(answers[-1].headers["retry-after"]) >= 1
        for _ in range(5):
            await evaluated(client, "llm.chat.model")


async def test_the_python_provider_reads_every_flag(served: Served, database: Database) -> None:
    await first_config(database, "chat", "gpt-4o")
    _, canary, _ = await split(database)
    async with served() as client:
        provider = OFREPProvider(
            base_url=str(client.base_url),
            headers_factory=lambda: {"Authorization": f"Bearer {ADMIN_KEY}"},
            timeout=60,
        )
        # It blocks, and the server is in this very loop.
        read, context = asyncio.to_thread, EvaluationContext(canary, {"plan": "free"})
        model = await read(provider.resolve_string_details, "llm.chat.model", "", context)
        assert (model.value, model.variant, model.reason) == ("gpt-4o-mini", "chat@2", Reason.SPLIT)
        warmth = await read(provider.resolve_float_details, "llm.chat.temperature", 0.0, context)
        assert warmth.value == 0.5
        assert (await read(provider.resolve_integer_details, "llm.chat.max_tokens", 0)).value == 100
        whole = await read(provider.resolve_object_details, "llm.chat.config", {}, context)
        assert whole.value == config("gpt-4o-mini").to_json()
        with pytest.raises(FlagNotFoundError):
            await read(provider.resolve_string_details, "llm.chat.color", "")
        with pytest.raises(InvalidContextError):
            await read(provider.resolve_string_details, "llm.chat.model", "", EvaluationContext("u" * 2000))
        stranger = OFREPProvider(base_url=str(client.base_url), timeout=60)
        with pytest.raises(OpenFeatureError):
            await read(stranger.resolve_string_details, "llm.chat.model", "", context)


async def test_the_node_provider_reads_every_flag(served: Served, database: Database) -> None:
    await first_config(database, "chat", "gpt-4o")
    _, canary, _ = await split(database)
    async with served() as client:
        printed = await node_prints(
            "--input-type=module", "--eval", SCRIPT, str(client.base_url), ADMIN_KEY, canary
        )
    assert printed.splitlines() == [
        "gpt-4o-mini SPLIT chat@2",
        "0.5 SPLIT chat@2",
        "100 SPLIT chat@2",
        "gpt-4o-mini SPLIT chat@2",
        "fallback ERROR FLAG_NOT_FOUND",
    ]
