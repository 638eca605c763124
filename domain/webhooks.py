"""Webhooks: what is asked of an endpoint, and what it is sent."""

import base64
import binascii
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from domain.addresses import HTTP_URL_PATTERN, MAX_URL, require_http_url
from domain.base import Message
from domain.events import EventMessage, EventType

SECRET_PREFIX = "whsec_"
SECRET_BYTES = range(24, 65)
ROTATION_HOURS = 24
"""For how long a secret that was replaced signs beside its successor."""
MAX_HEADERS = 50
MAX_HEADER_VALUE = 4096

_SECRET_PATTERN = (
    rf"^({SECRET_PREFIX}([A-Za-z0-9+/]{{4}}){{7,21}}"
    r"[A-Za-z0-9+/]{2}([A-Za-z0-9+/]{2}|[A-Za-z0-9+/]=|==))?$"
)
_TOKEN = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$"
_VALUE = r"^[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?$"
# Set by the sender, or about the connection alone.
_RESERVED = frozenset(
    {
        *("host", "content-length", "content-type", "content-encoding", "user-agent", "expect"),
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)

DeliveryStatus = Literal["pending", "delivered", "failed"]
Source = Literal["api", "file"]


def _secret(text: str) -> str:
    """An empty one means: none."""
    encoded = text.removeprefix(SECRET_PREFIX)
    if not text:
        return text
    try:
        length = len(base64.b64decode(encoded, validate=True))
    except binascii.Error:
        length = 0
    if encoded == text or length not in SECRET_BYTES:
        size = f"{SECRET_BYTES.start} to {SECRET_BYTES.stop - 1}"
        raise ValueError(f"must be {SECRET_PREFIX!r} and the base64 of {size} bytes")
    return text


def _headers(headers: dict[str, str]) -> dict[str, str]:
    if len(headers) > MAX_HEADERS:
        raise ValueError(f"must be at most {MAX_HEADERS}")
    seen = set()
    for name, value in headers.items():
        lower = name.lower()
        if not re.fullmatch(_TOKEN, name):
            raise ValueError(f"{name!r} is no name of an HTTP header")
        if lower in _RESERVED or lower.startswith("webhook-"):
            raise ValueError(f"{name} is set by the optimizer itself")
        if lower in seen:
            raise ValueError(f"{name} is given twice")
        # The value may be a credential, and is never repeated.
        if len(value) > MAX_HEADER_VALUE or not re.fullmatch(_VALUE, value):
            raise ValueError(
                f"the value of {name} must be 1 to {MAX_HEADER_VALUE} printable ASCII characters, "
                "without spaces at its ends"
            )
        seen.add(lower)
    return headers


def _distinct(types: list[EventType]) -> list[EventType]:
    if len(set(types)) < len(types):
        raise ValueError("a type is named twice")
    return types


Url = Annotated[
    str,
    AfterValidator(require_http_url),
    WithJsonSchema({"type": "string", "pattern": HTTP_URL_PATTERN, "maxLength": MAX_URL}),
]
Secret = Annotated[
    str,
    AfterValidator(_secret),
    WithJsonSchema({"type": "string", "pattern": _SECRET_PATTERN}),
]
Headers = Annotated[
    dict[str, str],
    AfterValidator(_headers),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": MAX_HEADERS,
            "propertyNames": {"pattern": _TOKEN},
            "additionalProperties": {"type": "string", "pattern": _VALUE, "maxLength": MAX_HEADER_VALUE},
        }
    ),
]
EventTypes = Annotated[
    list[EventType],
    Field(min_length=1, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_distinct),
]


class RetryPolicy(Message):
    """How often, and how soon, a failed delivery is tried again; as it stands, for about four hours."""

    max_retries: int = Field(default=15, ge=0, le=1000)
    backoff: Literal["exponential", "linear"] = "exponential"
    initial_delay_ms: int = Field(default=1_000, ge=1, le=3_600_000)
    max_delay_ms: int = Field(default=3_600_000, ge=1, le=86_400_000)

    @model_validator(mode="after")
    def _ordered(self) -> "RetryPolicy":
        if self.max_delay_ms < self.initial_delay_ms:
            raise ValueError("maxDelayMs must not be less than initialDelayMs")
        return self


class WebhookRequest(Message):
    """An endpoint to send events to; without `events`, those of every type.

    Headers and secret cannot be read back. Where an endpoint is replaced, those that are left out are kept;
    an empty object, or an empty string, removes them. Without a secret nothing is signed.
    """

    url: Url
    events: EventTypes | None = None
    headers: Headers | None = Field(default=None, repr=False)
    retry_policy: RetryPolicy = RetryPolicy()
    secret: Secret | None = Field(default=None, repr=False)
    enabled: bool = True


class WebhookResponse(Message):
    """An endpoint, without its secret and the values of its headers.

    `disabledReason` is there where it was disabled by its own answer.
    """

    id: str
    url: str
    events: list[EventType] | None = None
    header_names: list[str]
    has_secret: bool
    retry_policy: RetryPolicy
    enabled: bool
    disabled_reason: str | None = None
    source: Source
    created_at: int
    created_by: str
    updated_at: int


class DeliveryResponse(Message):
    """An event on its way to an endpoint. `nextAttemptAt` while it is pending: not before that.

    `attempts`, `responseStatus`, `error` and `durationMs` are those since it was last sent anew.
    """

    id: str
    webhook_id: str
    event_id: str
    event_type: EventType
    status: DeliveryStatus
    attempts: int
    next_attempt_at: int | None = None
    response_status: int | None = None
    error: str | None = None
    duration_ms: float | None = None
    created_at: int
    last_attempt_at: int | None = None
    ended_at: int | None = None


class Sender(Message):
    """Which optimizer sends."""

    version: str
    mode: Literal["sidecar", "standalone", "daemon"]
    instance_id: str


def body_of(event: EventMessage, sender: Sender, now_ms: int) -> dict[str, Any]:
    """What is posted: the event under `event`, with `metadata`, and its fields at the top besides."""
    told = event.to_json()
    metadata = {"optimizer": sender.to_json(), "timestamp": now_ms}
    return {"event": told, "metadata": metadata, **told}
