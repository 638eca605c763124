"""What every answer of the API keeps to."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx

RETRYABLE = {"RATE_LIMITED", "DATABASE_ERROR", "SERVICE_UNAVAILABLE", "TIMEOUT"}


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error of an answer that must be one, of this status and code, in the one format."""
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["error"]["code"]) == (status, code), body
    assert set(body) == {"error", "requestId", "timestamp"}
    assert body["requestId"] == answer.headers["x-request-id"]
    assert isinstance(body["timestamp"], int)
    error: dict[str, Any] = body["error"]
    assert error["message"]
    assert error["retryable"] is (code in RETRYABLE)
    assert set(error) <= {"code", "message", "details", "retryable"}
    return error


def done(answer: httpx.Response, status: int = 200) -> dict[str, Any]:
    """The body of an answer that must be a success."""
    assert answer.status_code == status, answer.text
    assert answer.headers["x-request-id"]
    body: dict[str, Any] = answer.json()
    return body


async def eventually(
    client: httpx.AsyncClient,
    path: str,
    condition: Callable[[dict[str, Any]], bool],
    *,
    params: dict[str, Any] | None = None,
    seconds: float = 60,
) -> dict[str, Any]:
    """The first answer to a GET, asked again and again, that meets a condition."""
    body: dict[str, Any] = {}
    try:
        async with asyncio.timeout(seconds):
            while True:
                body = done(await client.get(path, params=params))
                if condition(body):
                    return body
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{path} stayed {body}") from None
