"""The spool by itself, and with a server that is none."""

import asyncio
import itertools
import json
import sqlite3
from pathlib import Path

import pytest

from api.sidecar import configs
from api.sidecar.delivery import KEY_LIFE_MS
from api.sidecar.spool import (
    CHUNK_BYTES,
    DELIVERY_ITEMS,
    Bounds,
    Chunk,
    InUse,
    Spool,
    Taken,
    chunks_of,
)
from api.sidecar.writer import Writer
from domain.errors import Conflict, RateLimited
from domain.idempotency import Answer, Claim
from tests.api.answers import done, refused
from tests.api.sidecar.beside import AMPLE, Asked, faulty, http, sidecar, spooled
from tests.api.test_reports import METRICS, metric
from tests.waiting import until

AT = 1_800_000_000_000
CURRENT = "/api/v1/config/current"


def batch(items: int, key: str | None = None, at_ms: int = AT, size: int = 4) -> Taken:
    claim = None if key is None else Claim("", key, f"of {items}")
    chunks = chunks_of("metrics", [b'"%b"' % (b"x" * (size - 2))] * items)
    return Taken(chunks, Answer(200, {"accepted": items, "rejected": 0}), claim, at_ms)


def ruins(folder: Path) -> list[Path]:
    return list(folder.glob("spool.db.broken-*"))


