"""Reports of calls and of their quality: batches from JSON, each item judged by itself.

A batch is decoded in one go by msgspec. Only one that has a bad item is gone through again item by item, to
name each bad one and keep the rest.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from domain.errors import InvalidRequest
from domain.label_limits import LabelLimits, Labels
from domain.numbers import number
from domain.scope import GLOBAL, SERVICE_PATTERN

EARLIEST_MS = 1_577_836_800_000
"""2020-01-01, before which no report can be true."""
MAX_AHEAD_MS = 5 * 60_000
MAX_ITEMS = 10_000
MAX_TAGS = 64
MAX_LATENCY_MS = 7 * 86_400_000
MAX_TOKENS = 1_000_000_000
MAX_COST_USD = 1_000_000

Millis = Annotated[int, msgspec.Meta(ge=EARLIEST_MS)]
# The pattern is looked at apart: most names are known already, as part of known labels.
ServiceName = Annotated[str, msgspec.Meta(max_length=128, extra_json_schema={"pattern": SERVICE_PATTERN})]
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
VersionName = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
Tokens = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]
Score = Annotated[float, msgspec.Meta(ge=0, le=100)]
TagName = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
TagValue = Annotated[str, msgspec.Meta(max_length=512)]
Tags = Annotated[dict[TagName, TagValue], msgspec.Meta(max_length=MAX_TAGS)]


class MetricReport(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """One call. `tokens_total` is kept as reported: providers count cached and reasoning tokens differently.

    `cost_usd` is None where the caller does not know. `tags.configVersion` says which version served the
    call, `tags.requestId` names it.
    """

    timestamp: Millis
    service: ServiceName
    endpoint: Label
    model: Label
    provider: Label
    latency_ms: Annotated[float, msgspec.Meta(ge=0, le=MAX_LATENCY_MS)]
    tokens_input: Tokens
    tokens_output: Tokens
    tokens_total: Tokens
    status_code: Annotated[int, msgspec.Meta(ge=100, le=599)]
    cost_usd: Annotated[float, msgspec.Meta(ge=0, le=MAX_COST_USD)] | None = None
    error_type: Label | None = None
    retry_count: Annotated[int, msgspec.Meta(ge=0, le=1000)] | None = None
    tags: Tags | None = None

    @property
    def config_version(self) -> str | None:
        """The version that served the call, where the caller says so."""
        return (self.tags.get("configVersion") or None) if self.tags else None

    @property
    def request_id(self) -> str | None:
        """The caller's name for the call, to which quality evaluations refer."""
        return (self.tags.get("requestId") or None) if self.tags else None

    @property
    def labels(self) -> tuple[str, str, str, str, str | None, str | None]:
        """As `Labels` has them."""
        version = self.config_version
        return self.service, self.endpoint, self.provider, self.model, version, self.error_type

    def texts(self) -> Iterable[tuple[str, str | None]]:
        """Every text of the report with its field's name; tags are looked at apart."""
        yield from (("endpoint", self.endpoint), ("model", self.model), ("provider", self.provider))
        yield "errorType", self.error_type


