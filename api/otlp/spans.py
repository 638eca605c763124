"""Spans of LLM calls as reports of calls and of their quality. Messages are not read at all."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from api.ofrep.flags import service_of
from api.otlp import attributes
from api.otlp.attributes import Attributes, get, number, text
from api.otlp.batches import Item, Problems
from api.otlp.evaluations import EVENT as EVALUATION
from api.otlp.evaluations import evaluations
from domain.reports import MAX_ITEMS
from domain.spans import SpanMark

OTHER_ERROR = "_OTHER"
"""OpenTelemetry's name of an error that has none."""
NO_SERVICE = "the resource has no service.name"
MAX_ANCESTORS = 64
_FLAG_EVENTS = frozenset({"feature_flag.evaluation", "feature_flag"})
_TRACE_BYTES, _SPAN_BYTES = 16, 8
_TAG_LENGTH = 512
_TAGS = ("temperature", "topP", "topK", "maxTokens", "stopSequences", "stream")
_INVOCATION = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "maxTokens": "max_tokens",
    "stopSequences": "stop",
    "stream": "stream",
}


@dataclass(slots=True)
class Found:
    """The calls and the evaluations of a request, and what is wrong with others."""

    calls: list[Item] = field(default_factory=list)
    evaluations: list[Item] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)


@dataclass(frozen=True, slots=True)
class _Choice:
    """A flag of ours was evaluated: from `at` (ns) on a service's configuration was this version."""

    at: int
    service: str
    version: str


@dataclass(slots=True)
class _Trace:
    """What a request tells of one trace: each span's parent, and the choices made in it."""

    parents: dict[bytes, bytes] = field(default_factory=dict)
    choices: dict[bytes, list[_Choice]] = field(default_factory=dict)

    def ancestors(self, span: Span) -> tuple[bytes, ...]:
        """Ids from the parent's up, as far as they are known."""
        found: list[bytes] = []
        above = span.parent_span_id
        while above and above not in found and len(found) < MAX_ANCESTORS:
            found.append(above)
            above = self.parents.get(above, b"")
        return tuple(found)

    def version(self, service: str, span: Span, ancestors: Sequence[bytes]) -> str | None:
        """The version that a call was made with: what the span itself says, then its nearest ancestor.

        Last comes what the trace says elsewhere, if it is of one mind.
        """
        for index, name in enumerate((span.span_id, *ancestors)):
            latest = span.end_time_unix_nano if index == 0 else span.start_time_unix_nano
            made = [
                choice
                for choice in self.choices.get(name, ())
                if choice.service == service and choice.at <= latest
            ]
            if made:
                return max(made, key=lambda choice: choice.at).version
        everywhere = {
            choice.version for made in self.choices.values() for choice in made if choice.service == service
        }
        return everywhere.pop() if len(everywhere) == 1 else None


def read(request: ExportTraceServiceRequest) -> Found:
    """The calls and evaluations of a request. Spans of other things are passed over."""
    found = Found()
    traces = _traces(request)
    for service, span in _spans(request):
        read_of = attributes.read(span.attributes)
        if not attributes.is_inference(read_of) and not _is_evaluated(span):
            continue
        if len(span.trace_id) != _TRACE_BYTES or len(span.span_id) != _SPAN_BYTES:
            found.problems.reject(f"span {span.name[:64]!r}", "traceId and spanId must have 16 and 8 bytes")
        elif service is None:
            found.problems.reject(f"span {span.span_id.hex()}", NO_SERVICE)
        elif len(found.calls) + len(found.evaluations) >= MAX_ITEMS:
            found.problems.reject(f"span {span.span_id.hex()}", f"more than {MAX_ITEMS:,} in one request")
        else:
            _take(found, service, span, read_of, traces[span.trace_id])
    return found


def _take(found: Found, service: str, span: Span, read_of: Attributes, trace: _Trace) -> None:
    ancestors = trace.ancestors(span)
    version = text(read_of, "version") or trace.version(service, span, ancestors)
    response = text(read_of, "response")
    mark = SpanMark(
        trace=span.trace_id,
        span=span.span_id,
        ancestors=ancestors,
        response=response,
        began=_signed(span.start_time_unix_nano),
        ended=_signed(span.end_time_unix_nano),
    )
    tags = {"traceId": span.trace_id.hex(), "spanId": span.span_id.hex()}
    request_id = response
    if attributes.is_inference(read_of):
        request_id = response or "-".join(tags.values())
        call_tags = tags | {"requestId": request_id} | _measured(read_of)
        found.calls.append(Item(mark, _call(service, span, read_of, call_tags, version)))
    given = {"service": service, "tags": tags} | ({} if version is None else {"configVersion": version})
    for part, fields in enumerate(evaluations(span, request_id, found.problems), start=1):
        found.evaluations.append(Item(SpanMark(mark.trace, mark.span, part), given | fields))


