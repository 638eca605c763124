"""`/events`: what happened, as a list and as it happens."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.auth import Reader
from api.body import StrictRoute
from api.paging import PageQuery
from api.server import ServerDep
from api.streaming import Stream, StreamDep
from domain.base import Message
from domain.errors import DatabaseError, NotFound
from domain.events import EventMessage, EventType
from domain.scope import ServiceName, scope_of
from storage import event_log, publisher
from storage.fanout import PublishedEvent

router = APIRouter(prefix="/events", tags=["events"], route_class=StrictRoute)

RETRY_SECONDS = 1.0

Types = Annotated[
    list[EventType] | None, Query(alias="type", description="Only these types; may be repeated.")
]
Service = Annotated[
    ServiceName | None, Query(description="Only events of this service and its endpoints, or of `global`.")
]
Millis = Annotated[int | None, Query(ge=0, le=10**14)]


class EventList(Message):
    """A page of events, the newest first, and how many there are."""

    total: int
    events: list[EventMessage]


@router.get("", response_model_exclude_none=True)
async def list_events(
    server: ServerDep,
    _: Reader,
    page: PageQuery,
    types: Types = None,
    service: Service = None,
    start: Millis = None,
    end: Millis = None,
) -> EventList:
    """The log of events, the newest first; `start` and `end` are ms, `end` is not included. Kept 90 days."""
    name = None if service is None else str(scope_of(service))
    # What was committed before this was asked is in the answer.
    await publisher.publish_all(server.database)
    async with server.database.transaction() as session:
        total, found = await event_log.list_events(
            session,
            types=types,
            service=name,
            start=start,
            end=end,
            limit=page.limit,
            offset=page.offset,
        )
    return EventList(total=total, events=[event_log.message(event) for event in found])


async def _first_position(
    server: ServerDep,
    last_event_id: Annotated[
        str | None, Header(description="The id of the last event that was seen; the stream goes on after it.")
    ] = None,
) -> int:
    if not last_event_id:
        return await server.events.end()
    async with server.database.transaction() as session:
        position = await event_log.position_of(session, last_event_id)
    if position is None:
        raise NotFound(f"no event {last_event_id!r}: too old, or never sent. GET /events tells what happened")
    return position


@router.get("/stream", response_class=EventSourceResponse)
async def stream_events(
    stream: StreamDep,
    position: Annotated[int, Depends(_first_position)],
    types: Types = None,
    service: Service = None,
) -> AsyncIterator[ServerSentEvent]:
    """The same as it happens: every event at least once, in order. `data` is an event, `id` its id."""
    name = None if service is None else str(scope_of(service))
    async for event in _follow(stream, position):
        if _is_wanted(event, types, name):
            yield ServerSentEvent(event=event.type, id=event.id, raw_data=event.json)


async def _follow(stream: Stream, position: int) -> AsyncIterator[PublishedEvent]:
    feed = stream.server.events
    while stream.open:
        changed = feed.changed.next()
        try:
            found = await feed.after(position)
        except DatabaseError:
            await stream.wait(seconds=RETRY_SECONDS)
            continue
        for event in found:
            yield event
            position = event.position
        if not found:
            await stream.wait(changed)


def _is_wanted(event: PublishedEvent, types: list[EventType] | None, scope: str | None) -> bool:
    if types is not None and event.type not in types:
        return False
    return scope is None or event.scope == scope or event.scope.startswith(f"{scope}:")
