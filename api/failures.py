"""Errors of ours and of the framework, answered by what `RequestContext` was given for that."""

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException

from api.errors import (
    MethodNotAllowed,
    PayloadTooLarge,
    UnsupportedMediaType,
    invalid,
)
from domain.errors import (
    Forbidden,
    InternalError,
    InvalidRequest,
    NotFound,
    OptimizerError,
    RateLimited,
    ServiceUnavailable,
    Unauthorized,
)

log = logging.getLogger(__name__)

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


def add_exception_handlers(app: FastAPI) -> None:
    """Answer every error, those of the framework included."""
    app.add_exception_handler(OptimizerError, on_optimizer_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)


async def on_optimizer_error(request: Request, error: Exception) -> Response:
    """The answer to an error of ours."""
    assert isinstance(error, OptimizerError)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("%s %s: %s", request.method, request.url.path, error.message, exc_info=error.__cause__)
    return _failure(request, error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """The answer to an error of the framework's."""
    assert isinstance(error, HTTPException)
    kind = _BY_STATUS.get(error.status_code, InvalidRequest)
    response = _failure(request, kind(str(error.detail)))
    response.headers.update(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and "route" in request.scope:
        response.headers["Allow"] = ", ".join(_allowed(request))
    return response


def _allowed(request: Request) -> list[str]:
    """The methods of the address, of which a route of the framework's knows its own alone."""
    routes = list(iter_route_contexts(request.app.routes))
    paths = {route.path for route in routes if route.original_route is request.scope["route"]}
    return sorted({method for route in routes if route.path in paths for method in route.methods or ()})


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _failure(request, invalid(error.errors()))


def _failure(request: Request, error: OptimizerError) -> Response:
    answer: Response = request.state.failure(request, error)
    return answer
