"""A batch from its JSON to its answer."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from api.server import Server
from domain.idempotency import Answer, Claim
from domain.reports import Batch, MetricReport, QualityEvaluation, parse_metrics, parse_quality
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
    batch = parse_metrics(body, server.snapshot.now_ms(), server.labels)
    return await server.intake.metrics(batch.accepted, _answer(batch, ack), claim, ack)


async def take_quality(server: Server, body: bytes, claim: Claim | None, ack: Ack) -> Answer:
    """Keep the good evaluations of a batch, as `take_metrics` does."""
    server.intake.require_room(1, ack)
    batch = parse_quality(body, server.snapshot.now_ms(), server.labels)
    return await server.intake.quality(batch.accepted, _answer(batch, ack), claim, ack)


def _answer(batch: Batch[Report], ack: Ack) -> Answer:
    body = batch.answer
    if ack == "buffer":
        body["ack"] = ack
    return Answer(200, body)
