"""Reads answered where they arrive: as the routes would, for whatever address, in any company."""

import re

import httpx
import pytest
import pytest_asyncio

from api import auth
from api.auth import Authenticator
from api.configs import reader
from api.configs.reader import ConfigReader
from bench.canaries import CANARY, open_canary, serve_control
from storage import keys
from storage.database import Database
from storage.snapshot import LiveSnapshot
from tests.api.answers import done, eventually, refused
from tests.api.conftest import ADMIN_KEY, CONFIG
from tests.api.wire import get, wire

CURRENT, CHAT = "/api/v1/config/current", "/api/v1/config/service/chat"
# A body, though empty, is left to the routes.
BY_ROUTE = "Content-Length: 0\r\n"
MANY = 50_000
ADDRESSES = [
    *(f"{CHAT}?unit={unit}" for unit in ("a", "b", "", "a%20b", "a+b", "%C3%BC", "%FF", "a=b", "unit=c")),
    *(f"{CHAT}?unit={'x' * length}" for length in (1023, 1024, 1025, 9000)),
    *(f"{CHAT}?unit={'%C3%BC' * length}" for length in (1024, 1025)),
    f"{CHAT}?unit=a&endpoint=/e",
    f"{CHAT}?endpoint=/e&unit=b",
    f"{CHAT}?endpoint=unit=a&unit=b",
    f"{CHAT}?endpoint=a&unit=b&unit=c",
    f"{CHAT}?endpoint=&unit=a",
    f"{CHAT}?unit=a&unit=b",
    f"{CHAT}?unit=b#unit=a",
    f"{CHAT}?unit=a&x=1",
    f"{CHAT}?unit=a&",
    f"{CHAT}?Unit=a",
    f"{CHAT}?xunit=a",
    f"{CHAT}&unit=a",
    f"{CURRENT}?unit=a",
    f"{CURRENT}?endpoint=/e&unit=a",
    CURRENT,
    f"{CURRENT}?",
    f"{CURRENT}/",
    f"{CURRENT}&unit=a",
    "/api/v1/config/service/ch%61t?unit=b",
    "/api/v1/config/service/unit=a?unit=b",
    "/api/v1/config/service/?unit=a",
    "/api/v1/config/service/a/b?unit=a",
    "/api/v1/config/service/%00?unit=b",
    "http://elsewhere/api/v1/config/service/chat?unit=b",
]


@pytest_asyncio.fixture
async def rolling(client: httpx.AsyncClient, database: Database) -> httpx.AsyncClient:
    """A client of a server where half of chat's units get a canary."""
    done(await client.post("/api/v1/config/update", json={"config": CONFIG, "reason": "first"}))
    await open_canary(database, "chat", step=2)
    await eventually(client, CHAT, lambda answer: answer.get("rollout", {}).get("trafficPercent") == 50)
    return client


async def test_any_address_is_answered_as_by_its_route(rolling: httpx.AsyncClient) -> None:
    statuses = set()
    async with wire(rolling.base_url) as connection:
        for address in ADDRESSES:
            first, routed, again = [
                await connection.ask(get(address, more=more)) for more in ("", BY_ROUTE, "")
            ]
            assert first.status_code == routed.status_code == again.status_code, address
            statuses.add(first.status_code)
            if first.is_success:
                assert first.content == routed.content == again.content, address
                for name in ("etag", "content-type", "content-length"):
                    assert first.headers[name] == routed.headers[name]
            else:
                refused(first, first.status_code, routed.json()["error"]["code"])
    assert statuses == {200, 400, 404}


@pytest.mark.parametrize("query", ["", "?"])
async def test_without_a_unit_each_read_draws(rolling: httpx.AsyncClient, query: str) -> None:
    # That 64 draws by halves do not differ happens once in 10^19 runs.
    async with wire(rolling.base_url) as connection:
        answers = [await connection.ask(get(CHAT + query)) for _ in range(64)]
    assert {done(answer)["config"]["model"] for answer in answers} == {"gpt-4o", CANARY}


async def test_answers_keep_the_order_of_requests_sent_at_once(rolling: httpx.AsyncClient) -> None:
    quick, slow = (CURRENT, f"{CHAT}?unit=b"), ("/api/v1/services", "/api/v1/nothing")
    targets = [quick[0], quick[1], slow[0], quick[0], slow[1], slow[0], quick[1]]
    requests = [get(target, more=f"X-Request-Id: {number}\r\n") for number, target in enumerate(targets)]
    expected = [(str(number), 404 if target == slow[1] else 200) for number, target in enumerate(targets)]
    for cut in (len(b"".join(requests)), 1, 150):
        sent = b"".join(requests)
        async with wire(rolling.base_url) as connection:
            for at in range(0, len(sent), cut):
                await connection.send(sent[at : at + cut])
            answers = [await connection.answer() for _ in targets]
        assert [(answer.headers["x-request-id"], answer.status_code) for answer in answers] == expected


