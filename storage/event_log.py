"""The event log: events get their place in it after the commit of their change, and are read by that.

Numbers that are given at insertion become visible out of order, so that a reader who goes on after the
highest that it saw would pass over one whose transaction took longer. `publish` gives positions under a lock,
so that they become visible in their order, without a gap. Of two events of which one was committed before
the other was written, the earlier is placed first.
"""

from collections.abc import Sequence

from sqlalchemy import Select, delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.events import EventMessage, EventType
from storage.tables import Event, EventLog, db_clock

PUBLISHED = "event_log"
"""The payload of the notification that events were published."""
BATCH = 1_000
KEPT_DAYS = 90
_PLACE = text("""
    UPDATE events SET position = placed.position
    FROM unnest(CAST(:sequences AS bigint[]), CAST(:positions AS bigint[])) AS placed (sequence, position)
    WHERE events.sequence = placed.sequence
""")


async def publish(session: AsyncSession) -> list[Event]:
    """Give the oldest events without a position, up to 1,000, their positions, and notify.

    To be called in a transaction of its own, again while it gives any.
    """
    waiting = select(Event).where(Event.position.is_(None)).order_by(Event.sequence).limit(BATCH)
    # Every process tries at once: only those that see something queue up for the lock.
    if (await session.execute(waiting.with_only_columns(Event.sequence).limit(1))).first() is None:
        return []
    log = (await session.execute(select(EventLog).with_for_update())).scalar_one()
    events = list((await session.execute(waiting)).scalars())
    if not events:
        return []
    placed = range(log.position + 1, log.position + len(events) + 1)
    await session.execute(
        _PLACE, {"sequences": [event.sequence for event in events], "positions": list(placed)}
    )
    log.position += len(events)
    for event, position in zip(events, placed, strict=True):
        session.expunge(event)
        event.position = position
    await session.execute(text("SELECT pg_notify('optimizer', :payload)"), {"payload": PUBLISHED})
    return events


async def end(session: AsyncSession) -> int:
    """The position of the newest published event, 0 before the first."""
    return (await session.execute(select(EventLog.position))).scalar_one()


async def installation(session: AsyncSession) -> str:
    """A name of this database's own."""
    return (await session.execute(select(EventLog.installation))).scalar_one()


async def after(
    session: AsyncSession, position: int, *, limit: int, types: Sequence[EventType] | None = None
) -> list[Event]:
    """The published events after a position, in order; with `types` only those."""
    query = select(Event).where(Event.position > position).order_by(Event.position).limit(limit)
    if types is not None:
        query = query.where(Event.type.in_(types))
    return list((await session.execute(query)).scalars())


async def position_of(session: AsyncSession, event_id: str) -> int | None:
    """Where an event is in the log; None where it is unknown, or no longer kept."""
    return await session.scalar(select(Event.position).where(Event.id == event_id))


async def list_events(
    session: AsyncSession,
    *,
    types: Sequence[EventType] | None,
    service: str | None,
    start: int | None,
    end: int | None,
    limit: int,
    offset: int,
) -> tuple[int, list[Event]]:
    """How many published events there are of these types, of a service and its endpoints, within
    [start, end) (ms); and a page of them, the newest first.
    """
    query = select(Event).where(Event.position.is_not(None))
    if types is not None:
        query = query.where(Event.type.in_(types))
    query = _of_service(query, service)
    if start is not None:
        query = query.where(Event.timestamp >= start)
    if end is not None:
        query = query.where(Event.timestamp < end)
    total = (await session.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
    page = query.order_by(Event.position.desc()).limit(limit).offset(offset)
    return total, list((await session.execute(page)).scalars())


def _of_service(query: Select[Event], service: str | None) -> Select[Event]:
    if service is None:
        return query
    return query.where((Event.scope == service) | Event.scope.startswith(f"{service}:", autoescape=True))


async def purge(session: AsyncSession) -> None:
    """Forget the events that are past their time."""
    await session.execute(
        delete(Event).where(Event.position.is_not(None), Event.timestamp < db_clock(-KEPT_DAYS * 86_400.0))
    )


def message(event: Event) -> EventMessage:
    """An event as everybody outside sees it."""
    return EventMessage.model_validate(
        {
            "id": event.id,
            "type": event.type,
            "timestamp": event.timestamp,
            "scope": event.scope,
            "data": event.data,
        }
    )
