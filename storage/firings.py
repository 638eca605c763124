"""What rules, triggers and brakes did: kept, so that a cooldown outlives whoever counts it."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import case, func, select, text
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.rules.firing import Fired, Key
from storage.tables import Firing, Millis, db_clock

_LOCK = 0x66697265
KEPT_DAYS = 30
LATEST_KEPT_DAYS = 400
"""The last firing of each is kept for longer: a cooldown may be long."""


async def hold(session: AsyncSession, service: str) -> None:
    """Let nobody else fire for a service until this transaction ends. Taken after the control row."""
    await session.execute(
        text("SELECT pg_advisory_xact_lock(:lock, hashtext(:service))"), {"lock": _LOCK, "service": service}
    )


async def fired(
    session: AsyncSession, services: Sequence[str], *, but_by: str | None = None
) -> dict[str, dict[Key, Fired]]:
    """By service and key, when it fired last and how often within 24 h; what `but_by` references left out."""
    recent = Firing.fired_at > db_clock(-86_400.0)
    query = (
        select(
            Firing.service,
            Firing.key,
            func.max(Firing.fired_at, type_=Millis).label("last_at"),
            func.count(case((recent, 1))).label("in_day"),
        )
        .where(Firing.service.in_(services))
        .group_by(Firing.service, Firing.key)
    )
    if but_by is not None:
        query = query.where(Firing.reference.is_distinct_from(but_by))
    found: dict[str, dict[Key, Fired]] = defaultdict(dict)
    for row in await session.execute(query):
        found[row.service][row.key] = Fired(row.last_at, row.in_day)
    return found


async def record(
    session: AsyncSession, service: str, key: Key, *, action: str, words: str, reference: str | None = None
) -> bool:
    """Keep a firing; gives whether it is new, and not kept for its reference already."""
    values = {"service": service, "key": key, "action": action, "words": words, "reference": reference}
    statement = insert(Firing).values(values).on_conflict_do_nothing().returning(Firing.id)
    return (await session.execute(statement)).scalar_one_or_none() is not None


async def latest(session: AsyncSession, service: str) -> dict[Key, Firing]:
    """The last firing of each key of a service."""
    query = (
        select(Firing)
        .ext(distinct_on(Firing.key))
        .where(Firing.service == service)
        .order_by(Firing.key, Firing.fired_at.desc(), Firing.id.desc())
    )
    return {row.key: row for row in (await session.execute(query)).scalars()}


async def purge(session: AsyncSession) -> None:
    """Forget what no cooldown or cap can ask for any more."""
    await session.execute(
        text("""
            DELETE FROM firings f
            WHERE f.fired_at < now() - make_interval(days => :kept) AND (
                f.fired_at < now() - make_interval(days => :latest_kept) OR EXISTS (
                    SELECT 1 FROM firings newer
                    WHERE newer.service = f.service AND newer.key = f.key AND newer.fired_at > f.fired_at
                )
            )
        """),
        {"kept": KEPT_DAYS, "latest_kept": LATEST_KEPT_DAYS},
    )
