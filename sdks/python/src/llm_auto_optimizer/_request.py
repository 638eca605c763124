"""A call of the API before it is sent, and its answer once it is there: no I/O.

What sends it (`_transport.py`) is all that a client of another kind, say an asynchronous one, needs anew.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Generic, TypeVar

import httpx

from llm_auto_optimizer._errors import UnexpectedAnswerError, error_from_answer
from llm_auto_optimizer._retry import parse_retry_after

T = TypeVar("T")

USER_AGENT = f"llm-auto-optimizer-python/{version('llm-auto-optimizer')}"
_PREFIX = "/api/v1"
_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Request(Generic[T]):
    """A call whose answer is a `T`. Every try of it carries the same headers, `Idempotency-Key` included."""

    method: str
    path: str
    params: Mapping[str, Any]
    headers: Mapping[str, str]
    content: bytes | None

    @property
    def url(self) -> str:
        return _PREFIX + self.path


def get(path: str, params: Mapping[str, Any] | None = None, etag: str | None = None) -> Request[Any]:
    """A read. With `etag`, the answer may be 304: nothing changed since."""
    headers = {} if etag is None else {"If-None-Match": etag}
    return Request("GET", path, _present(params or {}), headers, None)


def post(path: str, body: Mapping[str, Any], *, idempotency_key: str | None = None) -> Request[Any]:
    """A write under one `Idempotency-Key`, made here if not given. None values in `body` are left out.

    Raises:
        ValueError: `body` holds NaN or infinity, which JSON has not.
        TypeError: `body` holds what JSON cannot say.
    """
    return post_encoded(path, encode(_present(body)), idempotency_key=idempotency_key)


def post_encoded(path: str, content: bytes, *, idempotency_key: str | None = None) -> Request[Any]:
    """As `post`, of a body that is JSON already."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    return Request("POST", path, {}, headers, content)


def put(path: str, body: Mapping[str, Any]) -> Request[Any]:
    """A replacement, which may be repeated as it is. Raises as `post` does."""
    return Request("PUT", path, {}, {"Content-Type": "application/json"}, encode(body))


def encode(body: Any) -> bytes:
    """Strict JSON in UTF-8."""
    return _ENCODER.encode(body).encode()


def decode(response: httpx.Response) -> Any:
    """The JSON of a 2xx answer.

    Raises:
        OptimizerError: the class that the answer's code stands for, or `UnexpectedAnswerError`.
    """
    body = _json_or_text(response)
    if not response.is_success:
        raise error_from_answer(
            response.status_code,
            body,
            request_id=response.headers.get("X-Request-Id"),
            retry_after=parse_retry_after(response.headers.get("Retry-After")),
        )
    if not isinstance(body, dict):
        raise UnexpectedAnswerError(
            "the answer is no JSON object",
            status=response.status_code,
            body=body,
            request_id=response.headers.get("X-Request-Id"),
        )
    return body


def _json_or_text(response: httpx.Response) -> Any:
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        return response.text


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
