"""What cumulative histograms tell of the calls that they counted."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SeriesState:
    """A histogram at some time (ns since the epoch): how many values, their sum, and how many by bucket."""

    at: int
    count: int
    sum: float
    buckets: tuple[int, ...] = ()


def increase(before: SeriesState | None, now: SeriesState) -> SeriesState:
    """What came since; all of it where the series is new or was begun anew."""
    if before is None or len(before.buckets) != len(now.buckets):
        return now
    buckets = tuple(new - old for new, old in zip(now.buckets, before.buckets, strict=True))
    if now.count < before.count or any(count < 0 for count in buckets):
        return now
    return SeriesState(now.at, now.count - before.count, max(0.0, now.sum - before.sum), buckets)


def values(histogram: SeriesState, bounds: Sequence[float]) -> list[float]:
    """As many values as were counted: so many in each bucket, and together their sum.

    Where the sum allows it, each is as far into its bucket as every other one is into its own. What cannot be
    in the buckets that have an upper bound is in the last, which has none. Without buckets all are the mean.
    """
    if not bounds:
        return [histogram.sum / histogram.count] * histogram.count if histogram.count else []
    lows = [0.0, *bounds]
    widths = [high - low for low, high in zip(lows, bounds, strict=False)] + [0.0]
    lowest = sum(count * low for count, low in zip(histogram.buckets, lows, strict=True))
    room = sum(count * width for count, width in zip(histogram.buckets, widths, strict=True))
    share = min(1.0, max(0.0, (histogram.sum - lowest) / room)) if room else 0.0
    beyond = max(0.0, histogram.sum - lowest - share * room)
    last = beyond / histogram.buckets[-1] if histogram.buckets[-1] else 0.0
    tops = [
        *(low + share * width for low, width in zip(lows[:-1], widths[:-1], strict=True)),
        lows[-1] + last,
    ]
    return [value for value, count in zip(tops, histogram.buckets, strict=True) for _ in range(count)]


def split(total: int, parts: int) -> list[int]:
    """A whole number as that many whole parts that differ by one at most."""
    each, more = divmod(total, parts)
    return [each + 1] * more + [each] * (parts - more)
