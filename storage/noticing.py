"""Notices that a service's candidate models, or their prices, are not what they were at the last look."""

from collections.abc import Mapping

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.policy import ServicePolicy
from domain.rules import offers
from domain.rules.offers import Noticed
from storage.tables import NoticedOffers


async def look(session: AsyncSession, policies: Mapping[str, ServicePolicy], now: int) -> dict[str, str]:
    """By service, what is new and has stood for long enough, in words.

    Only services that are optimized by themselves, by a schedule or by triggers, and that have models to
    choose from. What is new stays so until `know` is called for it.
    """
    wanted = {
        name: policy
        for name, policy in policies.items()
        if (policy.schedule.enabled or policy.triggers) and policy.search_space.models
    }
    rows = {row.service: row for row in (await session.execute(select(NoticedOffers))).scalars()}
    news = {}
    for name, policy in wanted.items():
        before = rows.pop(name, None)
        earlier = None if before is None else Noticed(before.known, before.seen, before.since)
        noticed = offers.notice(earlier, offers.offers(policy.search_space, now), now)
        if words := offers.news(noticed, now):
            news[name] = words
        elif offers.is_settled(noticed, now):
            noticed = Noticed(noticed.seen or {})
        if noticed != earlier:
            await _keep(session, name, noticed)
    if rows:
        await session.execute(delete(NoticedOffers).where(NoticedOffers.service.in_(rows)))
    return news


async def know(session: AsyncSession, service: str) -> None:
    """What was new of a service is known from now on."""
    row = await session.get(NoticedOffers, service, with_for_update=True, populate_existing=True)
    if row is not None and row.seen is not None:
        row.known, row.seen, row.since = row.seen, None, None


async def _keep(session: AsyncSession, service: str, noticed: Noticed) -> None:
    seen = None if noticed.seen is None else dict(noticed.seen)
    values = {"known": dict(noticed.known), "seen": seen, "since": noticed.since}
    statement = insert(NoticedOffers).values(service=service, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=["service"], set_=values))
