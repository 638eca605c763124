"""The OpenAPI document: what the framework derives of the routes, made exact and complete."""

import re
from typing import Any

from fastapi.routing import APIRoute
from pydantic.alias_generators import to_camel

from api.errors import ErrorResponse
from api.examples import EXAMPLES
from api.grpc.errors import CODES, DOMAIN
from api.links import links_of
from api.ofrep.schemas import EvaluationFailure
from api.otlp.wire import JSON, PROTOBUF

Json = dict[str, Any]

DESCRIPTION = """\
Applications fetch the configuration of their LLM calls here, and report what each call cost, how long it
took, whether it failed and how good its answer was. The optimizer proposes better configurations, rolls them
out behind statistical health gates, and takes back what harms.

Times are integer milliseconds since the epoch. A POST may carry an `Idempotency-Key`. Every answer that is
not a success is an `ErrorResponse`, below `/ofrep` the protocol's own `EvaluationFailure`, and below `/v1` a
`google.rpc.Status`; one that is `retryable` may succeed later, after `Retry-After` seconds if it has one.

Keys have scopes: `ingest` (reports), `read`, `write` (updates, triggers, deployments) and `admin` (all of it,
and keys, webhooks, policies, pause and stop). Each operation names the one that it needs.
"""

_ERRORS: dict[int, tuple[str, str]] = {
    400: ("INVALID_REQUEST", "What was sent cannot be meant; the message names the field."),
    401: ("UNAUTHORIZED", "No key, or one that is unknown, revoked or expired."),
    403: ("FORBIDDEN", "The key lacks the scope."),
    404: ("NOT_FOUND", "There is no such thing."),
    409: ("CONFLICT", "The present state forbids it, or the Idempotency-Key was used for another request."),
    412: ("CONFLICT", "`If-Match` names another version than the one that is served."),
    413: ("INVALID_REQUEST", "The body is too large."),
    415: ("INVALID_REQUEST", "The body is not declared to be plain JSON."),
    422: ("CONSTRAINT_VIOLATION", "A hard constraint forbids it; `details` is the ValidationResult."),
    429: ("RATE_LIMITED", "Too many requests, or more reports than can be taken."),
    500: (
        "INTERNAL_ERROR",
        "The server failed; or OPTIMIZATION_, DEPLOYMENT_ or ROLLBACK_FAILED: what was waited for.",
    ),
    503: ("DATABASE_ERROR", "PostgreSQL (DATABASE_ERROR) or Temporal (SERVICE_UNAVAILABLE) is out of reach."),
    504: ("TIMEOUT", "It took too long; it may still be done."),
}
RESPONSES: dict[int | str, Json] = {status: {"model": ErrorResponse} for status in _ERRORS}
"""What any route may answer; `refined` leaves out what a route cannot."""

# What they are to give is named by the query, or by a header.
_NAMING = ("/api/v1/config/", "/api/v1/events/stream")
# Whose errors have a form of their own, and which they may be.
_OFREP, _OTLP = "/ofrep/", "/v1/"
_OWN: dict[str, tuple[str, set[int]]] = {
    _OFREP: ("OfrepError", {400, 401, 403, 404, 413, 429, 500, 503, 504}),
    _OTLP: ("OtlpError", {400, 401, 403, 413, 415, 429, 500, 503, 504}),
}
_PLACE = re.compile(r"(?<={)\w+(?=})")
_RETRYABLE = {429, 503, 504}
_HEADERS: Json = {
    "RequestId": {
        "description": "The request's own id, or the caller's `X-Request-Id`; also `requestId` of an error.",
        "schema": {"type": "string"},
    },
    "RetryAfter": {
        "description": "Seconds after which it is worth trying again.",
        "schema": {"type": "integer", "minimum": 0},
    },
}
_FAILURES: Json = {
    "EvaluationFailure": EvaluationFailure.model_json_schema(by_alias=True),
    "Status": {
        "title": "Status",
        "description": "`google.rpc.Status`; the `ErrorInfo` of its details has the code as its reason.",
        "type": "object",
        "required": ["code", "message", "details"],
        "properties": {
            "code": {"type": "integer", "description": "gRPC's number of the status."},
            "message": {"type": "string"},
            "details": {"type": "array", "items": {"type": "object"}},
        },
    },
}
_REQUEST_ID = {"$ref": "#/components/headers/RequestId"}


def operation_id(route: APIRoute) -> str:
    """The name of the endpoint's function in camelCase."""
    return to_camel(route.name)


