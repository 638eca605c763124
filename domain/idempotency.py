"""Requests that may come twice: what tells that they are the same, and what the first was answered with."""

import hashlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Claim:
    """A caller's key for one request, and a fingerprint of the request itself."""

    principal: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered with."""

    status: int
    body: dict[str, Any]


def fingerprint(target: str, body: bytes) -> str:
    """Tells requests apart: `target` is the method, path and query."""
    return hashlib.sha256(target.encode() + b"\0" + body).hexdigest()
