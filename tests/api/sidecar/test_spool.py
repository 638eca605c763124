"""The spool by itself, and with a server that is none."""

import asyncio
import itertools
import json
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from api.sidecar import configs
from api.sidecar.spool import (
    CHUNK_BYTES,
    DELIVERY_ITEMS,
    Bounds,
    Chunk,
    Delivery,
    InUse,
    Spool,
    Taken,
    chunks_of,
)
from api.sidecar.writer import Writer
from domain.errors import Conflict, RateLimited
from domain.idempotency import Answer, Claim
from tests.api.answers import done, refused
from tests.api.conftest import CONFIG
from tests.api.sidecar.beside import AMPLE, Asked, faulty, http, sidecar, spooled
from tests.api.test_reports import METRICS, metric
from tests.waiting import until

AT = 1_800_000_000_000
CURRENT = "/api/v1/config/current"
MADE_UP = {"version": "global@1", "config": CONFIG, "appliedAt": 1, "appliedBy": "ada"}
ARM = {"version": "global@1", "config": CONFIG}
ROLLOUT = {"deploymentId": "d", "watchedUntil": 1, "control": ARM, "canary": ARM}


def batch(items: int, key: str | None = None, at_ms: int = AT, size: int = 4) -> Taken:
    claim = None if key is None else Claim("", key, f"of {items}")
    chunks = chunks_of("metrics", [b'"%b"' % (b"x" * (size - 2))] * items)
    return Taken(chunks, Answer(200, {"accepted": items, "rejected": 0}), claim, at_ms)


def ruins(folder: Path) -> list[Path]:
    return list(folder.glob("spool.db.broken-*"))


