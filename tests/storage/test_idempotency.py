"""A request under one key is carried out once."""

import asyncio

import pytest

from domain.errors import Conflict
from domain.idempotency import Answer, Claim, fingerprint
from storage import idempotency
from storage.database import Database

CLAIM = Claim("key_1", "k", fingerprint("POST /x", b"{}"))


async def carry_out(database: Database, claim: Claim, answer: Answer) -> Answer:
    async with database.transaction() as session:
        earlier = await idempotency.earlier_answer(session, claim)
        if earlier is None:
            await asyncio.sleep(0)
            await idempotency.keep_answer(session, claim, answer)
        return earlier or answer


async def test_the_first_answer_is_given_to_all_that_come_at_once(database: Database) -> None:
    answers = await asyncio.gather(
        *(carry_out(database, CLAIM, Answer(202, {"n": number})) for number in range(8))
    )
    assert len({answer.body["n"] for answer in answers}) == 1
    assert answers[0].status == 202


async def test_another_request_under_the_key_is_a_conflict(database: Database) -> None:
    await carry_out(database, CLAIM, Answer(200, {}))
    for target, body in (("POST /y", b"{}"), ("POST /x", b"[]")):
        with pytest.raises(Conflict):
            await carry_out(database, Claim("key_1", "k", fingerprint(target, body)), Answer(200, {}))
    other = Claim("key_2", "k", fingerprint("POST /y", b"{}"))
    assert await carry_out(database, other, Answer(200, {"n": 2})) == Answer(200, {"n": 2})


async def test_a_request_that_failed_leaves_its_key_free(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as session:
            await idempotency.keep_answer(session, CLAIM, Answer(200, {"n": 1}))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert (await carry_out(database, CLAIM, Answer(200, {"n": 2}))).body == {"n": 2}
    async with database.transaction() as session:
        await idempotency.forget(session, CLAIM)
    assert (await carry_out(database, CLAIM, Answer(200, {"n": 3}))).body == {"n": 3}


async def test_answers_are_kept_for_a_day(database: Database) -> None:
    other = Claim("key_1", "younger", "f")
    await carry_out(database, CLAIM, Answer(200, {"n": 1}))
    await carry_out(database, other, Answer(200, {"n": 1}))
    connection = await database.connect()
    await connection.execute(
        "UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE key = 'k'"
    )
    async with database.transaction() as session:
        await idempotency.purge(session)
    assert [row["key"] for row in await connection.fetch("SELECT key FROM idempotency_keys")] == ["younger"]
    await connection.close()
    assert (await carry_out(database, CLAIM, Answer(200, {"n": 2}))).body == {"n": 2}
