"""Errors as OFREP has them, in place of the one format of the rest of the API."""

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from api.body import StrictRoute
from api.errors import MalformedBody, UnsupportedMediaType, error_headers, invalid
from api.ofrep.schemas import ErrorCode, EvaluationFailure
from domain.errors import InvalidRequest, NotFound, OptimizerError

log = logging.getLogger(__name__)


class TargetingKeyMissing(InvalidRequest):
    pass


class OfrepRoute(StrictRoute):
    """A strict route that tells of errors in OFREP's form, all but what no route comes to see."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handle = super().get_route_handler()

        async def in_own_form(request: Request) -> Response:
            try:
                response: Response = await handle(request)
            except RequestValidationError as error:
                return _failure(request, invalid(error.errors()))
            except OptimizerError as error:
                return _failure(request, error)
            return response

        return in_own_form


def _failure(request: Request, error: OptimizerError) -> JSONResponse:
    status = HTTPStatus.BAD_REQUEST if isinstance(error, InvalidRequest) else error.status
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("%s %s: %s", request.method, request.url.path, error.message, exc_info=error.__cause__)
    body = EvaluationFailure.model_validate(
        {
            "key": request.path_params.get("key"),
            "errorCode": _code(error),
            "errorDetails": error.message,
        }
    )
    return JSONResponse(body.to_json(), status_code=status, headers=error_headers(error))


def _code(error: OptimizerError) -> ErrorCode:
    match error:
        case NotFound():
            return "FLAG_NOT_FOUND"
        case TargetingKeyMissing():
            return "TARGETING_KEY_MISSING"
        case MalformedBody() | UnsupportedMediaType():
            return "PARSE_ERROR"
        # A field at fault is named in `details`.
        case InvalidRequest(details=list()):
            return "INVALID_CONTEXT"
        case _:
            return "GENERAL"
