"""One attempt to send an event: the request, its signature, and what the answer means."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import httpcore
from standardwebhooks import Webhook as Signer

from activities.guarded_network import GuardedNetwork, PrivateAddress
from domain.events import EventMessage
from domain.retries import retry_after_ms
from domain.webhooks import Sender, body_of

ATTEMPT_SECONDS = 15.0
MAX_ANSWER_BYTES = 16 * 1024
EXCERPT = 300
IDLE_SECONDS = 30.0
_FAILURES = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    PrivateAddress,
    OSError,
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to send to; every one of `secrets` signs."""

    url: str
    headers: Mapping[str, str]
    secrets: Sequence[str]


@dataclass(frozen=True, slots=True)
class Reply:
    """What an attempt was answered with; `status` is None where there was no answer. Times in ms.

    `error` is None for a success. `retry_after_ms` is what a 429 or 503 asked for.
    """

    status: int | None
    error: str | None
    duration_ms: float
    retry_after_ms: int | None = None


class Poster:
    """Sends events over connections that are kept open. An async context manager."""

    def __init__(self, sender: Sender, *, allow_private: bool) -> None:
        self._sender = sender
        self._pool = httpcore.AsyncConnectionPool(
            # As many as there are lanes at work: one endpoint must not wait for another's connection.
            max_connections=None,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=GuardedNetwork(allow_private=allow_private),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.aclose()

    async def post(self, endpoint: Endpoint, event: EventMessage) -> Reply:
        """Send it once. Redirections are not followed; of the answer only the beginning is read."""
        now = datetime.now(UTC)
        message = body_of(event, self._sender, int(now.timestamp() * 1000))
        body = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
        headers = {
            **endpoint.headers,
            "Content-Type": "application/json",
            "User-Agent": f"llm-auto-optimizer/{self._sender.version}",
            **_signed(endpoint.secrets, event.id, now, body),
        }
        began = time.perf_counter()
        reply = await self._exchange(endpoint.url, headers, body.encode())
        return Reply(reply.status, reply.error, (time.perf_counter() - began) * 1000, reply.retry_after_ms)

    async def _exchange(self, url: str, headers: dict[str, str], body: bytes) -> Reply:
        answer: httpcore.Response | None = None
        text = b""
        try:
            async with (
                asyncio.timeout(ATTEMPT_SECONDS),
                self._pool.stream("POST", url, headers=list(headers.items()), content=body) as answer,
            ):
                async for part in answer.aiter_stream():
                    text += part
                    if len(text) >= MAX_ANSWER_BYTES:
                        break
        except TimeoutError:
            failure = f"no answer within {ATTEMPT_SECONDS:g} s"
        except _FAILURES as error:
            failure = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        else:
            failure = ""
        # Once there is a status, it says whether the event was taken, however the rest of the answer fares.
        return Reply(None, printable(failure), 0) if answer is None else _read(answer, text)


def _signed(secrets: Sequence[str], event_id: str, now: datetime, body: str) -> dict[str, str]:
    stamped = {"webhook-id": event_id, "webhook-timestamp": str(int(now.timestamp()))}
    if secrets:
        signatures = [Signer(secret).sign(event_id, now, body) for secret in secrets]
        stamped["webhook-signature"] = " ".join(signatures)
    return stamped


def _read(answer: httpcore.Response, text: bytes) -> Reply:
    if 200 <= answer.status < 300:
        return Reply(answer.status, None, 0)
    excerpt = printable(text.decode(errors="replace"))
    asked = None
    if answer.status in (429, 503):
        header = next((value for name, value in answer.headers if name.lower() == b"retry-after"), b"")
        asked = retry_after_ms(header.decode("latin-1"), time.time_ns() // 1_000_000)
    return Reply(answer.status, f"answered {answer.status}" + (f": {excerpt}" if excerpt else ""), 0, asked)


def printable(text: str) -> str:
    """A text on one line, cut where it is long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= EXCERPT else f"{line[: EXCERPT - 1]}…"
