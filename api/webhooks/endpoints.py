"""`/webhooks`: endpoints that are sent events, and their deliveries."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from sqlalchemy.ext.asyncio import AsyncSession

from api.auth import Admin
from api.body import StrictRoute
from api.commands import AdminActor, AdminCommand, Command
from api.idempotency import json_answer
from api.paging import PageQuery
from api.server import Server, ServerDep
from domain.addresses import names_private_host
from domain.base import Message
from domain.errors import InvalidRequest
from domain.idempotency import Answer
from domain.webhooks import DeliveryResponse, DeliveryStatus, WebhookRequest, WebhookResponse
from storage import audit, deliveries, idempotency, webhooks

router = APIRouter(prefix="/webhooks", tags=["webhooks"], route_class=StrictRoute)


class WebhookList(Message):
    """A page of endpoints, the newest first, and how many there are."""

    total: int
    webhooks: list[WebhookResponse]


class DeliveryList(Message):
    """A page of deliveries, the newest event first, and how many there are."""

    total: int
    deliveries: list[DeliveryResponse]


@router.get("", response_model_exclude_none=True)
async def list_webhooks(server: ServerDep, _: Admin, page: PageQuery) -> WebhookList:
    """Every endpoint, those of the server's settings file too."""
    async with server.database.transaction() as session:
        total, rows = await webhooks.list_webhooks(session, limit=page.limit, offset=page.offset)
    return WebhookList(total=total, webhooks=[webhooks.describe(row) for row in rows])


@router.post("", response_model=WebhookResponse, response_model_exclude_none=True)
async def create_webhook(server: ServerDep, command: AdminCommand, body: WebhookRequest) -> JSONResponse:
    """Send an endpoint what is published from now on. Its secret and headers are never shown again."""
    _require_allowed(server, body)

    async def create(session: AsyncSession) -> Message:
        row = await webhooks.create(session, body, by=command.actor.name)
        audit.record(session, command.actor, "webhook.create", row.id, {"url": row.url})
        return webhooks.describe(row)

    return await _once(server, command, create)


@router.get("/{webhook_id}", response_model_exclude_none=True)
async def get_webhook(server: ServerDep, _: Admin, webhook_id: str) -> WebhookResponse:
    """An endpoint."""
    async with server.database.transaction() as session:
        return webhooks.describe(await webhooks.get(session, webhook_id))


@router.put("/{webhook_id}", response_model_exclude_none=True)
async def replace_webhook(
    server: ServerDep, actor: AdminActor, webhook_id: str, body: WebhookRequest
) -> WebhookResponse:
    """Replace an endpoint. `headers` and `secret`, which nobody can read back, are kept where they are left
    out; an empty object or string removes them. A secret that is replaced goes on signing for a day.
    """
    _require_allowed(server, body)
    async with server.database.transaction() as session:
        row = await webhooks.replace(session, webhook_id, body)
        audit.record(session, actor, "webhook.update", row.id, {"url": row.url})
        return webhooks.describe(row)


@router.delete("/{webhook_id}", response_model_exclude_none=True)
async def delete_webhook(server: ServerDep, actor: AdminActor, webhook_id: str) -> WebhookResponse:
    """Delete an endpoint with its deliveries; the answer is what it was."""
    async with server.database.transaction() as session:
        row = await webhooks.delete(session, webhook_id)
        audit.record(session, actor, "webhook.delete", row.id, {"url": row.url})
        return webhooks.describe(row)


@router.get("/{webhook_id}/deliveries", response_model_exclude_none=True)
async def list_deliveries(
    server: ServerDep,
    _: Admin,
    webhook_id: str,
    page: PageQuery,
    status: Annotated[DeliveryStatus | None, Query(description="Only those.")] = None,
) -> DeliveryList:
    """What was sent, is on its way or was given up. What ended is kept for 30 days."""
    async with server.database.transaction() as session:
        await webhooks.get(session, webhook_id)
        total, rows = await deliveries.list_deliveries(
            session, webhook_id, status=status, limit=page.limit, offset=page.offset
        )
    return DeliveryList(total=total, deliveries=[deliveries.describe(row) for row in rows])


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/redeliver",
    response_model=DeliveryResponse,
    response_model_exclude_none=True,
)
async def redeliver(
    server: ServerDep, command: AdminCommand, webhook_id: str, delivery_id: str
) -> JSONResponse:
    """Send an event anew, under its own id, beside what is sent in order."""

    async def change(session: AsyncSession) -> Message:
        row = await deliveries.redeliver(session, webhook_id, delivery_id)
        audit.record(session, command.actor, "webhook.redeliver", row.id, {"eventId": row.event_id})
        return deliveries.describe(row)

    return await _once(server, command, change)


def _require_allowed(server: Server, body: WebhookRequest) -> None:
    if not server.webhooks_allow_private and names_private_host(body.url):
        raise InvalidRequest(
            "url: is not in the public internet, and OPTIMIZER_WEBHOOKS_ALLOW_PRIVATE is off",
            details=[{"field": "url", "reason": "names a private host"}],
        )


async def _once(
    server: Server, command: Command, change: Callable[[AsyncSession], Awaitable[Message]]
) -> JSONResponse:
    """Make a change and keep its answer, in one transaction; or give the first answer to the claim."""
    async with server.database.transaction() as session:
        answer = await idempotency.earlier_answer(session, command.claim)
        if answer is None:
            answer = Answer(200, (await change(session)).to_json())
            await idempotency.keep_answer(session, command.claim, answer)
    return json_answer(answer)
