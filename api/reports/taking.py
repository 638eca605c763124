"""A batch from its JSON, or its items, to its answer."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from api.server import Server
from domain.idempotency import Answer, Claim
from domain.reports import (
    Batch,
    MetricReport,
    QualityEvaluation,
    check_metrics,
    parse_metrics,
    parse_quality,
)
from storage.intake import Ack

Report = TypeVar("Report", MetricReport, QualityEvaluation)
Take = Callable[[Server, bytes, Claim | None, Ack], Awaitable[Answer]]


async def take_metrics(server: Server, body: bytes, claim: Claim | None, ack: Ack) -> Answer:
    """Keep the good reports of a batch; the answer names the bad ones.

    Raises:
        InvalidRequest: this is no batch.
        RateLimited, Conflict, DatabaseError: as `Intake.metrics`.
    """
    server.intake.require_room(1, ack)
    async with server.turns.next():
        batch = parse_metrics(body, server.snapshot.now_ms(), server.labels)
    return await server.intake.metrics(batch.accepted, _answer(batch, ack), claim, ack)


async def take_items(
    server: Server, items: list[dict[str, Any]], claim: Claim | None = None, ack: Ack = "commit"
) -> Answer:
    """Keep the good ones of items that came by another way than JSON, named as in JSON; as `take_metrics`."""
    server.intake.require_room(1, ack)
    async with server.turns.next():
        batch = check_metrics(items, server.snapshot.now_ms(), server.labels)
    return await server.intake.metrics(batch.accepted, _answer(batch, ack), claim, ack)


async def take_quality(server: Server, body: bytes, claim: Claim | None, ack: Ack) -> Answer:
    """Keep the good evaluations of a batch, as `take_metrics` does."""
    server.intake.require_room(1, ack)
    async with server.turns.next():
        batch = parse_quality(body, server.snapshot.now_ms(), server.labels)
    return await server.intake.quality(batch.accepted, _answer(batch, ack), claim, ack)


def _answer(batch: Batch[Report], ack: Ack) -> Answer:
    body = batch.answer
    if ack == "buffer":
        body["ack"] = ack
    return Answer(200, body)
