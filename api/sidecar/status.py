"""How the sidecar is and what it does, with what the server says of itself where it can be reached."""

import asyncio
import time
from collections import deque
from typing import Any

import psutil
from llm_auto_optimizer import OptimizerError
from llm_auto_optimizer._request import decode, get
from llm_auto_optimizer._transport import AsyncTransport
from pydantic import ValidationError

from api.sidecar.delivery import Deliverer
from api.sidecar.writer import Writer
from api.system.schemas import (
    ControlLoop,
    Deployments,
    HealthCheck,
    HealthResponse,
    Metrics,
    Resources,
    Status,
    StatusResponse,
)
from domain.base import Message

KEPT_SECONDS = 1.0
RATE_SECONDS = 10.0


class Spooled(Message):
    """What waits on disk and its bounds; reports since the start, as `Counts` has them."""

    items: int
    bytes: int
    max_items: int
    max_bytes: int
    accepted: int
    refused: int
    delivered: int
    rejected: int
    dropped: int
    uncertain: int
    last_delivered: int


class SidecarStatus(StatusResponse):
    """The server's, of which the loop and the deployments are its own, `ERROR` and 0 while it is away."""

    upstream: str
    spool: Spooled


class StatusReader:
    """Reads both. What the server says is kept for a second."""

    def __init__(
        self, writer: Writer, deliverer: Deliverer, transport: AsyncTransport, *, version: str
    ) -> None:
        self._writer = writer
        self._deliverer = deliverer
        self._transport = transport
        self._version = version
        self._started = time.monotonic()
        self._process = psutil.Process()
        self._process.cpu_percent()
        self._accepted: deque[tuple[float, int]] = deque()
        self._lock = asyncio.Lock()
        self._kept: dict[str, tuple[float, dict[str, Any] | OptimizerError, float]] = {}

    def sample(self) -> None:
        """Note how much was taken so far; to be called every second or so."""
        now = time.monotonic()
        self._accepted.append((now, self._writer.counts.accepted))
        while self._accepted[0][0] < now - RATE_SECONDS:
            self._accepted.popleft()

    async def health(self) -> HealthResponse:
        """`unhealthy` where nothing can be spooled, `degraded` while the server is away. Never raises."""
        answer, took = await self._ask("health")
        away = str(answer) if isinstance(answer, OptimizerError) else None
        failure = self._writer.failure
        checks = [
            HealthCheck(name="upstream", healthy=away is None, message=away, latency=took),
            HealthCheck(name="spool", healthy=failure is None, message=failure),
        ]
        state: Status = "unhealthy" if failure else "degraded" if away else "healthy"
        uptime = round((time.monotonic() - self._started) * 1000)
        return HealthResponse(status=state, version=self._version, uptime=uptime, checks=checks)

    async def read(self) -> SidecarStatus:
        """The present state. Never raises."""
        answer, _ = await self._ask("status")
        loop, deployments = _of_server(answer)
        items, size = self._writer.waiting
        bounds, counts = self._writer.bounds, self._writer.counts
        return SidecarStatus(
            mode="sidecar",
            control_loop=loop,
            deployments=deployments,
            metrics=Metrics(
                buffer_size=items, ingestion_rate=self._rate(), last_flush=self._deliverer.last_delivered
            ),
            resources=Resources(
                memory_usage_mb=round(self._process.memory_info().rss / 2**20, 1),
                cpu_usage_percent=self._process.cpu_percent(),
            ),
            upstream=self._transport.base,
            spool=Spooled(
                items=items,
                bytes=size,
                max_items=bounds.items,
                max_bytes=bounds.bytes,
                accepted=counts.accepted,
                refused=counts.refused,
                delivered=counts.delivered,
                rejected=counts.rejected,
                dropped=counts.dropped,
                uncertain=counts.uncertain,
                last_delivered=self._deliverer.last_delivered,
            ),
        )

    def _rate(self) -> float:
        if not self._accepted:
            return 0.0
        since, before = self._accepted[0]
        return (self._writer.counts.accepted - before) / max(1.0, time.monotonic() - since)

    async def _ask(self, what: str) -> tuple[dict[str, Any] | OptimizerError, float]:
        """What the server answers, or why it does not, and in how many ms."""
        async with self._lock:
            asked, answer, took = self._kept.get(what, (float("-inf"), OptimizerError("not asked"), 0.0))
            if time.monotonic() - asked > KEPT_SECONDS:
                began = time.monotonic()
                try:
                    answer = decode(await self._transport.send(get(f"/{what}")))
                except OptimizerError as error:
                    answer = error
                took = round((time.monotonic() - began) * 1000, 3)
                self._kept[what] = (time.monotonic(), answer, took)
            return answer, took


def _of_server(answer: dict[str, Any] | OptimizerError) -> tuple[ControlLoop, Deployments]:
    if not isinstance(answer, OptimizerError):
        try:
            return (
                ControlLoop.model_validate(answer.get("controlLoop")),
                Deployments.model_validate(answer.get("deployments")),
            )
        except ValidationError:
            pass
    return ControlLoop(state="ERROR", last_run=0, next_run=0), Deployments(active=0, pending=0)
