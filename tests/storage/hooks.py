"""Webhooks and published events that tests of delivery start from."""

from typing import Any

from sqlalchemy import insert, select

from domain.events import EventType
from domain.ids import new_id
from domain.webhooks import WebhookRequest
from storage import deliveries, event_log, webhooks
from storage.database import Database
from storage.tables import Event, Webhook, WebhookDelivery

QUICK = {"maxRetries": 3, "initialDelayMs": 10, "maxDelayMs": 40}


def request(url: str = "https://example.com/hook", **fields: Any) -> WebhookRequest:
    """An endpoint as it is asked for, in JSON."""
    return WebhookRequest.model_validate({"url": url, "retryPolicy": QUICK} | fields)


async def open_webhook(database: Database, url: str = "https://example.com/hook", **fields: Any) -> Webhook:
    async with database.transaction() as session:
        return await webhooks.create(session, request(url, **fields), by="ada")


async def get_webhook(database: Database, webhook_id: str) -> Webhook:
    async with database.transaction() as session:
        return await webhooks.get(session, webhook_id)


async def publish(database: Database) -> None:
    """Publish all that waits for it."""
    while True:
        async with database.transaction() as session:
            if not await event_log.publish(session):
                return


async def happen(
    database: Database, *scopes: str, type_: EventType = "config.changed", first: int = 0
) -> None:
    """An event in each of the scopes, in this order, numbered, and published."""
    rows = [
        {"id": new_id("evt"), "type": type_, "scope": scope, "data": {"number": number, "text": "für „dich“"}}
        for number, scope in enumerate(scopes, start=first)
    ]
    async with database.transaction() as session:
        await session.execute(insert(Event), rows)
    await publish(database)


async def take_over(database: Database, webhook_id: str) -> None:
    while True:
        async with database.transaction() as session:
            if not await deliveries.take_over(session, webhook_id):
                return


async def delivery_rows(database: Database, webhook_id: str) -> list[WebhookDelivery]:
    """Every delivery to an endpoint, in the order of their events."""
    query = select(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook_id)
    async with database.transaction() as session:
        return list((await session.execute(query.order_by(WebhookDelivery.position))).scalars())


async def statuses(database: Database, webhook_id: str) -> list[str]:
    return [row.status for row in await delivery_rows(database, webhook_id)]
