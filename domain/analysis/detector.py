"""The streaming anomaly detector: how far a value is from what its own series led one to expect.

A value is compared with three centres: the series' exponentially weighted mean over an hour and over six
hours, and the median of its hour of the day over two weeks. Each distance is measured in units of the largest
such distance of late, its record, which fades with a half-life of 30 days. So a series with wide swings has
to swing wider still to be noticed, and no distribution is assumed. Any value costs microseconds, and only
past ones are looked at.
"""

from dataclasses import dataclass
from math import inf
from statistics import median
from typing import Annotated, NamedTuple

from pydantic import Field

from domain.analysis.anomaly import DetectorType
from domain.base import Message

ALERT = 0.5
"""The score from which a value is called anomalous."""
ALERT_STRENGTH = 1.2
"""The strength at that score."""
STRONGEST = 1000.0
"""The strength of any surprise that has no finite one: a change after nothing but zeros."""
LARGEST = 1e300
"""The largest magnitude of a value; what is past it is skipped, as infinity is."""

FAST_HOURS, SLOW_HOURS = 1, 6
SHORTEST_MEMORY, LONGEST_MEMORY = 10, 4000
WARM_UP = 40
FLOOR = 0.05
HIGHEST_RISE = 3.0
# Of a glitch by a factor of a million a mean would speak for days: past so many records it counts no more.
FURTHEST_PULL = 20.0
HALF_LIFE_SECONDS = 30 * 86_400
HOUR_MS = 3_600_000
HOURS_KEPT = 14 * 24
FEWEST_DAYS = 2
# Where more points than this fall into an hour, every k-th stands for its neighbours in the seasonal part.
MOST_PER_HOUR = 120


class DetectorState(Message):
    """All that the detector remembers of a series: about 3 kB as JSON at a step of five minutes.

    `fast` and `slow` are the weighted means of `points` values, each of the three records the largest
    distance of late. `medians` holds the medians of the last 14 days' hours, an hour's place being its number
    since the epoch modulo 336; `hour_values` are those of the present hour, `predicted` what its past medians
    lead one to expect, and `differences` how far the last hour's values were from that.
    """

    at: int | None = None
    points: int = 0
    fast: float = 0.0
    slow: float = 0.0
    fast_record: float = 0.0
    slow_record: float = 0.0
    seasonal_points: int = 0
    seasonal_record: float = 0.0
    predicted: float | None = None
    hour: int | None = None
    hour_values: list[float] = Field(default_factory=list)
    differences: list[float] = Field(default_factory=list)
    medians: Annotated[list[float | None], Field(min_length=HOURS_KEPT, max_length=HOURS_KEPT)] = Field(
        default_factory=lambda: list[float | None]([None] * HOURS_KEPT)
    )


@dataclass(frozen=True, slots=True)
class Reading:
    """What the detector makes of one value.

    `score` is 0 to 1, `strength` the distance in records that it comes from, `low` and `high` bound the
    expected range of the centre that the value is furthest from; None until there is one.
    """

    score: float
    strength: float
    low: float | None
    high: float | None
    detector: DetectorType | None


UNREAD = Reading(0.0, 0.0, None, None, None)


class _Distance(NamedTuple):
    """A distance in records, the unit that it was measured in, and the record with it in."""

    strength: float
    unit: float
    record: float


