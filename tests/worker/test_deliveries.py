"""Events reach endpoints by the worker, end to end: in order, again after failures, and not for ever."""

import base64
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator

import pytest_asyncio
from sqlalchemy import select
from standardwebhooks import Webhook as Verifier
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError

from storage import deliveries, webhooks
from storage.database import Database
from storage.tables import Webhook
from tests.activities.receiver import Answer, Received, Receiver, receiving
from tests.storage.hooks import (
    delivery_rows,
    get_webhook,
    happen,
    open_webhook,
    publish,
    request,
    statuses,
)
from tests.storage.records import events
from tests.waiting import until
from worker.deliveries import Waker
from worker.run import running_worker
from workflows import ids
from workflows import messages as m
from workflows.delivery import DeliveryWorkflow

SECRET = f"whsec_{base64.b64encode(bytes(32)).decode()}"


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as opened:
        yield opened


@pytest_asyncio.fixture
async def client(database: Database, temporal: Client) -> AsyncIterator[Client]:
    """Temporal, rid at the end of the workflows that a test has left."""
    yield temporal
    async with database.transaction() as session:
        left = (await session.execute(select(Webhook.id))).scalars().all()
    for webhook_id in left:
        with contextlib.suppress(RPCError):
            await temporal.get_workflow_handle(ids.delivery(webhook_id)).terminate("the test is over")


@pytest_asyncio.fixture
async def worker(database: Database, client: Client) -> AsyncIterator[None]:
    async with running_worker(database, client, step_seconds=1.0, webhooks_allow_private=True):
        yield


def arrived(receiver: Receiver) -> dict[str, list[int]]:
    """By scope, the numbers of the events that were taken, in the order of their first arrival."""
    found: dict[str, list[int]] = defaultdict(list)
    for one in receiver.taken:
        if one.number not in found[one.scope]:
            found[one.scope].append(one.number)
    return found


async def until_statuses(database: Database, webhook_id: str, *wanted: str) -> None:
    async def reached() -> bool:
        return await statuses(database, webhook_id) == list(wanted)

    await until(reached)


async def outcome(client: Client, webhook_id: str) -> m.DeliveryOutcome:
    handle: WorkflowHandle[DeliveryWorkflow, m.DeliveryOutcome] = client.get_workflow_handle_for(
        DeliveryWorkflow.run, ids.delivery(webhook_id)
    )
    return await handle.result()


async def test_events_arrive_signed_and_in_order_through_failures(
    database: Database, receiver: Receiver, worker: None
) -> None:
    tried: dict[str, int] = defaultdict(int)

    def fail_at_first(one: Received) -> Answer:
        tried[one.json["id"]] += 1
        return Answer(500 if one.number % 3 == 0 and tried[one.json["id"]] <= 2 else 200)

    receiver.decide = fail_at_first
    row = await open_webhook(database, receiver.url, secret=SECRET)
    scopes = [f"s{number % 7}" for number in range(140)]
    await happen(database, *scopes)
    await receiver.until(lambda: len(receiver.taken) == 140)
    assert arrived(receiver) == {f"s{scope}": list(range(scope, 140, 7)) for scope in range(7)}
    for one in receiver.received:
        assert Verifier(SECRET).verify(one.body, one.headers)["id"] == one.headers["webhook-id"]
    await until_statuses(database, row.id, *["delivered"] * 140)
    attempts = [one.attempts for one in await delivery_rows(database, row.id)]
    assert attempts == [3 if number % 3 == 0 else 1 for number in range(140)]


async def test_only_the_types_that_were_asked_for_are_sent(
    database: Database, receiver: Receiver, worker: None
) -> None:
    await open_webhook(database, receiver.url, events=["deployment.held"])
    await happen(database, "a", type_="config.changed")
    await happen(database, "a", type_="deployment.held", first=1)
    await receiver.until(lambda: len(receiver.received) == 1)
    assert receiver.received[0].json["type"] == "deployment.held"


async def test_a_scope_that_fails_backs_off_alone(
    database: Database, receiver: Receiver, worker: None
) -> None:
    receiver.decide = lambda one: Answer(500 if one.scope == "bad" else 200)
    policy = {"initialDelayMs": 600_000, "maxDelayMs": 600_000}
    row = await open_webhook(database, receiver.url, retryPolicy=policy)
    await happen(database, "bad", "good", "bad", "good", "good")
    await until_statuses(database, row.id, "pending", "delivered", "pending", "delivered", "delivered")
    await happen(database, "good", "bad", first=5)
    await receiver.until(lambda: len(receiver.taken) == 4)
    assert arrived(receiver) == {"good": [1, 3, 4, 5]}
    assert [one.number for one in receiver.received if one.scope == "bad"] == [0]


async def test_an_endpoint_that_asks_to_be_left_alone_is(
    database: Database, receiver: Receiver, worker: None
) -> None:
    receiver.decide = lambda one: Answer(
        *((429, {"Retry-After": "1"}) if len(receiver.received) == 1 else (200,))
    )
    row = await open_webhook(database, receiver.url)
    await happen(database, "a")
    await receiver.until(lambda: len(receiver.received) == 1)

    async def held() -> bool:
        return (await get_webhook(database, row.id)).not_before is not None

    await until(held)
    await happen(database, "b", first=1)
    await receiver.until(lambda: len(receiver.taken) == 2)
    refused, *later = receiver.received
    assert min(one.at for one in later) - refused.at >= 1.0