def test_a_delivery_keeps_its_key_and_its_body_until_it_is_finished(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", AMPLE)
    assert spool.next_delivery(AT) is None
    spool.take([batch(2), batch(1)])
    first = spool.next_delivery(AT)
    assert first is not None
    assert (first.body, first.items, first.uncertain_since) == (b'{"metrics":["xx","xx","xx"]}', 3, AT)
    spool.take([batch(4)])
    spool.close()
    spool = Spool(tmp_path / "spool.db", AMPLE)
    assert spool.next_delivery(AT + 1) == first
    spool.mark_uncertain(first, None)
    assert (spool.items, spool.next_delivery(AT)) != (7, first)
    spool.finish(first)
    second = spool.next_delivery(AT)
    assert second is not None
    assert (second.items, second.key != first.key) == (4, True)
    spool.finish(second)
    assert (spool.items, spool.bytes, spool.next_delivery(AT)) == (0, 0, None)
    spool.close()


def test_deliveries_are_of_one_kind_and_bounded(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", AMPLE)
    scores = Taken([Chunk("evaluations", 1, b"2")], Answer(200, {}), None, AT)
    spool.take(
        [batch(DELIVERY_ITEMS - 1), batch(1), batch(1), scores, batch(1, size=5 * CHUNK_BYTES), batch(1)]
    )
    found = []
    while (delivery := spool.next_delivery(AT)) is not None:
        assert json.loads(delivery.body)[delivery.kind]
        found.append((delivery.kind, delivery.items))
        spool.finish(delivery)
    assert found == [
        ("metrics", DELIVERY_ITEMS),
        ("metrics", 1),
        ("evaluations", 1),
        ("metrics", 1),
        ("metrics", 1),
    ]
    spool.close()


def test_what_finds_no_room_is_refused_whole_and_the_rest_is_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", Bounds(items=5, bytes=100))
    kept, full, fits, large = spool.take([batch(4), batch(2, "k"), batch(1), batch(1, size=200)])
    assert isinstance(kept, Answer)
    assert isinstance(fits, Answer)
    assert isinstance(full, RateLimited)
    assert isinstance(large, RateLimited)
    assert spool.items == 5
    delivery = spool.next_delivery(AT)
    assert delivery is not None
    spool.finish(delivery)
    # A refusal is no answer to be given again.
    assert isinstance(spool.take([batch(2, "k")])[0], Answer)
    spool.close()


def test_a_key_holds_for_a_day(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", AMPLE)
    first, again, other = spool.take([batch(1, "k"), batch(1, "k"), batch(2, "k")])
    assert first == again
    assert isinstance(other, Conflict)
    later = spool.take([batch(2, "k", AT + 25 * 3_600_000)])[0]
    assert isinstance(later, Answer)
    assert spool.items == 3
    spool.close()


async def test_one_process_has_it_and_ruins_are_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = Spool(path, AMPLE)
    other = sqlite3.connect(path, timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("SELECT * FROM chunks")
    other.close()
    spool.close()
    path.write_bytes(b"no database" * 1000)
    writer = await Writer.open(path, AMPLE)
    assert await writer.take(batch(1)) == Answer(200, {"accepted": 1, "rejected": 0})
    await writer.close()
    assert len(ruins(tmp_path)) == 1


def test_a_second_sidecar_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.sidecar.spool.LOCK_SECONDS", 0.0)
    first = Spool(tmp_path / "spool.db", AMPLE)
    with pytest.raises(InUse):
        Spool(tmp_path / "spool.db", AMPLE)
    first.close()


async def test_a_full_spool_refuses_as_retryable_and_counts(tmp_path: Path) -> None:
    async with sidecar("http://127.0.0.1:1", tmp_path, bounds=Bounds(items=15, bytes=100_000)) as beside:
        done(await beside.post(METRICS, json={"metrics": [metric()] * 10}))
        answer = await beside.post(METRICS, json={"metrics": [metric()] * 10})
        refused(answer, 429, "RATE_LIMITED")
        assert answer.headers["retry-after"] == "1"
        found = await spooled(beside)
        assert (found["items"], found["accepted"], found["refused"], found["maxItems"]) == (10, 10, 10, 15)


async def test_an_answer_that_was_lost_is_asked_for_again_under_the_same_key(tmp_path: Path) -> None:
    answers = itertools.count()

    async def answer(asked: Asked) -> bytes:
        if asked.method != "POST" or next(answers) < 2:
            return b""
        return http(b'{"accepted": 3, "rejected": 0}')

    async with faulty(answer) as peer:
        async with sidecar(peer.url, tmp_path) as beside:
            done(await beside.post(METRICS, json={"metrics": [metric()] * 3}))

            async def tried() -> bool:
                return len(peer.posts()) >= 1

            await until(tried, 30)
        async with sidecar(peer.url, tmp_path) as beside:

            async def delivered() -> bool:
                return (await spooled(beside))["delivered"] == 3

            await until(delivered, 30)
    assert len({(one.headers["idempotency-key"], one.body) for one in peer.posts()}) == 1


async def test_a_slow_server_is_waited_for_and_nobody_waits_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configs, "FIRST_SECONDS", 0.5)
    config = {"provider": "p", "model": "m", "temperature": 1, "topP": 1, "maxTokens": 1}
    config |= {"streaming": False, "functionCalling": False, "visionEnabled": False}
    current = {"version": "global@1", "config": config, "appliedAt": 1, "appliedBy": "ada"}

    async def answer(asked: Asked) -> bytes:
        await asyncio.sleep(10)
        if asked.method == "POST":
            return http(b'{"accepted": 1, "rejected": 0}')
        if "/stream" in asked.path:
            return http(b"{}", "404 Not Found")
        return http(json.dumps(current).encode())

    async with faulty(answer) as peer, sidecar(peer.url, tmp_path) as beside:
        for _ in range(5):
            async with asyncio.timeout(2):
                done(await beside.post(METRICS, json={"metrics": [metric()]}))
                refused(await beside.get(CURRENT), 503, "SERVICE_UNAVAILABLE")

        async def served() -> bool:
            async with asyncio.timeout(2):
                return (await beside.get(CURRENT)).status_code == 200

        await until(served, 60)
        assert done(await beside.get(CURRENT)) == current

        async def delivered() -> bool:
            return (
                any(one.headers.get("idempotency-key") for one in peer.posts())
                and (await spooled(beside))["delivered"] >= 1
            )

        await until(delivered, 60)


@pytest.mark.parametrize(
    "garbage",
    [
        http(b"<html>welcome</html>", kind="text/html"),
        http(b"[1]"),
        http(b'{"ok": true}'),
        http(b'{"accepted": 7, "rejected": 0}'),
        http(b"<html>bad gateway</html>", "502 Bad Gateway", "text/html"),
        http(b"\xff\xfe", "404 Not Found"),
        b"SSH-2.0-OpenSSH\r\n",
    ],
)
async def test_garbage_is_no_acknowledgement_and_no_configuration(tmp_path: Path, garbage: bytes) -> None:
    async def answer(asked: Asked) -> bytes:
        return garbage

    async with faulty(answer) as peer, sidecar(peer.url, tmp_path) as beside:
        done(await beside.post(METRICS, json={"metrics": [metric()]}))
        refused(await beside.get(CURRENT), 503, "SERVICE_UNAVAILABLE")

        async def tried() -> bool:
            return len(peer.posts()) >= 2

        await until(tried, 30)
        found = await spooled(beside)
        assert (found["items"], found["dropped"], found["delivered"]) == (1, 0, 0)
        assert done(await beside.get("/api/v1/status"))["controlLoop"]["state"] == "ERROR"


async def test_what_is_refused_for_good_is_dropped_and_counted(tmp_path: Path) -> None:
    error = {"code": "INVALID_REQUEST", "message": "no", "retryable": False}

    async def answer(asked: Asked) -> bytes:
        return http(json.dumps({"error": error}).encode(), "400 Bad Request")

    async with faulty(answer) as peer, sidecar(peer.url, tmp_path) as beside:
        done(await beside.post(METRICS, json={"metrics": [metric()]}))

        async def dropped() -> bool:
            found = await spooled(beside)
            return (found["items"], found["dropped"]) == (0, 1)

        await until(dropped, 30)


async def test_a_try_of_unknown_outcome_is_not_repeated_past_the_life_of_its_key(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", AMPLE)
    spool.take([batch(3, at_ms=1)])
    assert spool.next_delivery(KEY_LIFE_MS) is not None
    spool.close()
    async with sidecar("http://127.0.0.1:1", tmp_path) as beside:

        async def given_up() -> bool:
            found = await spooled(beside)
            return (found["items"], found["uncertain"]) == (0, 3)

        await until(given_up, 30)