class Detector:
    """Reads the values of any series of one step, whose memory is the caller's to keep.

    Args:
        step_seconds: the usual time between two values; they may come irregularly.
        lowest: the least value that the metric can take; expected ranges end there.
        highest: the greatest.

    Raises:
        ValueError: the step is not positive.
    """

    def __init__(self, step_seconds: float, *, lowest: float = -inf, highest: float = inf) -> None:
        if not 0 < step_seconds < inf:
            raise ValueError(f"a step of {step_seconds} s is not positive")
        self._lowest, self._highest = lowest, highest
        self._fast, self._slow = _weight(FAST_HOURS, step_seconds), _weight(SLOW_HOURS, step_seconds)
        self._decay = 0.5 ** (step_seconds / HALF_LIFE_SECONDS)
        span = max(3, round(3600 / step_seconds))
        self._stride = -(-span // MOST_PER_HOUR)
        self._span = span // self._stride
        self._span_ms = span * step_seconds * 1000

    def step(self, state: DetectorState, at: int, value: float) -> Reading:
        """Read the value of time `at` (ms) and remember it in `state`.

        A value that is not finite is skipped: nothing is remembered and nothing said. So is one that is not
        after the last, which makes reading a series again harmless; but where the time is back by 14 days or
        more, the clock was set, and the detector goes on from there without its memory of hours.
        """
        if not -LARGEST <= value <= LARGEST or _is_late(state, at):
            return UNREAD
        value = float(value)
        if state.at is not None and at - state.at > self._span_ms:
            state.differences.clear()
        hour = at // HOUR_MS
        if hour != state.hour:
            _enter_hour(state, hour)
        if state.points % self._stride == 0 and len(state.hour_values) < MOST_PER_HOUR:
            state.hour_values.append(value)
        state.at = at
        if not state.points:
            self._average(state, value, value)
            return UNREAD
        return self._read(state, value)

    def _read(self, state: DetectorState, value: float) -> Reading:
        floor = FLOOR * abs(state.slow)
        # The first value has no distance, so there is one fewer of them than of points.
        warm = state.points > WARM_UP
        distance = self._measure(abs(value - state.fast), state.fast_record, floor, warm)
        state.fast_record = distance.record
        fast_value = _pulled(value, state.fast, distance)
        centre, strength, unit, detector = state.fast, distance.strength, distance.unit, "ewma_fast"
        distance = self._measure(abs(value - state.slow), state.slow_record, floor, warm)
        state.slow_record = distance.record
        slow_value = _pulled(value, state.slow, distance)
        if distance.strength > strength:
            centre, strength, unit, detector = state.slow, distance.strength, distance.unit, "ewma_slow"
        predicted = state.predicted
        shifted = self._shift(state, value)
        if predicted is not None and shifted is not None:
            seasonal_warm = state.seasonal_points >= WARM_UP
            distance = self._measure(shifted, state.seasonal_record, floor, seasonal_warm)
            state.seasonal_record = distance.record
            state.seasonal_points += 1
            if distance.strength > strength:
                centre, strength, unit, detector = predicted, distance.strength, distance.unit, "seasonal"
        self._average(state, fast_value, slow_value)
        if not warm:
            return UNREAD
        reach = ALERT_STRENGTH * unit
        return Reading(
            strength / (strength + ALERT_STRENGTH),
            strength,
            self._within(centre - reach),
            self._within(centre + reach),
            detector,  # type: ignore[arg-type]  # one of the three
        )

    def _measure(self, distance: float, record: float, floor: float, warm: bool) -> _Distance:
        unit = record if record > floor else floor
        strength = 0.0
        if warm and distance > 0:
            strength = min(distance / unit, STRONGEST) if unit > 0 else STRONGEST
        if warm and record > 0 and distance > HIGHEST_RISE * unit:
            # One wild value does not blind the detector for weeks.
            distance = HIGHEST_RISE * unit
        return _Distance(strength, unit, max(record * self._decay, distance))

    def _shift(self, state: DetectorState, value: float) -> float | None:
        """How far the last hour lies from its prediction: the median difference, once there is an hour."""
        differences = state.differences
        if state.predicted is None:
            differences.clear()
            return None
        if state.points % self._stride == 0:
            differences.append(value - state.predicted)
            if len(differences) > self._span:
                del differences[0]
        if len(differences) < self._span:
            return None
        ordered, middle = sorted(differences), self._span // 2
        if self._span % 2:
            return abs(ordered[middle])
        return abs(ordered[middle - 1] + ordered[middle]) / 2

    def _average(self, state: DetectorState, fast_value: float, slow_value: float) -> None:
        points = state.points + 1
        # Dividing by the sum of weights so far makes the mean of few values their own, not one drawn to 0.
        state.fast += (fast_value - state.fast) * self._fast / (1 - (1 - self._fast) ** points)
        state.slow += (slow_value - state.slow) * self._slow / (1 - (1 - self._slow) ** points)
        state.points = points

    def _within(self, bound: float) -> float:
        return min(max(bound, self._lowest), self._highest)


def _weight(hours: int, step_seconds: float) -> float:
    memory = min(max(round(hours * 3600 / step_seconds), SHORTEST_MEMORY), LONGEST_MEMORY)
    return 2 / (memory + 1)


def _pulled(value: float, centre: float, distance: _Distance) -> float:
    """The value as a mean takes it in: not further out than so many records."""
    reach = FURTHEST_PULL * distance.unit
    if distance.strength <= FURTHEST_PULL or reach == 0:
        return value
    return centre + reach if value > centre else centre - reach


def _is_late(state: DetectorState, at: int) -> bool:
    return state.at is not None and state.at - HOURS_KEPT * HOUR_MS < at <= state.at


def _enter_hour(state: DetectorState, hour: int) -> None:
    """Close the hour that was, forget those that passed without values, and predict the one that begins."""
    if state.hour is not None:
        medians = state.medians
        if state.hour_values:
            # Seven digits are more than any metric has, and make the state half as long.
            medians[state.hour % HOURS_KEPT] = float(f"{median(state.hour_values):.7g}")
            state.hour_values.clear()
        passed = range(state.hour + 1, hour) if 0 < hour - state.hour <= HOURS_KEPT else range(HOURS_KEPT)
        for empty in passed:
            medians[empty % HOURS_KEPT] = None
    state.hour = hour
    known = [value for value in state.medians[hour % 24 :: 24] if value is not None]
    state.predicted = median(known) if len(known) >= FEWEST_DAYS else None