def test_a_delivery_keeps_its_key_and_its_body_until_it_is_finished(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", AMPLE)
    assert spool.next_delivery() is None
    spool.take([batch(2), batch(1)])
    first = spool.next_delivery()
    assert first is not None
    assert (first.body, first.items, first.uncertain_since) == (b'{"metrics":["xx","xx","xx"]}', 3, None)
    spool.mark_uncertain(AT)
    spool.take([batch(4)])
    spool.close()
    spool = Spool(tmp_path / "spool.db", AMPLE)
    assert spool.next_delivery() == replace(first, uncertain_since=AT)
    spool.mark_uncertain(None)
    assert (spool.items, spool.next_delivery()) == (7, first)
    spool.finish(first)
    second = spool.next_delivery()
    assert second is not None
    assert (second.items, second.key != first.key) == (4, True)
    spool.finish(second)
    assert (spool.items, spool.bytes, spool.next_delivery()) == (0, 0, None)
    spool.close()


def test_deliveries_are_of_one_kind_and_bounded(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", AMPLE)
    scores = Taken([Chunk("evaluations", 1, b"2")], Answer(200, {}), None, AT)
    spool.take(
        [batch(DELIVERY_ITEMS - 1), batch(1), batch(1), scores, batch(1, size=5 * CHUNK_BYTES), batch(1)]
    )
    found = []
    while (delivery := spool.next_delivery()) is not None:
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
    delivery = spool.next_delivery()
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


def test_no_more_answers_are_kept_than_their_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.sidecar.spool.KEPT_ANSWERS_BYTES", 10_000)
    spool = Spool(tmp_path / "spool.db", AMPLE)
    told = Answer(200, {"accepted": 1, "rejected": 1, "errors": ["x" * 2000]})
    for number in range(20):
        taken = replace(batch(1, str(number)), answer=told)
        assert spool.take([taken, taken]) == [told, told]
    assert spool.items == 20
    # The last are known still, the first are not.
    spool.take([replace(batch(1, str(number)), answer=told) for number in (19, 18, 17, 0)])
    assert spool.items == 21
    spool.close()


def test_one_process_has_it(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = Spool(path, AMPLE)
    other = sqlite3.connect(path, timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("SELECT * FROM chunks")
    other.close()
    spool.close()


@pytest.mark.parametrize("begin", [0.0, 0.02, 0.3, 0.7, 0.95])
async def test_a_damaged_spool_is_set_aside(tmp_path: Path, begin: float) -> None:
    path = tmp_path / "spool.db"
    spool = Spool(path, AMPLE)
    for number in range(40):
        spool.take([batch(1, str(number), size=20_000)])
    spool.close()
    content = bytearray(path.read_bytes())
    at = int(begin * len(content)) // 4096 * 4096
    content[at : at + 3 * 4096] = b"\xa5" * 3 * 4096
    path.write_bytes(content)
    writer = await Writer.open(path, AMPLE)
    assert await writer.take(batch(1)) == Answer(200, {"accepted": 1, "rejected": 0})
    assert [ruin.read_bytes() for ruin in ruins(tmp_path)] == [content]
    # What is on disk now is whole, as if this process were killed here.
    for file in ("spool.db", "spool.db-wal"):
        shutil.copy(tmp_path / file, tmp_path / f"later-{file}")
    later = Spool(tmp_path / "later-spool.db", AMPLE)
    assert later.items == 1
    later.close()
    await writer.close()


async def test_a_full_disk_takes_nothing_and_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages, take = [10_000], Spool.take

    def take_within(spool: Spool, batches: Sequence[Taken]) -> list[Any]:
        spool._db.execute(f"PRAGMA max_page_count = {pages[0]}")
        return take(spool, batches)

    monkeypatch.setattr(Spool, "take", take_within)
    body = {"metrics": [metric()] * 1000}
    async with sidecar("http://127.0.0.1:1", tmp_path) as beside:
        done(await beside.post(METRICS, json=body))
        pages[0] = 1
        error = refused(await beside.post(METRICS, json=body), 503, "SERVICE_UNAVAILABLE")
        assert "full" in error["message"]
        refused(await beside.get("/readyz"), 503, "SERVICE_UNAVAILABLE")
        assert done(await beside.get("/api/v1/health"))["status"] == "unhealthy"
        pages[0] = 10_000
        done(await beside.post(METRICS, json=body))
        done(await beside.get("/readyz"))
        found = await spooled(beside)
        assert (found["items"], found["accepted"], found["refused"]) == (2000, 2000, 1000)


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

    async def answer(asked: Asked) -> bytes:
        await asyncio.sleep(10)
        if asked.method == "POST":
            return http(b'{"accepted": 1, "rejected": 0}')
        if "/stream" in asked.path:
            return http(b"{}", "404 Not Found")
        return http(json.dumps(MADE_UP).encode())

    async with faulty(answer) as peer, sidecar(peer.url, tmp_path) as beside:
        for _ in range(5):
            async with asyncio.timeout(2):
                done(await beside.post(METRICS, json={"metrics": [metric()]}))
                refused(await beside.get(CURRENT), 503, "SERVICE_UNAVAILABLE")

        async def served() -> bool:
            async with asyncio.timeout(2):
                return (await beside.get(CURRENT)).status_code == 200

        await until(served, 60)
        assert done(await beside.get(CURRENT)) == MADE_UP

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
        http(b"[" * 100_000),
        http(json.dumps(MADE_UP | {"version": 5}).encode()),
        http(json.dumps(MADE_UP | {"version": "\ud800"}).encode()),
        http(json.dumps(MADE_UP | {"rollout": {**ROLLOUT, "trafficPercent": 10**400}}).encode()),
        b"SSH-2.0-OpenSSH\r\n",
    ],
)
async def test_garbage_is_no_acknowledgement_and_no_configuration(tmp_path: Path, garbage: bytes) -> None:
    async def answer(asked: Asked) -> bytes:
        return garbage

    async with faulty(answer) as peer, sidecar(peer.url, tmp_path) as beside:
        done(await beside.post(METRICS, json={"metrics": [metric()]}))
        error = refused(await beside.get(CURRENT), 503, "SERVICE_UNAVAILABLE")
        assert "gives no configuration" in error["message"]

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


@pytest.mark.parametrize("first", ["lost", "refused"])
async def test_what_is_refused_later_says_nothing_of_a_try_before(tmp_path: Path, first: str) -> None:
    error = {"code": "SERVICE_UNAVAILABLE", "message": "later", "retryable": True}
    refusal = http(json.dumps({"error": error}).encode(), "503 Service Unavailable")

    async def answer(asked: Asked) -> bytes:
        return b"" if first == "lost" and len(peer.posts()) == 1 else refusal

    async with faulty(answer) as peer, sidecar(peer.url, tmp_path) as beside:
        done(await beside.post(METRICS, json={"metrics": [metric()]}))

        async def tried() -> bool:
            return len(peer.posts()) >= 3

        await until(tried, 30)
        # Answered, and noted, before it pauses for longer.
        await asyncio.sleep(0.2)
    spool = Spool(tmp_path / "spool.db", AMPLE)
    delivery = spool.next_delivery()
    assert delivery is not None
    assert (delivery.uncertain_since is not None) == (first == "lost")
    spool.close()


async def test_what_is_delivered_twice_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures, finish = iter([sqlite3.OperationalError("database or disk is full")]), Spool.finish

    def finish_later(spool: Spool, delivery: Delivery) -> None:
        for failure in failures:
            raise failure
        finish(spool, delivery)

    monkeypatch.setattr(Spool, "finish", finish_later)
    monkeypatch.setattr("api.sidecar.delivery.LONGEST_PAUSE", 0.1)

    async def answer(asked: Asked) -> bytes:
        return http(b'{"accepted": 2, "rejected": 1}') if asked.method == "POST" else b""

    async with faulty(answer) as peer, sidecar(peer.url, tmp_path) as beside:
        done(await beside.post(METRICS, json={"metrics": [metric()] * 3}))

        async def delivered() -> bool:
            found = await spooled(beside)
            return found["items"] == 0 and found["delivered"] > 0

        await until(delivered, 30)
        found = await spooled(beside)
        assert (found["delivered"], found["rejected"]) == (2, 1)
    first, second = peer.posts()
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


async def test_a_try_of_unknown_outcome_is_not_repeated_past_the_life_of_its_key(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", AMPLE)
    spool.take([batch(3, at_ms=1)])
    assert spool.next_delivery() is not None
    spool.mark_uncertain(1)
    spool.close()
    async with sidecar("http://127.0.0.1:1", tmp_path) as beside:

        async def given_up() -> bool:
            found = await spooled(beside)
            return (found["items"], found["uncertain"]) == (0, 3)

        await until(given_up, 30)
