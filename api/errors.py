"""Errors as clients see them: one format for every answer that is not a success."""

import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import ValidationError

from domain.base import Message
from domain.errors import InvalidRequest, OptimizerError, TimedOut


class MalformedBody(InvalidRequest):
    """It is not JSON, or none that can be meant."""


class MethodNotAllowed(InvalidRequest):
    status = 405


class PayloadTooLarge(InvalidRequest):
    status = 413


class UnsupportedMediaType(InvalidRequest):
    status = 415


class HeadTooLarge(InvalidRequest):
    status = 431


class SlowRequest(TimedOut):
    """It was the client that took too long."""

    status = 408


class ErrorBody(Message):
    """`retryable`: the same request may succeed later."""

    code: str
    message: str
    details: Any = None
    retryable: bool


class ErrorResponse(Message):
    """Every answer that is not a success."""

    error: ErrorBody
    request_id: str
    timestamp: int


def error_response(error: OptimizerError, request_id: str) -> JSONResponse:
    """The answer that tells of an error."""
    body = ErrorResponse(
        error=ErrorBody(
            code=error.code, message=error.message, details=error.details, retryable=error.retryable
        ),
        request_id=request_id,
        timestamp=time.time_ns() // 1_000_000,
    )
    return JSONResponse(body.to_json(), status_code=error.status, headers=error_headers(error))


def error_headers(error: OptimizerError) -> dict[str, str]:
    """What the answer to an error says in its headers, whatever the form of its body."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def invalid_request(error: ValidationError) -> InvalidRequest:
    """What pydantic found wrong, as the client's error."""
    return invalid([dict(found) for found in error.errors(include_url=False)])


def invalid(found: Sequence[Mapping[str, Any]]) -> InvalidRequest:
    """The faults that were found, as the client's error; `details` lists them by field."""
    faults = [{"field": _field(fault["loc"]), "reason": str(fault["msg"])} for fault in found]
    first = faults[0]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return InvalidRequest(f"{first['field']}: {first['reason']}{more}", details=faults)


def _field(location: Sequence[int | str]) -> str:
    """`('body', 'config', 'stopSequences', 0)` as `config.stopSequences[0]`."""
    path = ""
    for part in location[1:] if location and location[0] in ("body", "query", "path", "header") else location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".") or "body"
