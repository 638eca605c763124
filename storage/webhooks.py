"""Endpoints that are sent events."""

import hashlib
from collections.abc import Sequence

from sqlalchemy import delete as delete_from
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.addresses import host_of
from domain.errors import Conflict, NotFound
from domain.ids import new_id
from domain.webhooks import ROTATION_HOURS, Source, WebhookRequest, WebhookResponse
from storage import event_log
from storage.events import alert
from storage.tables import Webhook, db_clock, db_now

FILE = "settings file"
"""Who made the endpoints that the settings' file names."""
_ONE_SYNC = text("SELECT pg_advisory_xact_lock(hashtextextended('webhooks of the settings', 0))")


async def create(session: AsyncSession, request: WebhookRequest, *, by: str) -> Webhook:
    """A new endpoint, which is sent what is published from now on."""
    row = await _new(session, new_id("wh"), request, source="api", by=by)
    await session.flush()
    return row


async def get(session: AsyncSession, webhook_id: str, *, lock: bool = False) -> Webhook:
    """An endpoint.

    Raises:
        NotFound: there is none of that id.
    """
    row = await session.get(Webhook, webhook_id, with_for_update=lock)
    if row is None:
        raise NotFound(f"no webhook {webhook_id!r}")
    return row


async def list_webhooks(session: AsyncSession, *, limit: int, offset: int) -> tuple[int, list[Webhook]]:
    """How many endpoints there are, and a page of them, the newest first."""
    total = (await session.execute(select(func.count()).select_from(Webhook))).scalar_one()
    page = select(Webhook).order_by(Webhook.created_at.desc(), Webhook.id.desc())
    return total, list((await session.execute(page.limit(limit).offset(offset))).scalars())


async def replace(session: AsyncSession, webhook_id: str, request: WebhookRequest) -> Webhook:
    """Replace an endpoint, but for headers and secret where they are left out.

    One that is enabled again goes on with what still waits for it and what is published from now on.

    Raises:
        NotFound: there is none of that id.
        Conflict: the settings' file has it.
    """
    row = await _editable(session, webhook_id)
    await _change(session, row, request)
    await session.flush()
    return row


async def delete(session: AsyncSession, webhook_id: str) -> Webhook:
    """Delete an endpoint with its deliveries; gives what it was.

    Raises:
        NotFound: there is none of that id.
        Conflict: the settings' file has it.
    """
    row = await _editable(session, webhook_id)
    await session.delete(row)
    await session.flush()
    return row


async def disable(session: AsyncSession, webhook_id: str, reason: str) -> None:
    """Send an endpoint nothing more, unless that is so already, and raise an alert."""
    row = await session.get(Webhook, webhook_id, with_for_update=True)
    if row is None or not row.enabled:
        return
    row.enabled, row.disabled_reason, row.updated_at = False, reason, db_now()
    details = {"webhookId": row.id, "host": host_of(row.url)}
    alert(session, "global", "high", f"webhook {row.id} was disabled: {reason}", details)


async def sync_file(session: AsyncSession, endpoints: Sequence[WebhookRequest]) -> None:
    """Bring the endpoints of the settings' file to what it says; the others are left alone.

    An endpoint is known by its URL. What is left out is removed. One that was disabled by its own answer is
    tried again.
    """
    await session.execute(_ONE_SYNC)
    wanted = {_file_id(request.url): request for request in endpoints}
    gone = delete_from(Webhook).where(Webhook.source == "file", Webhook.id.not_in(wanted))
    await session.execute(gone)
    for webhook_id, request in sorted(wanted.items()):
        whole = request.model_copy(update={"headers": request.headers or {}, "secret": request.secret or ""})
        row = await session.get(Webhook, webhook_id, with_for_update=True)
        if row is None:
            await _new(session, webhook_id, whole, source="file", by=FILE)
        else:
            await _change(session, row, whole)
    await session.flush()


async def enabled(session: AsyncSession) -> set[str]:
    """The ids of the endpoints that are to be sent events."""
    return set((await session.execute(select(Webhook.id).where(Webhook.enabled))).scalars())


async def secrets_of(session: AsyncSession, row: Webhook) -> list[str]:
    """The secrets that sign now, the present one first."""
    clock = (await session.execute(select(db_clock()))).scalar_one()
    lasts = row.previous_secret_until is not None and row.previous_secret_until > clock
    return [secret for secret in (row.secret, row.previous_secret if lasts else None) if secret]


def describe(row: Webhook) -> WebhookResponse:
    """An endpoint as people see it."""
    return WebhookResponse.model_validate(
        {
            "id": row.id,
            "url": row.url,
            "events": row.events,
            "headerNames": sorted(row.headers),
            "hasSecret": row.secret is not None,
            "retryPolicy": row.retry_policy,
            "enabled": row.enabled,
            "disabledReason": row.disabled_reason,
            "source": row.source,
            "createdAt": row.created_at,
            "createdBy": row.created_by,
            "updatedAt": row.updated_at,
        }
    )


def _file_id(url: str) -> str:
    return f"wh_{hashlib.sha256(url.encode()).hexdigest()[:26]}"


async def _new(
    session: AsyncSession, webhook_id: str, request: WebhookRequest, *, source: Source, by: str
) -> Webhook:
    row = Webhook(
        id=webhook_id,
        url=request.url,
        events=_events(request),
        headers=request.headers or {},
        secret=request.secret or None,
        retry_policy=request.retry_policy.to_json(),
        enabled=request.enabled,
        source=source,
        position=await event_log.end(session),
        created_by=by,
    )
    session.add(row)
    return row


async def _editable(session: AsyncSession, webhook_id: str) -> Webhook:
    row = await get(session, webhook_id, lock=True)
    if row.source == "file":
        raise Conflict(f"{webhook_id} is in the server's settings file; change it there")
    return row


async def _change(session: AsyncSession, row: Webhook, request: WebhookRequest) -> None:
    if request.enabled and not row.enabled:
        row.position = await event_log.end(session)
    row.url, row.events, row.enabled = request.url, _events(request), request.enabled
    row.disabled_reason = None
    row.retry_policy = request.retry_policy.to_json()
    if request.headers is not None:
        row.headers = request.headers
    if request.secret is not None:
        _change_secret(row, request.secret or None)
    if session.is_modified(row):
        row.updated_at = db_now()


def _change_secret(row: Webhook, secret: str | None) -> None:
    if secret == row.secret:
        return
    rotating = secret is not None and row.secret is not None
    row.previous_secret = row.secret if rotating else None
    row.previous_secret_until = db_clock(ROTATION_HOURS * 3600.0) if rotating else None
    row.secret = secret


def _events(request: WebhookRequest) -> list[str] | None:
    return None if request.events is None else sorted(request.events)
