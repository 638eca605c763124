"""A batch from its JSON to the spool: judged as the server judges it."""

import time
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from api.sidecar.spool import Kind, Taken, chunks_of
from api.sidecar.writer import Writer
from domain.idempotency import Answer, Claim
from domain.label_limits import LabelLimits
from domain.reports import Batch, parse_metrics, parse_quality

Ack = Literal["commit", "buffer"]

_encode = msgspec.json.Encoder().encode
_PARSERS: dict[Kind, Callable[[bytes, int, LabelLimits], Batch[Any]]] = {
    "metrics": parse_metrics,
    "evaluations": parse_quality,
}


class Reports:
    """Takes batches for a server that may be away."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._labels = LabelLimits()

    async def take(self, kind: Kind, body: bytes, claim: Claim | None, ack: Ack) -> Answer:
        """Keep the good items of a batch on disk; the answer names the bad ones.

        Raises:
            InvalidRequest: this is no batch.
            RateLimited, ServiceUnavailable, Conflict: as `Writer.take`.
        """
        now_ms = time.time_ns() // 1_000_000
        batch = _PARSERS[kind](body, now_ms, self._labels)
        told = batch.answer | ({"ack": ack} if ack == "buffer" else {})
        chunks = chunks_of(kind, map(_encode, batch.accepted))
        return await self._writer.take(Taken(chunks, Answer(200, told), claim, now_ms))
