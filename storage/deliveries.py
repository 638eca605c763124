"""Events on their way to webhooks: taken over from the log, sent in order per lane, recorded."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Integer, Text, delete, func, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from domain.errors import Conflict, NotFound
from domain.events import EventMessage
from domain.ids import new_id
from domain.webhooks import DeliveryResponse, DeliveryStatus
from storage import event_log, webhooks
from storage.events import alert
from storage.tables import Event, Millis, Webhook, WebhookDelivery, db_clock

KEPT_DAYS = 30
TAKE = 1_000

_DUE = text("""
    SELECT d.id, d.lane, d.attempts, e.id AS event_id, e.type, e.scope, e.timestamp, e.data
    FROM (
        SELECT h.* FROM webhooks w CROSS JOIN webhook_heads(w.id) h
        WHERE w.id = :webhook AND w.enabled AND h.next_attempt_at <= clock_timestamp()
            AND coalesce(w.not_before, '-infinity') <= clock_timestamp()
            AND h.lane <> ALL (CAST(:busy AS text[]))
        ORDER BY h.next_attempt_at, h.position LIMIT :lanes
    ) AS head
    CROSS JOIN LATERAL (
        SELECT * FROM webhook_deliveries
        WHERE webhook_id = :webhook AND status = 'pending' AND lane = head.lane
        ORDER BY position LIMIT :each
    ) AS d
    JOIN events e ON e.position = d.position
    ORDER BY head.next_attempt_at, head.position, d.position
""").columns(
    id=Text, lane=Text, attempts=Integer, event_id=Text, type=Text, scope=Text, timestamp=Millis, data=JSONB
)
_NEXT = text("""
    SELECT extract(epoch FROM greatest(min(h.next_attempt_at), max(w.not_before)) - clock_timestamp()) * 1000
    FROM webhooks w CROSS JOIN webhook_heads(w.id) h WHERE w.id = :webhook
""")
_RECORD = text("""
    UPDATE webhook_deliveries d SET
        status = o.status, attempts = d.attempts + 1, response_status = o.response_status, error = o.error,
        duration_ms = o.duration_ms, last_attempt_at = clock_timestamp(),
        next_attempt_at = clock_timestamp() + o.delay_ms * interval '1 millisecond',
        ended_at = CASE WHEN o.status <> 'pending' THEN clock_timestamp() END
    FROM unnest(
        CAST(:ids AS text[]), CAST(:attempts AS integer[]), CAST(:statuses AS text[]),
        CAST(:response_statuses AS integer[]), CAST(:errors AS text[]),
        CAST(:durations AS double precision[]), CAST(:delays AS bigint[])
    ) AS o (id, attempts, status, response_status, error, duration_ms, delay_ms)
    WHERE d.id = o.id AND d.status = 'pending' AND d.attempts = o.attempts
    RETURNING d.id
""")
_HOLD = text("""
    UPDATE webhooks
    SET not_before = greatest(not_before, clock_timestamp() + :wait * interval '1 millisecond')
    WHERE id = :webhook
""")
_WAITING = text("""
    SELECT w.id, w.url FROM webhooks w CROSS JOIN event_log l
    WHERE w.enabled AND (
        CASE WHEN w.events IS NULL THEN w.position < l.position
        ELSE EXISTS (SELECT FROM events e WHERE e.type = ANY (w.events) AND e.position > w.position) END
        OR coalesce(w.not_before, '-infinity') <= clock_timestamp()
            AND EXISTS (SELECT FROM webhook_heads(w.id) h WHERE h.next_attempt_at <= clock_timestamp())
    )
    ORDER BY w.id
""")
_LOST = text("""
    UPDATE webhook_deliveries d
    SET status = 'failed', error = 'the event is no longer kept', ended_at = clock_timestamp()
    WHERE d.status = 'pending' AND NOT EXISTS (SELECT FROM events e WHERE e.position = d.position)
""")


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery to be attempted; `attempts` is how often it was before."""

    id: str
    lane: str
    attempts: int
    event: EventMessage


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt came to. While `pending`, it is tried again after `delay_ms`.

    `hold_ms`: for how long the endpoint asked to be sent nothing at all. `gone`: it asked for nothing ever.
    """

    due: Due
    status: DeliveryStatus
    response_status: int | None
    error: str | None
    duration_ms: float
    delay_ms: int = 0
    hold_ms: int | None = None
    gone: bool = False


async def take_over(session: AsyncSession, webhook_id: str) -> bool:
    """Take over what was published for an endpoint, 1,000 at most; gives whether there is more."""
    row = await session.get(Webhook, webhook_id, with_for_update=True)
    end = await event_log.end(session)
    if row is None or not row.enabled or row.position >= end:
        return False
    types = webhooks.describe(row).events
    found = await event_log.after(session, row.position, limit=TAKE, types=types)
    if found:
        session.add_all(
            WebhookDelivery(
                id=new_id("whd"),
                webhook_id=row.id,
                event_id=event.id,
                event_type=event.type,
                position=event.position,
                lane=event.scope,
                status="pending",
            )
            for event in found
        )
    full = len(found) == TAKE
    last = (found[-1].position if found else None) or 0
    # What was found may be newer than the end that was read before.
    row.position = last if full else max(end, last)
    return full


async def due(
    session: AsyncSession, webhook_id: str, *, lanes: int, each: int, busy: Collection[str]
) -> dict[str, list[Due]]:
    """By lane, what is to be attempted now in this order: so many lanes at most, not the busy ones."""
    given = {"webhook": webhook_id, "lanes": lanes, "each": each, "busy": list(busy)}
    found: dict[str, list[Due]] = {}
    for row in await session.execute(_DUE, given):
        event = EventMessage.model_validate(
            {
                "id": row.event_id,
                "type": row.type,
                "timestamp": row.timestamp,
                "scope": row.scope,
                "data": row.data,
            }
        )
        found.setdefault(row.lane, []).append(Due(row.id, row.lane, row.attempts, event))
    return found


async def next_due_ms(session: AsyncSession, webhook_id: str) -> int | None:
    """In how many ms something is due, 0 if it is already; None where nothing waits."""
    wait = (await session.execute(_NEXT, {"webhook": webhook_id})).scalar_one()
    return None if wait is None else max(0, math.ceil(wait))


async def record(session: AsyncSession, webhook_id: str, outcomes: Sequence[Outcome]) -> set[str]:
    """Record attempts, raise alerts about what is given up; gives the ids that were recorded.

    One is not where it was attempted and recorded by another worker meanwhile, sent anew, or deleted.
    """
    given = {
        "ids": [outcome.due.id for outcome in outcomes],
        "attempts": [outcome.due.attempts for outcome in outcomes],
        "statuses": [outcome.status for outcome in outcomes],
        "response_statuses": [outcome.response_status for outcome in outcomes],
        "errors": [outcome.error for outcome in outcomes],
        "durations": [outcome.duration_ms for outcome in outcomes],
        "delays": [outcome.delay_ms for outcome in outcomes],
    }
    if any(outcome.gone or outcome.hold_ms for outcome in outcomes):
        # Before its deliveries, as whoever deletes it does.
        await session.get(Webhook, webhook_id, with_for_update=True)
    recorded = set((await session.execute(_RECORD, given)).scalars())
    for outcome in outcomes:
        if outcome.due.id in recorded:
            await _follow(session, webhook_id, outcome)
    return recorded


async def _follow(session: AsyncSession, webhook_id: str, outcome: Outcome) -> None:
    if outcome.gone:
        await webhooks.disable(session, webhook_id, "the endpoint answered 410 Gone")
    if outcome.hold_ms is not None:
        await session.execute(_HOLD, {"webhook": webhook_id, "wait": outcome.hold_ms})
    event = outcome.due.event
    # An alert about an alert that could not be delivered could not be delivered either, and so on.
    if outcome.status == "failed" and event.type != "alert.raised":
        reason = f"webhook {webhook_id} could not be sent {event.type} of {event.scope}: {outcome.error}"
        details = {
            "webhookId": webhook_id,
            "deliveryId": outcome.due.id,
            "eventId": event.id,
            "eventType": event.type,
            "attempts": outcome.due.attempts + 1,
        }
        alert(session, event.scope, "high", reason, details)


async def waiting(session: AsyncSession) -> list[tuple[str, str]]:
    """The id and URL of each endpoint for which there is something to do now."""
    return [(row.id, row.url) for row in await session.execute(_WAITING)]


async def list_deliveries(
    session: AsyncSession, webhook_id: str, *, status: DeliveryStatus | None, limit: int, offset: int
) -> tuple[int, list[WebhookDelivery]]:
    """How many deliveries to an endpoint there are, of a status or of any, and a page, the newest first."""
    query = select(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook_id)
    if status is not None:
        query = query.where(WebhookDelivery.status == status)
    total = (await session.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
    page = query.order_by(WebhookDelivery.position.desc()).limit(limit).offset(offset)
    return total, list((await session.execute(page)).scalars())


async def redeliver(session: AsyncSession, webhook_id: str, delivery_id: str) -> WebhookDelivery:
    """Send an event anew, beside what is sent in order.

    Raises:
        NotFound: there is no such delivery to that endpoint, or its event is no longer kept.
        Conflict: it is on its way, or the endpoint is disabled.
    """
    webhook = await webhooks.get(session, webhook_id)
    row = await session.get(WebhookDelivery, delivery_id, with_for_update=True)
    if row is None or row.webhook_id != webhook_id:
        raise NotFound(f"no delivery {delivery_id!r} to {webhook_id}")
    if row.status == "pending":
        raise Conflict(f"{delivery_id} is on its way already")
    if not webhook.enabled:
        raise Conflict(f"{webhook_id} is disabled")
    if await session.scalar(select(Event.id).where(Event.position == row.position)) is None:
        raise NotFound(f"the event {row.event_id} is no longer kept")
    # No scope is written like this.
    row.lane = f"redelivery/{row.id}"
    row.status, row.attempts, row.next_attempt_at = "pending", 0, db_clock()
    row.response_status = row.error = row.duration_ms = row.last_attempt_at = row.ended_at = None
    await session.flush()
    await session.execute(text("SELECT pg_notify('optimizer', 'webhooks')"))
    return row


async def purge(session: AsyncSession) -> None:
    """Forget deliveries that ended long ago; give up those whose event is no longer kept."""
    old = WebhookDelivery.ended_at < db_clock(-KEPT_DAYS * 86_400.0)
    await session.execute(delete(WebhookDelivery).where(old))
    await session.execute(_LOST)


def describe(row: WebhookDelivery) -> DeliveryResponse:
    """A delivery as people see it."""
    return DeliveryResponse.model_validate(
        {
            "id": row.id,
            "webhookId": row.webhook_id,
            "eventId": row.event_id,
            "eventType": row.event_type,
            "status": row.status,
            "attempts": row.attempts,
            "nextAttemptAt": row.next_attempt_at if row.status == "pending" else None,
            "responseStatus": row.response_status,
            "error": row.error,
            "durationMs": row.duration_ms,
            "createdAt": row.created_at,
            "lastAttemptAt": row.last_attempt_at,
            "endedAt": row.ended_at,
        }
    )
