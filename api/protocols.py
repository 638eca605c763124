"""Every answer of the server's that is not a success, in the form of the protocol that was spoken."""

from fastapi import Request, Response

from api.errors import error_response
from api.ofrep import errors as ofrep
from api.otlp import errors as otlp
from domain.errors import OptimizerError


def failure(request: Request, error: OptimizerError) -> Response:
    """The answer to a request that failed, whose id is known."""
    path = request.scope["path"]
    if path.startswith("/ofrep/"):
        return ofrep.failure(request, error)
    if path.startswith("/v1/"):
        return otlp.failure(request, error)
    return error_response(error, request.state.request_id)
