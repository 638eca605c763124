"""Errors that the client raises.

OptimizerError
├── NoAnswerError                       refused, reset, timed out: no answer came; retryable
├── UnexpectedAnswerError               an answer that is not the API's (a proxy's page, broken JSON)
└── APIError                            the API's own error, by code:
    ├── InvalidRequestError             INVALID_REQUEST       400, 405, 413, 415
    ├── UnauthorizedError               UNAUTHORIZED          401
    ├── ForbiddenError                  FORBIDDEN             403
    ├── NotFoundError                   NOT_FOUND             404
    ├── ConflictError                   CONFLICT              409, 412
    ├── ConstraintViolationError        CONSTRAINT_VIOLATION  422
    ├── RateLimitedError                RATE_LIMITED          429, retryable
    ├── InternalError                   INTERNAL_ERROR        500
    ├── OptimizationFailedError         OPTIMIZATION_FAILED   500
    ├── DeploymentFailedError           DEPLOYMENT_FAILED     500
    ├── RollbackFailedError             ROLLBACK_FAILED       500
    ├── DatabaseError                   DATABASE_ERROR        503, retryable
    ├── ServiceUnavailableError         SERVICE_UNAVAILABLE   503, retryable
    └── ServerTimeoutError              TIMEOUT               504, retryable
"""

from __future__ import annotations

from typing import Any

_RETRYABLE_STATUSES = frozenset({429, 502, 503, 504})


class OptimizerError(Exception):
    """The base of all of them.

    Attributes:
        code: the API's code, `NO_ANSWER` or `UNEXPECTED_ANSWER`.
        status: the HTTP status, None where no answer came.
        body: the answer's body, decoded where it is JSON, None where none came.
        request_id: names the request in the server's log, None where the server gave none.
        retryable: whether the same request may succeed later.
        retry_after: seconds that the server asks to wait, None where it does not say.
    """

    code = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        body: Any = None,
        request_id: str | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.body = body
        self.request_id = request_id
        self.retryable = retryable
        self.retry_after = retry_after

    def __str__(self) -> str:
        where = [str(self.status)] if self.status is not None else []
        if self.request_id is not None:
            where.append(f"request {self.request_id}")
        return f"{self.code}: {self.message}" + (f" ({', '.join(where)})" if where else "")


class NoAnswerError(OptimizerError):
    """The connection was refused, broke, or took too long."""

    code = "NO_ANSWER"


class UnexpectedAnswerError(OptimizerError):
    """Something answered, but not as the optimizer's API does."""

    code = "UNEXPECTED_ANSWER"


class APIError(OptimizerError):
    """An error in the API's format. `details` is what it adds to its message, if anything."""

    def __init__(self, message: str, *, details: Any = None, **answer: Any) -> None:
        super().__init__(message, **answer)
        self.details = details


class InvalidRequestError(APIError):
    code = "INVALID_REQUEST"


class UnauthorizedError(APIError):
    code = "UNAUTHORIZED"


class ForbiddenError(APIError):
    code = "FORBIDDEN"


class NotFoundError(APIError):
    code = "NOT_FOUND"


class ConflictError(APIError):
    code = "CONFLICT"


class ConstraintViolationError(APIError):
    """`details` is the ValidationResult: which constraints the configuration breaches."""

    code = "CONSTRAINT_VIOLATION"


class RateLimitedError(APIError):
    code = "RATE_LIMITED"


class InternalError(APIError):
    code = "INTERNAL_ERROR"


class OptimizationFailedError(APIError):
    code = "OPTIMIZATION_FAILED"


class DeploymentFailedError(APIError):
    code = "DEPLOYMENT_FAILED"


class RollbackFailedError(APIError):
    code = "ROLLBACK_FAILED"


class DatabaseError(APIError):
    code = "DATABASE_ERROR"


class ServiceUnavailableError(APIError):
    code = "SERVICE_UNAVAILABLE"


class ServerTimeoutError(APIError):
    code = "TIMEOUT"


_BY_CODE: dict[str, type[APIError]] = {error.code: error for error in APIError.__subclasses__()}


def refused(error: OptimizerError) -> bool:
    """Whether the API itself has said no, for good. A proxy's page is no refusal."""
    return isinstance(error, APIError) and not error.retryable


def error_from_answer(
    status: int, body: Any, *, request_id: str | None, retry_after: float | None
) -> OptimizerError:
    """The error that a non-2xx answer means. `body` is decoded JSON, or text where it is not JSON.

    A code that this version does not know gives a plain `APIError` that carries it.
    """
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("code"), str):
        return UnexpectedAnswerError(
            f"HTTP {status} without the API's error format",
            status=status,
            body=body,
            request_id=request_id,
            retryable=status in _RETRYABLE_STATUSES,
            retry_after=retry_after,
        )
    known = _BY_CODE.get(error["code"], APIError)
    answer_id = body.get("requestId")
    raised = known(
        str(error.get("message", "")),
        details=error.get("details"),
        status=status,
        body=body,
        request_id=answer_id if isinstance(answer_id, str) else request_id,
        retryable=error.get("retryable") is True,
        retry_after=retry_after,
    )
    raised.code = error["code"]
    return raised
