"""Every code of the API is a class of its own that tells all the answer said."""

from __future__ import annotations

import inspect

import pytest

from llm_auto_optimizer import (
    APIError,
    ConstraintViolationError,
    NoAnswerError,
    OptimizerClient,
    OptimizerError,
    UnexpectedAnswerError,
)
from llm_auto_optimizer import _errors as errors

from .conftest import Answer, Peer, error_answer

CODES = {
    "INVALID_REQUEST": (400, "InvalidRequestError"),
    "UNAUTHORIZED": (401, "UnauthorizedError"),
    "FORBIDDEN": (403, "ForbiddenError"),
    "NOT_FOUND": (404, "NotFoundError"),
    "CONFLICT": (409, "ConflictError"),
    "CONSTRAINT_VIOLATION": (422, "ConstraintViolationError"),
    "RATE_LIMITED": (429, "RateLimitedError"),
    "INTERNAL_ERROR": (500, "InternalError"),
    "OPTIMIZATION_FAILED": (500, "OptimizationFailedError"),
    "DEPLOYMENT_FAILED": (500, "DeploymentFailedError"),
    "ROLLBACK_FAILED": (500, "RollbackFailedError"),
    "DATABASE_ERROR": (503, "DatabaseError"),
    "SERVICE_UNAVAILABLE": (503, "ServiceUnavailableError"),
    "TIMEOUT": (504, "ServerTimeoutError"),
}


@pytest.mark.parametrize("code", CODES)
def test_a_code_raises_its_class(code: str, peer: Peer, client: OptimizerClient) -> None:
    status, name = CODES[code]
    peer.standing = error_answer(code, status)
    with pytest.raises(APIError) as raised:
        client.get_health()
    error = raised.value
    assert type(error).__name__ == name
    assert (error.code, error.status, error.request_id, error.retryable) == (code, status, "req-7", False)
    assert error.body["error"]["message"] == f"{code} it is"
    assert str(error) == f"{code}: {code} it is ({status}, request req-7)"


def test_every_class_of_the_tree_is_in_the_module_docstring() -> None:
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, OptimizerError)]
    assert len(classes) == len(CODES) + 4
    for error_class in classes:
        assert error_class.__name__ in (errors.__doc__ or "")


def test_details_of_a_refused_configuration(peer: Peer, client: OptimizerClient) -> None:
    details = {"isValid": False, "violations": [{"constraint": "q", "severity": "error", "message": "no"}]}
    peer.standing = error_answer("CONSTRAINT_VIOLATION", 422, details=details)
    with pytest.raises(ConstraintViolationError) as raised:
        client.update_config({"model": "m"}, reason="try")
    assert raised.value.details == details


def test_a_code_of_a_newer_server_is_kept(peer: Peer, client: OptimizerClient) -> None:
    peer.standing = error_answer("TEAPOT", 418)
    with pytest.raises(APIError) as raised:
        client.get_health()
    assert type(raised.value) is APIError
    assert raised.value.code == "TEAPOT"


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"<html>Bad gateway</html>", 500),
        Answer(b'{"error": "no"}', 500),
        Answer(b"[1, 2]", 400),
        Answer(b"not json", 200),
        Answer(b"[]", 200),
        Answer(b"\xff\xfe", 200),
        Answer(b"", 302, {"Location": "/elsewhere"}),
    ],
)
def test_an_answer_that_is_not_the_apis(answer: Answer, peer: Peer, client: OptimizerClient) -> None:
    answer.headers["X-Request-Id"] = "req-9"
    peer.standing = answer
    with pytest.raises(UnexpectedAnswerError) as raised:
        client.get_health()
    assert (raised.value.status, raised.value.request_id) == (answer.status, "req-9")
    assert len(peer.seen) == 1


def test_no_answer() -> None:
    with OptimizerClient(endpoint="http://127.0.0.1:1", retries=0) as client:
        with pytest.raises(NoAnswerError) as raised:
            client.get_health()
        assert raised.value.retryable
        assert raised.value.status is None


def test_a_closed_client_says_so(peer: Peer) -> None:
    client = OptimizerClient(endpoint=peer.url)
    client.close()
    with pytest.raises(NoAnswerError, match="closed"):
        client.get_health()
