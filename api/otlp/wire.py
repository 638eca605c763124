"""Bodies of OTLP/HTTP: protobuf or JSON, plain or by gzip, and answers of the same kind."""

import base64
import json
import zlib
from typing import Any, Literal, TypeVar

from fastapi import Response
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from api.errors import MalformedBody, PayloadTooLarge, UnsupportedMediaType
from api.otlp.attributes import READ

M = TypeVar("M", bound=Message)
Kind = Literal["application/x-protobuf", "application/json"]
PROTOBUF: Kind = "application/x-protobuf"
JSON: Kind = "application/json"

_GZIP = 16 + zlib.MAX_WBITS
_IDS = frozenset({"traceId", "trace_id", "spanId", "span_id", "parentSpanId", "parent_span_id"})
# Where ids and attributes are found.
_HOLDERS = frozenset(
    {"resourceSpans", "resource_spans", "scopeSpans", "scope_spans", "spans", "links", "events", "resource"}
    | {"resourceMetrics", "resource_metrics", "scopeMetrics", "scope_metrics", "metrics"}
    | {"histogram", "sum", "gauge", "exponentialHistogram", "exponential_histogram"}
    | {"dataPoints", "data_points", "exemplars"}
)


def kind_of(content_type: str) -> Kind:
    """The kind that a body is declared to be of.

    Raises:
        UnsupportedMediaType: it is another one.
    """
    found = content_type.partition(";")[0].strip().lower()
    if found == PROTOBUF:
        return PROTOBUF
    if found == JSON:
        return JSON
    raise UnsupportedMediaType(f"Content-Type must be {PROTOBUF} or {JSON}, not {found or 'absent'}")


def decode(body: bytes, kind: Kind, encoding: str, message: type[M], most: int) -> M:
    """The message that a body holds, which may be no larger than `most` bytes once it is unpacked.

    Raises:
        UnsupportedMediaType: it is packed otherwise than by gzip.
        PayloadTooLarge: it is too large.
        MalformedBody: it is no such message.
    """
    body = _unpacked(body, encoding.strip().lower(), most)
    if kind == JSON:
        return _from_json(body, message)
    try:
        return message.FromString(body)
    except DecodeError as error:
        raise MalformedBody(f"the body is no {message.DESCRIPTOR.full_name}") from error


def encode(message: Message, kind: Kind, status: int = 200) -> Response:
    """An answer."""
    content = (
        message.SerializeToString() if kind == PROTOBUF else json_format.MessageToJson(message, indent=None)
    )
    return Response(content, status_code=status, media_type=kind)


def _unpacked(body: bytes, encoding: str, most: int) -> bytes:
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise UnsupportedMediaType("Content-Encoding must be gzip or identity")
    stream = zlib.decompressobj(_GZIP)
    try:
        whole = stream.decompress(body, most + 1)
    except zlib.error as error:
        raise MalformedBody(f"the body is not gzip: {error}") from error
    if len(whole) > most:
        raise PayloadTooLarge(f"the body is larger than {most} bytes once it is unpacked")
    if not stream.eof or stream.unused_data:
        raise MalformedBody("the body is not one whole gzip stream")
    return whole


def _from_json(body: bytes, message: type[M]) -> M:
    """OTLP's JSON is that of protobuf but for the ids, which are hex."""
    found = message()
    try:
        document = json.loads(body)
        if not isinstance(document, dict):
            raise MalformedBody("the body must be a JSON object")
        _prepare(document)
        json_format.ParseDict(document, found, ignore_unknown_fields=True)
    except (ValueError, TypeError, AttributeError, RecursionError, json_format.Error) as error:
        why = str(error).encode(errors="replace").decode()[:200]
        raise MalformedBody(f"the body is no {message.DESCRIPTOR.full_name}: {why}") from error
    return found


def _prepare(node: dict[str, Any]) -> None:
    """Turn hex ids into base64, and leave out the attributes that nobody reads: to parse them takes long."""
    for name, value in node.items():
        if name in _IDS and isinstance(value, str):
            node[name] = base64.b64encode(bytes.fromhex(value)).decode()
        elif name == "attributes" and isinstance(value, list):
            node[name] = [pair for pair in value if not isinstance(pair, dict) or pair.get("key") in READ]
        elif name in _HOLDERS:
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, dict):
                    _prepare(inner)