async def test_an_answer_has_an_id_a_date_and_the_connection_goes_on(rolling: httpx.AsyncClient) -> None:
    async with wire(rolling.base_url) as connection:
        fresh = [await connection.ask(get(CURRENT)) for _ in range(2)]
        assert all(re.fullmatch("req_[0-9a-f]{24}", answer.headers["x-request-id"]) for answer in fresh)
        assert fresh[0].headers["x-request-id"] != fresh[1].headers["x-request-id"]
        assert all(answer.headers["date"].endswith(" GMT") for answer in fresh)
        bad = await connection.ask(get(CURRENT, more="X-Request-Id: a b\r\n"))
        assert bad.headers["x-request-id"].startswith("req_")
        etag = fresh[0].headers["etag"]
        unchanged = await connection.ask(get(CURRENT, more=f"If-None-Match: {etag}\r\n"))
        assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", etag)
        assert "content-type" not in unchanged.headers
        last = await connection.ask(get(CURRENT, more="Connection: close\r\n"))
        assert (last.status_code, last.headers["connection"]) == (200, "close")
        assert await connection.ended() == b""


async def test_other_methods_and_versions_are_left_to_the_routes(rolling: httpx.AsyncClient) -> None:
    refused(await rolling.delete(CURRENT), 405, "INVALID_REQUEST")
    async with wire(rolling.base_url) as connection:
        old = await connection.ask(get(CURRENT).replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert (done(old)["version"], old.headers["connection"]) == ("global@1", "close")
        assert await connection.ended() == b""


async def test_a_key_must_be_known_and_may_read(rolling: httpx.AsyncClient, database: Database) -> None:
    for header in ({}, {"Authorization": "Bearer none"}, {"Authorization": f"Basic {ADMIN_KEY}"}):
        request = httpx.Request("GET", rolling.base_url.join(CURRENT), headers=header)
        refused(await rolling.send(request), 401, "UNAUTHORIZED")
    made = {"name": "app", "scopes": ["ingest"]}
    key = done(await rolling.post("/api/v1/keys", json=made))["key"]
    refused(await rolling.get(CURRENT, headers={"Authorization": f"Bearer {key}"}), 403, "FORBIDDEN")
    for spelt in (f"bearer {ADMIN_KEY}", f"Bearer  {ADMIN_KEY}"):
        done(await rolling.get(CURRENT, headers={"Authorization": spelt}))


async def test_reads_are_counted(rolling: httpx.AsyncClient) -> None:
    async def counted(status: int) -> float:
        told = (await rolling.get("/metrics")).text
        found = re.search(
            rf'^llm_optimizer_config_reads_total{{status="{status}"}} (\S+)$', told, re.MULTILINE
        )
        assert found is not None
        return float(found[1])

    found, unchanged = await counted(200), await counted(304)
    etag = (await rolling.get(CURRENT)).headers["etag"]
    for _ in range(2):
        await rolling.get(CURRENT, headers={"If-None-Match": etag})
    assert (await counted(200), await counted(304)) == (found + 1, unchanged + 2)


async def test_what_is_remembered_is_bounded(database: Database) -> None:
    await serve_control(database, "global")
    await open_canary(database, "chat", step=2)
    async with database.transaction() as session:
        _, key = await keys.create_key(session, name="app", scopes=["read"])
    snapshot = LiveSnapshot(database)
    await snapshot.refresh()
    await snapshot.close()
    configs, holders = ConfigReader(snapshot), Authenticator(snapshot, ADMIN_KEY)
    most = {"answers": 0, "addresses": 0, "holders": 0}
    for number in range(MANY):
        unit, service = f"user-{number}", f"/api/v1/config/service/s{number}"
        for address in (f"{CHAT}?unit={unit}", f"{CHAT}?unit={unit}&endpoint=/e", service):
            assert configs.read_address(address.encode()) is not None
        assert holders.from_header(b"Bearer unknown-%d" % number) is None
        assert holders.from_header(b"Bearer " + b" " * number + key.encode()) is not None
        for name, kept in (
            ("answers", configs._answers),
            ("addresses", configs._by_address),
            ("holders", holders._remembered),
        ):
            most[name] = max(most[name], len(kept))
    # Units at the end of an address, unknown keys and padded headers are not kept at all.
    assert most["answers"] == reader.CACHED_ANSWERS
    assert most["addresses"] <= reader.CACHED_ADDRESSES
    assert most["holders"] <= auth.MAX_REMEMBERED_BYTES
    rendered = {id(one.alone) for one in configs._answers.values()}
    assert {id(one.alone) for one, _ in configs._by_address.values()} <= rendered