class QualityEvaluation(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """How good a call's answer was, 0..100.

    It belongs to the call of `request_id`, else to the service's calls of `config_version`.
    """

    timestamp: Millis
    service: ServiceName
    overall_score: Score
    request_id: Label | None = None
    config_version: VersionName | None = None
    dimension_scores: Annotated[dict[TagName, Score], msgspec.Meta(max_length=MAX_TAGS)] | None = None
    evaluation_method: Label | None = None
    tags: Tags | None = None

    @property
    def version(self) -> str | None:
        """The version that served the call, by the field or, without that, by the tag."""
        return self.config_version or (self.tags or {}).get("configVersion") or None

    @property
    def labels(self) -> tuple[str, None, None, None, str | None, None]:
        """As `Labels` has them."""
        return self.service, None, None, None, self.version, None

    def texts(self) -> Iterable[tuple[str, str | None]]:
        """Every text of the evaluation with its field's name; tags are looked at apart."""
        yield from (("requestId", self.request_id), ("configVersion", self.config_version))
        yield "evaluationMethod", self.evaluation_method
        yield from (("dimensionScores", name) for name in self.dimension_scores or ())


Report = TypeVar("Report", MetricReport, QualityEvaluation)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A bad item of a batch: its index, and which field is wrong in what way."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class Batch(Generic[Report]):
    """A batch's good items in their order, and its bad ones."""

    accepted: list[Report]
    rejected: list[Rejection]

    @property
    def answer(self) -> dict[str, Any]:
        """What whoever sent it is told."""
        told: dict[str, Any] = {"accepted": len(self.accepted), "rejected": len(self.rejected)}
        if self.rejected:
            told["errors"] = [{"index": bad.index, "reason": bad.reason} for bad in self.rejected]
        return told


class BatchTooLarge(InvalidRequest):
    """More items than one batch may have."""

    status = 413


class _Metrics(msgspec.Struct, forbid_unknown_fields=True):
    metrics: list[MetricReport]


class _Evaluations(msgspec.Struct, forbid_unknown_fields=True):
    evaluations: list[QualityEvaluation]


_SERVICE = re.compile(SERVICE_PATTERN)
_metrics = msgspec.json.Decoder(_Metrics)
_evaluations = msgspec.json.Decoder(_Evaluations)


def parse_metrics(body: bytes, now_ms: int, limits: LabelLimits) -> Batch[MetricReport]:
    """The reports of `{"metrics": [...]}`. `now_ms` is the present time, which timestamps may not pass far.

    Raises:
        InvalidRequest: this is no batch.
        BatchTooLarge: it has more than 10,000 items.
    """
    return _parse(body, "metrics", MetricReport, lambda raw: _metrics.decode(raw).metrics, now_ms, limits)


def check_metrics(items: list[dict[str, Any]], now_ms: int, limits: LabelLimits) -> Batch[MetricReport]:
    """The reports among the items of a batch that came by another way than JSON, named as in JSON.

    Raises:
        BatchTooLarge: there are more than 10,000 items.
    """
    limits.turn_to(now_ms)
    _require_size(len(items))
    try:
        reports = msgspec.convert(items, list[MetricReport])
    except (msgspec.ValidationError, UnicodeEncodeError):
        return _sort_out((_convert(item, MetricReport) for item in items), now_ms, limits)
    latest, known = now_ms + MAX_AHEAD_MS, limits.known
    if all(one.timestamp <= latest and one.labels in known and _has_storable_tags(one) for one in reports):
        return Batch(reports, [])
    return _sort_out(((report, None) for report in reports), now_ms, limits)


def parse_quality(body: bytes, now_ms: int, limits: LabelLimits) -> Batch[QualityEvaluation]:
    """The evaluations of `{"evaluations": [...]}`, as `parse_metrics` does."""
    return _parse(
        *(body, "evaluations", QualityEvaluation, lambda raw: _evaluations.decode(raw).evaluations),
        *(now_ms, limits),
    )


def check_quality(items: list[dict[str, Any]], now_ms: int, limits: LabelLimits) -> Batch[QualityEvaluation]:
    """The evaluations among items, as `check_metrics` does."""
    limits.turn_to(now_ms)
    _require_size(len(items))
    return _sort_out((_convert(item, QualityEvaluation) for item in items), now_ms, limits)


def _parse(
    body: bytes,
    field: str,
    kind: type[Report],
    decode: Callable[[bytes], list[Report]],
    now_ms: int,
    limits: LabelLimits,
) -> Batch[Report]:
    limits.turn_to(now_ms)
    try:
        items = decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _sort_out((_convert(item, kind) for item in _items(body, field)), now_ms, limits)
    _require_size(len(items))
    latest, known = now_ms + MAX_AHEAD_MS, limits.known
    if b"\\u0000" not in body and all(item.timestamp <= latest and item.labels in known for item in items):
        return Batch(items, [])
    return _sort_out(((item, None) for item in items), now_ms, limits)


def _convert(item: Any, kind: type[Report]) -> tuple[Report | None, str | None]:
    try:
        return msgspec.convert(item, kind), None
    except msgspec.ValidationError as error:
        return None, _reason(error)
    except UnicodeEncodeError:
        return None, "the name of a field is not valid Unicode"


def _sort_out(
    judged: Iterable[tuple[Report | None, str | None]], now_ms: int, limits: LabelLimits
) -> Batch[Report]:
    batch: Batch[Report] = Batch([], [])
    for index, (item, reason) in enumerate(judged):
        if item is not None:
            reason = _fault(item, now_ms) or limits.refusal(Labels(*item.labels))
        if item is None or reason is not None:
            batch.rejected.append(Rejection(index, reason or "not a report"))
        else:
            batch.accepted.append(item)
    return batch


def _fault(item: MetricReport | QualityEvaluation, now_ms: int) -> str | None:
    """What the types alone cannot say of an item."""
    if item.timestamp > now_ms + MAX_AHEAD_MS:
        return "timestamp: more than 5 minutes ahead"
    if not _SERVICE.fullmatch(item.service):
        return f"service: expected `str` matching regex {SERVICE_PATTERN!r}"
    if item.service == GLOBAL:
        return f"service: {GLOBAL!r} is reserved"
    tags = (("tags", text) for pair in (item.tags or {}).items() for text in pair)
    for name, text in (*item.texts(), *tags):
        if text is not None and not storable(text):
            return f"{name}: NUL characters and lone surrogates cannot be kept"
    return None


def _has_storable_tags(report: MetricReport) -> bool:
    return not report.tags or all(storable(text) for pair in report.tags.items() for text in pair)


def storable(text: str) -> bool:
    """Whether PostgreSQL can keep the text: it has no NUL and is valid Unicode."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _reason(error: msgspec.ValidationError) -> str:
    """msgspec's `Expected ... - at `$.latencyMs`` as `latencyMs: expected ...`."""
    message, _, path = str(error).partition(" - at ")
    message = message[0].lower() + message[1:].replace("\0", "\\0")
    if path.startswith("`key` in "):
        message = f"name: {message}"
    field = path.removeprefix("`key` in ").strip("`").removeprefix("$").removeprefix(".")
    return f"{field}: {message}" if field else message


def _items(body: bytes, field: str) -> list[Any]:
    """The undecoded items of a batch in which something is wrong."""
    try:
        batch = json.loads(body.decode(), parse_int=_whole, parse_float=number)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
    if not isinstance(batch, dict) or not isinstance(batch.get(field), list):
        raise InvalidRequest(f'the body must be {{"{field}": [...]}}')
    unknown = sorted(set(batch) - {field})
    if unknown:
        raise InvalidRequest(f"unknown field {unknown[0]!r} beside {field!r}")
    items: list[Any] = batch[field]
    _require_size(len(items))
    return items


def _whole(digits: str) -> int | float:
    """Whole numbers of any length; those past every bound need not be exact, and Python limits the digits."""
    return int(digits) if len(digits) < 40 else float(digits)


def _require_size(count: int) -> None:
    if count > MAX_ITEMS:
        raise BatchTooLarge(f"a batch has at most {MAX_ITEMS:,} items, not {count:,}")
