"""Errors as OTLP/HTTP has them: `google.rpc.Status`, in the kind of the request."""

from fastapi import Response
from starlette.requests import Request

from api.errors import UnsupportedMediaType, error_headers
from api.grpc.errors import status_of
from api.otlp.wire import PROTOBUF, encode, kind_of
from domain.errors import OptimizerError

RETRY_SECONDS = 1
"""When to try again, where nothing else is said: exporters wait long otherwise."""


def failure(request: Request, error: OptimizerError) -> Response:
    """The answer that tells of an error."""
    if error.retryable and error.retry_after is None:
        error.retry_after = RETRY_SECONDS
    try:
        kind = kind_of(request.headers.get("content-type", ""))
    except UnsupportedMediaType:
        kind = PROTOBUF
    response = encode(status_of(error, request.state.request_id), kind, error.status)
    response.headers.update(error_headers(error))
    return response
