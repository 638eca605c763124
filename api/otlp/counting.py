"""The calls that histograms have counted since they last came, each as a report."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from api.otlp.batches import Problems
from api.otlp.points import DURATION, Calls, Point, Points
from api.otlp.spans import outcome
from domain.reports import MAX_ITEMS
from domain.telemetry import SeriesState, increase, split, values
from storage.telemetry import SeriesStep, Standing


@dataclass(slots=True)
class Counted:
    """Reports' fields, of each the steps that it came by, and what is wrong with others."""

    fields: list[dict[str, Any]] = field(default_factory=list)
    steps: list[SeriesStep] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)


@dataclass(frozen=True, slots=True)
class _Step:
    """What a point adds to what was known of its series."""

    point: Point
    before: SeriesState | None
    new: SeriesState

    @property
    def since(self) -> int:
        """From when on its calls were made (ns)."""
        return self.point.start if self.before is None else max(self.point.start, self.before.at)


def count(points: Points, standing: Standing) -> Counted:
    """The new calls of the services that send no spans; of those that do, the series only go on.

    Latencies are spread over the buckets that they were counted in, tokens shared among the calls that did
    not fail, and all of them over the time since the last point. Tokens are left for later until their calls
    are counted.
    """
    counted = Counted()
    usages = _by_calls(points.usages)
    for calls, durations in _by_calls(points.durations).items():
        steps = list(_steps(durations, standing.states))
        if not steps:
            continue
        used = list(_steps(usages.get(calls, ()), standing.states))
        first = len(counted.fields)
        made = sum(step.new.count for step in steps)
        if calls.service in standing.with_spans:
            pass
        elif made > MAX_ITEMS - first:
            counted.problems.reject(DURATION, f"{made:,} calls since the last point are too many", len(steps))
        else:
            counted.fields += _reports(calls, steps, used)
        counted.steps += (
            SeriesStep(
                series=step.point.series,
                before=None if step.before is None else step.before.at,
                state=step.point.state,
                first=first,
                last=len(counted.fields),
            )
            for step in (*steps, *used)
        )
    return counted


def _by_calls(points: Sequence[Point]) -> dict[Calls, list[Point]]:
    found: dict[Calls, list[Point]] = {}
    for point in points:
        found.setdefault(point.calls, []).append(point)
    return found


def _steps(points: Sequence[Point], states: Mapping[bytes, SeriesState]) -> Iterator[_Step]:
    """The points that go on from what is known, with what they add; one for each series."""
    latest = {point.series: point for point in sorted(points, key=lambda point: point.state.at)}
    for series, point in latest.items():
        before = states.get(series)
        if before is None or point.state.at > before.at:
            new = increase(before, point.state) if point.cumulative else point.state
            if new.count:
                yield _Step(point, before, new)


def _reports(calls: Calls, steps: Sequence[_Step], used: Sequence[_Step]) -> Iterator[dict[str, Any]]:
    succeeded = sum(step.new.count for step in steps if step.point.kind is None)
    tokens = {
        kind: iter(split(round(sum(step.new.sum for step in used if step.point.kind == kind)), succeeded))
        if succeeded
        else iter(())
        for kind in ("input", "output")
    }
    tags = {} if calls.version is None else {"configVersion": calls.version}
    for step in steps:
        until, since = step.point.state.at, step.since or step.point.state.at
        latencies = values(step.new, step.point.bounds)
        for index, latency in enumerate(latencies, start=1):
            tokens_in, tokens_out = (
                (next(tokens[kind]) if step.point.kind is None else 0) for kind in ("input", "output")
            )
            yield {
                "timestamp": (since + (until - since) * index // len(latencies)) // 1_000_000,
                "service": calls.service,
                "endpoint": calls.endpoint,
                "provider": calls.provider,
                "model": calls.model,
                "latencyMs": latency * step.point.factor * 1000,
                "tokensInput": tokens_in,
                "tokensOutput": tokens_out,
                "tokensTotal": tokens_in + tokens_out,
                "tags": tags,
                **outcome(step.point.kind, None),
            }
