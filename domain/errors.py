"""Errors that a client may see, by code.

OptimizerError
├── InvalidRequest           INVALID_REQUEST       400 (405, 413, 415, 431 where they fit)
├── Unauthorized             UNAUTHORIZED          401
├── Forbidden                FORBIDDEN             403
├── NotFound                 NOT_FOUND             404
├── Conflict                 CONFLICT              409
│   ├── PreconditionFailed   CONFLICT              412
│   └── Stopped              CONFLICT              409
├── ConstraintViolation      CONSTRAINT_VIOLATION  422
├── RateLimited              RATE_LIMITED          429, retryable
├── InternalError            INTERNAL_ERROR        500
├── OptimizationFailed       OPTIMIZATION_FAILED   500
├── DeploymentFailed         DEPLOYMENT_FAILED     500
├── RollbackFailed           ROLLBACK_FAILED       500
├── DatabaseError            DATABASE_ERROR        503, retryable
├── ServiceUnavailable       SERVICE_UNAVAILABLE   503, retryable
└── TimedOut                 TIMEOUT               504, retryable (408 where the client was slow)
"""

from typing import Any, ClassVar


class OptimizerError(Exception):
    """The base of all of them.

    `details` is JSON-ready and goes to the client; `retry_after` (seconds) becomes `Retry-After`.
    """

    code: ClassVar[str] = "INTERNAL_ERROR"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, details: Any = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.retry_after = retry_after


class InvalidRequest(OptimizerError):
    code, status = "INVALID_REQUEST", 400


class Unauthorized(OptimizerError):
    code, status = "UNAUTHORIZED", 401


class Forbidden(OptimizerError):
    code, status = "FORBIDDEN", 403


class NotFound(OptimizerError):
    code, status = "NOT_FOUND", 404


class Conflict(OptimizerError):
    code, status = "CONFLICT", 409


class PreconditionFailed(Conflict):
    status = 412


class Stopped(Conflict):
    """An emergency stop holds, or came after the run began: nothing may start or go on."""


class ConstraintViolation(OptimizerError):
    """`details` is the ValidationResult."""

    code, status = "CONSTRAINT_VIOLATION", 422


class RateLimited(OptimizerError):
    code, status, retryable = "RATE_LIMITED", 429, True


class InternalError(OptimizerError):
    pass


class OptimizationFailed(OptimizerError):
    code = "OPTIMIZATION_FAILED"


class DeploymentFailed(OptimizerError):
    code = "DEPLOYMENT_FAILED"


class RollbackFailed(OptimizerError):
    code = "ROLLBACK_FAILED"


class DatabaseError(OptimizerError):
    code, status, retryable = "DATABASE_ERROR", 503, True


class ServiceUnavailable(OptimizerError):
    code, status, retryable = "SERVICE_UNAVAILABLE", 503, True


class TimedOut(OptimizerError):
    code, status, retryable = "TIMEOUT", 504, True
