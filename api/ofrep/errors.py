"""Errors as OFREP has them, in place of the one format of the rest of the API."""

from http import HTTPStatus

from fastapi import Request
from fastapi.responses import JSONResponse

from api.errors import MalformedBody, UnsupportedMediaType, error_headers
from api.ofrep.schemas import ErrorCode, EvaluationFailure
from domain.errors import InvalidRequest, NotFound, OptimizerError


class TargetingKeyMissing(InvalidRequest):
    pass


def failure(request: Request, error: OptimizerError) -> JSONResponse:
    """The answer that tells of an error."""
    status = HTTPStatus.BAD_REQUEST if isinstance(error, UnsupportedMediaType) else error.status
    key = request.path_params.get("key")
    body = EvaluationFailure.model_validate(
        {
            "key": key,
            "errorCode": _code(error, of_flag=key is not None),
            "errorDetails": error.message,
        }
    )
    return JSONResponse(body.to_json(), status_code=status, headers=error_headers(error))


def _code(error: OptimizerError, *, of_flag: bool) -> ErrorCode:
    match error:
        case NotFound() if of_flag:
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
