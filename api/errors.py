"""Errors as clients see them: one format for every answer that is not a success."""

import logging
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from domain.base import Message
from domain.errors import (
    Forbidden,
    InternalError,
    InvalidRequest,
    NotFound,
    OptimizerError,
    RateLimited,
    ServiceUnavailable,
    TimedOut,
    Unauthorized,
)

log = logging.getLogger(__name__)


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


_BY_STATUS: dict[int, type[OptimizerError]] = {
    error.status: error
    for error in (
        Unauthorized,
        Forbidden,
        NotFound,
        MethodNotAllowed,
        PayloadTooLarge,
        UnsupportedMediaType,
        RateLimited,
        InternalError,
        ServiceUnavailable,
    )
}


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


def add_exception_handlers(app: FastAPI) -> None:
    """Answer every error in the one format, those of the framework included."""
    app.add_exception_handler(OptimizerError, on_optimizer_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)


def invalid_request(error: ValidationError) -> InvalidRequest:
    """What pydantic found wrong, as the client's error."""
    return invalid([dict(found) for found in error.errors(include_url=False)])


async def on_optimizer_error(request: Request, error: Exception) -> JSONResponse:
    """The answer to an error of ours."""
    assert isinstance(error, OptimizerError)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("%s %s: %s", request.method, request.url.path, error.message, exc_info=error.__cause__)
    return error_response(error, request.state.request_id)


async def on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """The answer to an error of the framework's."""
    assert isinstance(error, HTTPException)
    kind = _BY_STATUS.get(error.status_code, InvalidRequest)
    response = error_response(kind(str(error.detail)), request.state.request_id)
    response.headers.update(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and "route" in request.scope:
        response.headers["Allow"] = ", ".join(_allowed(request))
    return response


def _allowed(request: Request) -> list[str]:
    """The methods of the address, of which a route of the framework's knows its own alone."""
    routes = list(iter_route_contexts(request.app.routes))
    paths = {route.path for route in routes if route.original_route is request.scope["route"]}
    return sorted({method for route in routes if route.path in paths for method in route.methods or ()})


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return error_response(invalid(error.errors()), request.state.request_id)


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