def refined(document: Json) -> Json:
    """The framework's document with exact names, errors, headers and examples, changed in place."""
    document["components"]["headers"] = _HEADERS
    document["components"]["schemas"] |= _FAILURES
    document["components"]["responses"] = {_name(status): _error(status) for status in _ERRORS}
    for path, own in ((_OFREP, _ofrep_error), (_OTLP, _otlp_error)):
        document["components"]["responses"] |= {
            _name(status, path): own(status) for status in sorted(_OWN[path][1])
        }
    document["paths"] = {_PLACE.sub(_in_camel, path): found for path, found in document["paths"].items()}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            _refine(path, method, operation)
    return document


def _in_camel(place: re.Match[str]) -> str:
    return to_camel(place[0])


def _refine(path: str, method: str, operation: Json) -> None:
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            parameter["name"] = to_camel(parameter["name"])
        elif parameter["in"] == "header":
            parameter["name"] = parameter["name"].title()
    possible = _possible(path, method, operation)
    operation["responses"] = {
        status: _reference(path, int(status)) if int(status) in _ERRORS else response
        for status, response in operation["responses"].items()
        if int(status) not in _ERRORS or int(status) in possible
    }
    for response in operation["responses"].values():
        if "$ref" not in response:
            response.setdefault("headers", {})["X-Request-Id"] = _REQUEST_ID
    links = links_of(operation["operationId"])
    if links:
        _success(operation)["links"] = links
    example = EXAMPLES.get(operation["operationId"])
    if example is not None:
        _show(operation, example.request, example.response)


def _possible(path: str, method: str, operation: Json) -> set[int]:
    """The errors that an operation may answer with."""
    own = _own(path)
    if own is not None:
        impossible = {404} if "{" not in path else set()
        return own[1] - (impossible if "requestBody" in operation else impossible | {413, 415})
    possible = {400, 500, 503, 504}
    if operation.get("security"):
        possible |= {401, 403, 429}
    if "{" in path or path.startswith(_NAMING) or method != "get":
        possible.add(404)
    if method in ("post", "put", "delete"):
        possible.add(409)
    if "requestBody" in operation:
        possible |= {413, 415}
    if any(given["name"].lower() == "if-match" for given in operation.get("parameters", ())):
        possible |= {412, 422}
    return possible


def _error(status: int) -> Json:
    code, description = _ERRORS[status]
    body = {
        "error": {"code": code, "message": description, "retryable": status in _RETRYABLE},
        "requestId": "req_5f3a9c0e1b2d4a6800000001",
        "timestamp": 1_764_000_000_000,
    }
    content = {"schema": {"$ref": "#/components/schemas/ErrorResponse"}, "example": body}
    headers = {"X-Request-Id": _REQUEST_ID}
    if status in (429, 503):
        headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    return {
        "description": f"{code}: {description}",
        "headers": headers,
        "content": {"application/json": content},
    }


def _ofrep_error(status: int) -> Json:
    error = _error(status)
    code = {400: "INVALID_CONTEXT", 404: "FLAG_NOT_FOUND"}.get(status, "GENERAL")
    content = {
        "schema": {"$ref": "#/components/schemas/EvaluationFailure"},
        "example": {"errorCode": code, "errorDetails": _ERRORS[status][1]},
    }
    return error | {"description": _ERRORS[status][1], "content": {"application/json": content}}


def _otlp_error(status: int) -> Json:
    error = _error(status)
    code, description = _ERRORS[status]
    number, _ = CODES[code].value
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": code,
        "domain": DOMAIN,
        "metadata": {
            "requestId": "req_5f3a9c0e1b2d4a6800000001",
            "retryable": str(status in _RETRYABLE).lower(),
        },
    }
    schema = {"$ref": "#/components/schemas/Status"}
    example = {"code": number, "message": description, "details": [info]}
    content = {JSON: {"schema": schema, "example": example}, PROTOBUF: {"schema": schema}}
    return error | {"content": content}


def _reference(path: str, status: int) -> Json:
    return {"$ref": f"#/components/responses/{_name(status, path)}"}


def _name(status: int, path: str = "") -> str:
    """Of an error's response among the document's components."""
    own = _own(path)
    return f"{'Error' if own is None else own[0]}{status}"


def _own(path: str) -> tuple[str, set[int]] | None:
    """What the errors of an address are called that have a form of their own, and which there are."""
    return next((own for prefix, own in _OWN.items() if path.startswith(prefix)), None)


def _success(operation: Json) -> Json:
    found: Json = next(found for status, found in operation["responses"].items() if status.startswith("2"))
    return found


def _show(operation: Json, request: Any, response: Any) -> None:
    if request is not None:
        operation["requestBody"]["content"]["application/json"]["example"] = request
    if response is not None:
        _success(operation)["content"]["application/json"]["example"] = response