def _call(
    service: str, span: Span, read_of: Attributes, tags: dict[str, str], version: str | None
) -> dict[str, Any]:
    tokens_in, tokens_out = number(read_of, "input") or 0, number(read_of, "output") or 0
    total = number(read_of, "total")
    fields = {
        "timestamp": span.end_time_unix_nano // 1_000_000,
        "service": service,
        "endpoint": text(read_of, "endpoint") or text(read_of, "operation") or "chat",
        "provider": text(read_of, "provider"),
        "model": text(read_of, "model") or attributes.parameters(read_of).get("model"),
        "latencyMs": (span.end_time_unix_nano - span.start_time_unix_nano) / 1_000_000,
        "tokensInput": tokens_in,
        "tokensOutput": tokens_out,
        "tokensTotal": tokens_in + tokens_out if total is None else total,
        "costUsd": number(read_of, "cost"),
        "tags": tags if version is None else tags | {"configVersion": version},
    }
    failed = OTHER_ERROR if span.status.code == Status.STATUS_CODE_ERROR else None
    return fields | outcome(text(read_of, "error") or failed, number(read_of, "status"))


def outcome(error: str | None, status: int | float | None) -> dict[str, Any]:
    """How a call ended: an error's type may be its HTTP status, where that is not said beside it."""
    if error is None:
        return {"statusCode": 200}
    named = int(error) if error.isascii() and error.isdecimal() and len(error) == 3 else None
    codes = (code for code in (status, named) if isinstance(code, int) and 400 <= code <= 599)
    return {"statusCode": next(codes, 500), "errorType": error}


def _measured(read_of: Attributes) -> dict[str, str]:
    """The call's parameters, and what was measured beside what every report has, as tags."""
    invoked = attributes.parameters(read_of)
    values: dict[str, Any] = {
        name: invoked.get(_INVOCATION[name]) if get(read_of, name) is None else get(read_of, name)
        for name in _TAGS
    }
    values |= {
        "cacheReadTokens": number(read_of, "cacheRead"),
        "cacheWriteTokens": number(read_of, "cacheWrite"),
    }
    first = number(read_of, "firstChunk")
    values["timeToFirstTokenMs"] = None if first is None else f"{first * 1000:g}"
    written = {name: _written(value) for name, value in values.items() if value is not None}
    return {name: value for name, value in written.items() if len(value) <= _TAG_LENGTH}


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _traces(request: ExportTraceServiceRequest) -> dict[bytes, _Trace]:
    traces: dict[bytes, _Trace] = {}
    for _, span in _spans(request):
        trace = traces.setdefault(span.trace_id, _Trace())
        trace.parents[span.span_id] = span.parent_span_id
        choices = list(_choices(span))
        if choices:
            trace.choices[span.span_id] = choices
    return traces


def _choices(span: Span) -> Iterator[_Choice]:
    for event in span.events:
        if event.name in _FLAG_EVENTS:
            found = attributes.read(event.attributes)
            flag, variant = text(found, "flag"), text(found, "variant")
            service = None if flag is None else service_of(flag)
            if service is not None and variant is not None:
                yield _Choice(event.time_unix_nano, service, variant)


def _spans(request: ExportTraceServiceRequest) -> Iterator[tuple[str | None, Span]]:
    """Each span and its service, None where the resource has no name but the SDK's own."""
    for resource in request.resource_spans:
        service = service_name(attributes.read(resource.resource.attributes))
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield service, span


def service_name(resource: Attributes) -> str | None:
    """A resource's service, None where it was not named: SDKs then say `unknown_service`."""
    name = text(resource, "service")
    return None if name is None or name.partition(":")[0] == "unknown_service" else name


def _is_evaluated(span: Span) -> bool:
    return any(event.name == EVALUATION for event in span.events)


def _signed(moment: int) -> int:
    """PostgreSQL has no unsigned numbers; later times are refused with their report anyway."""
    return min(moment, 2**63 - 1)
