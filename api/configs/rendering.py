"""Configuration answers as they are asked for and sent: one body with its ETag and headers."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote, unquote

import msgspec
from fastapi import Header, Query, Response

from api.context import lines_of

MAX_UNIT = 1024
_DIGEST = 16

IfNoneMatch = Annotated[str | None, Header(description="The ETag of the answer that the caller has.")]
Unit = Annotated[
    str | None,
    Query(max_length=MAX_UNIT, description="Who is served; the same unit keeps its configuration."),
]
READ: dict[int | str, dict[str, Any]] = {304: {"description": "The caller has the present answer."}}


@dataclass(frozen=True, slots=True)
class Rendered:
    """A body with its strong ETag; the headers also as the lines that are sent."""

    body: bytes
    etag: str
    headers: tuple[tuple[bytes, bytes], ...]
    unchanged_headers: tuple[tuple[bytes, bytes], ...]
    lines: bytes
    unchanged_lines: bytes


def render(answer: Mapping[str, Any]) -> Rendered:
    """An answer that has a `version`."""
    body = msgspec.json.encode(answer)
    digest = hashlib.sha256(body).hexdigest()[:_DIGEST]
    etag = f'"{quote(answer["version"], safe="@:/.")};{digest}"'
    tag = (b"etag", etag.encode())
    headers = (
        tag,
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    )
    return Rendered(body, etag, headers, (tag,), lines_of(headers), lines_of((tag,)))


def respond(rendered: Rendered, if_none_match: str | None) -> Response:
    """The answer to a client that may have it already."""
    unchanged = if_none_match is not None and matches(if_none_match, rendered.etag)
    response = Response(b"" if unchanged else rendered.body, status_code=304 if unchanged else 200)
    response.raw_headers = list(rendered.unchanged_headers if unchanged else rendered.headers)
    return response


def version_of_etag(etag: str) -> str:
    """The version that an ETag of `read` carries, or the tag itself where it is a version's name."""
    tag = etag.strip().removeprefix("W/").strip('"')
    name, separator, digest = tag.rpartition(";")
    return unquote(name if separator and len(digest) == _DIGEST else tag)


def matches(if_none_match: str, etag: str) -> bool:
    """Whether a client that sent this `If-None-Match` has the representation of this ETag."""
    return if_none_match == etag or any(
        candidate.strip().removeprefix("W/") in (etag, "*") for candidate in if_none_match.split(",")
    )
