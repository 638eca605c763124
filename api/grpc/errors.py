"""Errors as gRPC clients see them: a status, and what REST says beside it as details of google.rpc."""

import grpc
import msgspec
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from domain.errors import OptimizerError

DOMAIN = "llm-auto-optimizer"
"""Whose reasons those in `ErrorInfo` are."""

# A client takes no more than 8 kB of metadata, in which the message is twice: percent-encoded and in base64.
MAX_MESSAGE_BYTES = 1000
MAX_DETAILS_BYTES = 1000

CODES: dict[str, grpc.StatusCode] = {
    "INVALID_REQUEST": grpc.StatusCode.INVALID_ARGUMENT,
    "UNAUTHORIZED": grpc.StatusCode.UNAUTHENTICATED,
    "FORBIDDEN": grpc.StatusCode.PERMISSION_DENIED,
    "NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "CONFLICT": grpc.StatusCode.FAILED_PRECONDITION,
    "CONSTRAINT_VIOLATION": grpc.StatusCode.FAILED_PRECONDITION,
    "RATE_LIMITED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "INTERNAL_ERROR": grpc.StatusCode.INTERNAL,
    "OPTIMIZATION_FAILED": grpc.StatusCode.INTERNAL,
    "DEPLOYMENT_FAILED": grpc.StatusCode.INTERNAL,
    "ROLLBACK_FAILED": grpc.StatusCode.INTERNAL,
    "DATABASE_ERROR": grpc.StatusCode.UNAVAILABLE,
    "SERVICE_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "TIMEOUT": grpc.StatusCode.DEADLINE_EXCEEDED,
}


def status_of(error: OptimizerError, request_id: str) -> Status:
    """The status that tells of an error.

    `ErrorInfo` has the code as its reason and the metadata `requestId` and `retryable`, and `details` as JSON
    where there are any that are short; `RetryInfo` says when to try again, where that is known.
    """
    metadata = {"requestId": request_id, "retryable": "true" if error.retryable else "false"}
    if error.details is not None:
        details = msgspec.json.encode(error.details)
        if len(details) <= MAX_DETAILS_BYTES:
            metadata["details"] = details.decode()
    found: list[Message] = [ErrorInfo(reason=error.code, domain=DOMAIN, metadata=metadata)]
    if error.retry_after is not None:
        found.append(RetryInfo(retry_delay=Duration(seconds=error.retry_after)))
    number, _ = CODES[error.code].value
    return Status(code=number, message=_short(error.message), details=[_packed(detail) for detail in found])


def _short(message: str) -> str:
    encoded = message.encode("utf-8", "replace")
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return encoded.decode()
    return f"{encoded[:MAX_MESSAGE_BYTES].decode('utf-8', 'ignore')} …"


def _packed(message: Message) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed
