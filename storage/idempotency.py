"""Idempotency keys: the first answer to a POST, kept for 24 hours in the transaction of its change."""

import json
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.errors import Conflict
from domain.idempotency import Answer, Claim
from storage.tables import IdempotencyKey

if TYPE_CHECKING:
    from asyncpg import Connection, Record

KEPT_HOURS = 24
# A principal's name that no caller can have.
_WRITERS = "writer"
_AGE = f"interval '{KEPT_HOURS} hours'"


async def earlier_answer(session: AsyncSession, claim: Claim | None) -> Answer | None:
    """The first answer to this very request, None where it is new or makes no claim.

    Holds the key until the transaction ends, so that the same request twice at once is carried out once.

    Raises:
        Conflict: the key was used for another request.
    """
    if claim is None:
        return None
    lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
    await session.execute(lock, {"name": f"{claim.principal}\n{claim.key}"})
    row = (
        await session.execute(
            select(IdempotencyKey).where(
                IdempotencyKey.principal == claim.principal,
                IdempotencyKey.key == claim.key,
                IdempotencyKey.created_at > func.now() - text(_AGE),
            )
        )
    ).scalar_one_or_none()
    if row is None:
        return None
    _require_same(claim, row.fingerprint)
    return Answer(row.status, row.answer)


async def keep_answer(session: AsyncSession, claim: Claim | None, answer: Answer) -> None:
    """Keep the answer to a new request that makes a claim, to be committed with what the request changed."""
    if claim is None:
        return
    await forget(session, claim)
    session.add(
        IdempotencyKey(
            principal=claim.principal,
            key=claim.key,
            fingerprint=claim.fingerprint,
            status=answer.status,
            answer=answer.body,
        )
    )
    await session.flush()


async def forget(session: AsyncSession, claim: Claim | None) -> None:
    """Let a claim's key be used anew, since its request came to nothing."""
    if claim is None:
        return
    await session.execute(
        delete(IdempotencyKey).where(
            IdempotencyKey.principal == claim.principal, IdempotencyKey.key == claim.key
        )
    )


async def purge(session: AsyncSession) -> None:
    """Delete the answers that are past their time."""
    await session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at <= func.now() - text(_AGE)))


async def claim_in_copy(connection: "Connection[Record]", claim: Claim, answer: Answer) -> Answer | None:
    """As `earlier_answer` and `keep_answer` in one, for a writer whose answer is known beforehand.

    Raises:
        Conflict: the key was used for another request.
    """
    taken = await connection.fetchval(
        f"""
        INSERT INTO idempotency_keys AS known (principal, key, fingerprint, status, answer)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (principal, key) DO UPDATE
        SET fingerprint = excluded.fingerprint, status = excluded.status, answer = excluded.answer,
            created_at = now()
        WHERE known.created_at <= now() - {_AGE}
        RETURNING true
        """,
        *(claim.principal, claim.key, claim.fingerprint, answer.status, json.dumps(answer.body)),
    )
    if taken:
        return None
    row = await connection.fetchrow(
        "SELECT fingerprint, status, answer FROM idempotency_keys WHERE principal = $1 AND key = $2",
        *(claim.principal, claim.key),
    )
    if row is None:
        raise Conflict("the Idempotency-Key is in use by another request")
    return _kept_answer(claim, row)


async def known_answer(connection: "Connection[Record]", claim: Claim) -> Answer | None:
    """The first answer to this very request, if one is kept by now.

    Raises:
        Conflict: the key was used for another request.
    """
    row = await connection.fetchrow(
        "SELECT fingerprint, status, answer::text FROM idempotency_keys "
        f"WHERE principal = $1 AND key = $2 AND created_at > now() - {_AGE}",
        *(claim.principal, claim.key),
    )
    return None if row is None else _kept_answer(claim, row)


async def first_write(connection: "Connection[Record]", writer: str, mark: str) -> bool:
    """Whether no transaction of this writer that was marked so is committed; marks the present one.

    Whoever does not know how a commit ended asks this on the next try. A commit that is still under way is
    waited for. Each writer's last mark is kept, and no more.
    """
    return bool(
        await connection.fetchval(
            """
            INSERT INTO idempotency_keys AS known (principal, key, fingerprint, status, answer)
            VALUES ($1, $2, $3, 200, '{}')
            ON CONFLICT (principal, key) DO UPDATE
            SET fingerprint = excluded.fingerprint, created_at = now()
            WHERE known.fingerprint <> excluded.fingerprint
            RETURNING true
            """,
            *(_WRITERS, writer, mark),
        )
    )


def _kept_answer(claim: Claim, row: "Record") -> Answer:
    _require_same(claim, row["fingerprint"])
    return Answer(row["status"], json.loads(row["answer"]))


def _require_same(claim: Claim, known: str) -> None:
    if known != claim.fingerprint:
        raise Conflict("the Idempotency-Key was used for another request")
