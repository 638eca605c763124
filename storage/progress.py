"""How far what is done again and again has come, and the right to go on with it."""

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.analytics import MINUTE_MS
from storage.tables import AnalysisProgress, Millis, db_clock

AHEAD_MS = MINUTE_MS
"""A clock that was set back by less is waited for."""

_LOCKS = {"detection": 0x616E6F6D616C69, "baselines": 0x626173656C696E, "findings": 0x66696E64696E67}


async def lock(session: AsyncSession, work: str) -> None:
    """Take the right to some work until the transaction ends, once nobody else has it."""
    await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCKS[work]})


async def try_lock(session: AsyncSession, work: str) -> bool:
    """Take the right to some work until the transaction ends; False where somebody else has it."""
    query = text("SELECT pg_try_advisory_xact_lock(:key)")
    return bool((await session.execute(query, {"key": _LOCKS[work]})).scalar_one())


async def until(session: AsyncSession, name: str) -> int | None:
    """Up to where it is done (ms); None where it has not begun, or only at a time that is yet to come: then
    the clock was ahead, and it begins again."""
    query = select(AnalysisProgress.until, db_clock()).where(AnalysisProgress.name == name)
    found = (await session.execute(query)).one_or_none()
    return None if found is None or found[0] > found[1] + AHEAD_MS else found[0]


async def advance(session: AsyncSession, name: str, at: int) -> None:
    """It is done up to there (ms)."""
    statement = insert(AnalysisProgress).values(name=name, until=at)
    await session.execute(
        statement.on_conflict_do_update(index_elements=[AnalysisProgress.name], set_={"until": at})
    )


async def first_report(session: AsyncSession) -> int | None:
    """The minute of the first report that is still kept (ms); None without any."""
    query = text("""
        SELECT LEAST(
            (SELECT min(bucket) FROM rollup_minutes),
            (SELECT date_bin('1 minute', min(ts), to_timestamp(0)) FROM metrics
             WHERE received_at >= (SELECT requests_until FROM rollup_progress))
        ) AS first
    """).columns(first=Millis)
    first: int | None = (await session.execute(query)).scalar_one()
    return first