async def test_gone_is_for_good_until_somebody_enables_it(
    database: Database, receiver: Receiver, client: Client, worker: None
) -> None:
    receiver.decide = lambda one: Answer(410)
    row = await open_webhook(database, receiver.url)
    await happen(database, "a", "a")

    async def disabled() -> bool:
        return not (await get_webhook(database, row.id)).enabled

    await until(disabled)
    ended = await outcome(client, row.id)
    assert ended.webhook_id == row.id
    off = await get_webhook(database, row.id)
    assert (off.enabled, off.disabled_reason) == (False, "the endpoint answered 410 Gone")
    assert [one.number for one in receiver.received] == [0]
    (alert,) = await events(database, "alert.raised")
    assert alert.data["details"]["webhookId"] == row.id
    receiver.decide = lambda one: Answer()
    async with database.transaction() as session:
        await webhooks.replace(session, row.id, request(receiver.url))
    await receiver.until(lambda: len(receiver.taken) == 2)
    assert arrived(receiver) == {"a": [0, 1]}


async def test_what_is_given_up_is_told_and_can_be_sent_anew(
    database: Database, receiver: Receiver, worker: None
) -> None:
    receiver.decide = lambda one: Answer(500 if one.number == 0 else 200, body=b"not now")
    retries = {"maxRetries": 2, "initialDelayMs": 5}
    row = await open_webhook(database, receiver.url, events=["config.changed"], retryPolicy=retries)
    await happen(database, "chat", "chat")
    await until_statuses(database, row.id, "failed", "delivered")
    given_up, _ = await delivery_rows(database, row.id)
    assert (given_up.attempts, given_up.response_status) == (3, 500)
    assert given_up.error == "answered 500: not now"
    (alert,) = await events(database, "alert.raised", scope="chat")
    assert alert.data["details"] == {
        "webhookId": row.id,
        "deliveryId": given_up.id,
        "eventId": given_up.event_id,
        "eventType": "config.changed",
        "attempts": 3,
    }
    receiver.decide = lambda one: Answer()
    async with database.transaction() as session:
        await deliveries.redeliver(session, row.id, given_up.id)
    await until_statuses(database, row.id, "delivered", "delivered")
    assert [one.number for one in receiver.taken] == [1, 0]
    assert {one.headers["webhook-id"] for one in receiver.received if one.number == 0} == {given_up.event_id}


async def test_an_alert_that_cannot_be_sent_raises_none(
    database: Database, receiver: Receiver, worker: None
) -> None:
    receiver.decide = lambda one: Answer(500)
    row = await open_webhook(database, receiver.url, retryPolicy={"maxRetries": 0})
    await happen(database, "chat")
    await until_statuses(database, row.id, "failed")
    await publish(database)
    await until_statuses(database, row.id, "failed", "failed")
    await publish(database)
    assert [event.type for event in await events(database)] == ["config.changed", "alert.raised"]


async def test_a_deleted_endpoint_is_left_in_peace_and_its_workflow_ends(
    database: Database, receiver: Receiver, client: Client, worker: None
) -> None:
    row = await open_webhook(database, receiver.url)
    await happen(database, "a")
    await until_statuses(database, row.id, "delivered")
    async with database.transaction() as session:
        await webhooks.delete(session, row.id)
    assert (await outcome(client, row.id)).totals.delivered == 1
    await happen(database, "a", first=1)
    other = await open_webhook(database, receiver.url)
    await happen(database, "a", first=2)
    await until_statuses(database, other.id, "delivered")
    assert [one.number for one in receiver.received] == [0, 2]


async def test_restarts_of_the_receiver_and_of_the_worker_lose_nothing(
    database: Database, receiver: Receiver, client: Client
) -> None:
    row = await open_webhook(
        database, receiver.url, retryPolicy={"maxRetries": 1000, "initialDelayMs": 20, "maxDelayMs": 50}
    )
    scopes = [f"s{number % 5}" for number in range(500)]
    async with running_worker(database, client, step_seconds=1.0, webhooks_allow_private=True):
        await happen(database, *scopes[:250])
        await receiver.until(lambda: len(receiver.taken) > 60)
        await receiver.stop()
    await happen(database, *scopes[250:], first=250)
    async with running_worker(database, client, step_seconds=1.0, webhooks_allow_private=True):
        await receiver.start()
        await until_statuses(database, row.id, *["delivered"] * 500)
    assert arrived(receiver) == {f"s{scope}": list(range(scope, 500, 5)) for scope in range(5)}


async def test_private_addresses_are_refused_unless_allowed(
    database: Database, receiver: Receiver, client: Client
) -> None:
    row = await open_webhook(
        database,
        f"http://localhost:{receiver.port}",
        retryPolicy={"maxRetries": 0},
        events=["config.changed"],
    )
    async with running_worker(database, client, step_seconds=1.0):
        await happen(database, "a")
        await until_statuses(database, row.id, "failed")
    (refused,) = await delivery_rows(database, row.id)
    assert refused.error is not None
    assert "OPTIMIZER_WEBHOOKS_ALLOW_PRIVATE" in refused.error
    assert receiver.connections == 0


async def test_a_waker_is_silent_where_nothing_is_due(
    database: Database, receiver: Receiver, client: Client
) -> None:
    row = await open_webhook(database, receiver.url)
    waker = Waker(database, client)
    assert await waker.wake() == 0
    await happen(database, "a")
    assert await waker.wake() == 1
    described = await client.get_workflow_handle(ids.delivery(row.id)).describe()
    assert await described.static_summary() == "webhook 127.0.0.1"
    async with database.transaction() as session:
        await deliveries.take_over(session, row.id)
        await webhooks.replace(session, row.id, request(receiver.url, enabled=False))
    assert await waker.wake() == 1, "its workflow is to end"
    assert await waker.wake() == 0
