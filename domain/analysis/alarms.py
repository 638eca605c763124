"""From readings of a series to anomalies: what is told, how grave it is, and when it is over."""

from dataclasses import dataclass
from typing import Literal

from domain.analysis.anomaly import Anomaly, Direction
from domain.analysis.binomial import chance_of_as_few, chance_of_as_many
from domain.analysis.detector import ALERT, LARGEST, Reading
from domain.base import Message
from domain.conditions import SEVERITIES, Severity
from domain.metrics import HIGHER_IS_BETTER, METRICS

COOLDOWN_MS = 6 * 3_600_000
LASTING_WINDOWS = 3
"""So many windows beyond the range make an anomaly graver, and so many back within it end it."""
SEVERE_FROM = (1.5, 2.0, 3.0)
# How often an alert of that strength was an anomaly indeed, on the Numenta Anomaly Benchmark.
PRECISION = ((3.0, 0.83), (1.5, 0.56), (0.0, 0.46))
FULL_HISTORY_MS = 14 * 86_400_000
# Of a family of metrics whose level is neither good nor bad, either way may be the sign of harm.
NEITHER_IS_BETTER = ("requests.", "tokens.")

CHANCE = 1e-4
"""An error rate is anomalous where counts like its own come by chance less often than this."""
LEAST_EXPECTED = 0.001
"""Of services without errors as many as this are expected all the same: calls to a model do fail."""
COUNTS_HALF_LIFE_MS = 86_400_000


class AlarmState(Message):
    """What is remembered of a series' anomalies: the open one, the cooldown, and how often calls failed.

    `requests` and `errors` fade with a half-life of a day.
    """

    since: int | None = None
    at: int | None = None
    open: Anomaly | None = None
    calm_windows: int = 0
    cooldown_until: int | None = None
    cooldown_severity: Severity = "low"
    requests: float = 0.0
    errors: float = 0.0


@dataclass(frozen=True, slots=True)
class Change:
    """Something to tell of an anomaly; `alert` says that the value itself was cause for it."""

    kind: Literal["opened", "worsened", "ended"]
    anomaly: Anomaly
    alert: bool


def severity_of(strength: float, *, windows: int = 1, harmful: bool = True) -> Severity:
    """How grave an anomaly is: by strength, graver where harm lasts, and never grave where it does good."""
    if not harmful:
        return "low"
    rank = sum(strength >= bound for bound in SEVERE_FROM) + (windows >= LASTING_WINDOWS)
    return SEVERITIES[min(rank, len(SEVERITIES) - 1)]


def confidence_of(strength: float, history_ms: int) -> float:
    """The measured precision of alerts of such a strength, less where the history is under 14 days."""
    precision = next(share for bound, share in PRECISION if strength >= bound)
    return precision * min(1.0, history_ms / FULL_HISTORY_MS)


def is_harmful(metric: str, direction: Direction) -> bool:
    """Whether a metric that goes that way may be a sign of harm; of one that is not ours, either way may."""
    if metric not in METRICS or metric.startswith(NEITHER_IS_BETTER):
        return True
    return direction == ("down" if metric in HIGHER_IS_BETTER else "up")


class Alarms:
    """Follows the anomalies of a metric, in any of its series, whose memory is the caller's to keep.

    An alert opens an episode, or makes the open one worse. It is followed by six hours in which only an alert
    of a higher severity is told. An episode is over when the value has been back in the range that it left
    for three windows in a row, when it leaves it on the other side, or when the six hours are over: what has
    lasted for so long is what the detector expects by then.
    """

    def __init__(self, metric: str) -> None:
        self._metric = metric

    def step(
        self,
        state: AlarmState,
        at: int,
        value: float,
        reading: Reading,
        *,
        requests: int | None = None,
        errors: int | None = None,
    ) -> list[Change]:
        """What there is to tell after a reading of time `at` (ms), remembering it in `state`.

        With both counts, those of the window, an alert has to stand an exact binomial test of the errors
        against the rate of the days before. What the detector skips changes nothing: a value that is not
        finite, and a reading that is not after the last.

        Raises:
            ValueError: there are more errors than requests, or fewer than none.
        """
        if errors is not None and not 0 <= errors <= (requests or 0):
            raise ValueError(f"{errors} errors of {requests or 0} requests")
        late = state.at is not None and at <= state.at < at + FULL_HISTORY_MS
        if late or not abs(value) <= LARGEST:
            return []
        counted = requests is not None and errors is not None and requests > 0
        changes: list[Change] = []
        if state.open is not None or reading.score >= ALERT:
            credible = not counted or _is_credible(state, requests or 0, errors or 0)
            alert = reading.score >= ALERT and credible
            changes = self._follow(state, at, value, reading if alert else None)
            if alert and state.open is None and self._may_alert(state, at, value, reading):
                changes.append(self._opened(state, at, value, reading))
        if counted:
            _count(state, at, requests or 0, errors or 0)
        if state.since is None or at < state.since:
            state.since = at
        state.at = at
        return changes

    def _may_alert(self, state: AlarmState, at: int, value: float, reading: Reading) -> bool:
        until = state.cooldown_until
        if until is None or not until - COOLDOWN_MS <= at < until:
            return True
        harmful = is_harmful(self._metric, _direction(value, reading))
        return _rank(severity_of(reading.strength, harmful=harmful)) > _rank(state.cooldown_severity)

    def _opened(self, state: AlarmState, at: int, value: float, reading: Reading) -> Change:
        assert reading.low is not None
        assert reading.high is not None
        assert reading.detector is not None
        direction = _direction(value, reading)
        harmful = is_harmful(self._metric, direction)
        anomaly = Anomaly(
            metric=self._metric,
            direction=direction,
            harmful=harmful,
            severity=severity_of(reading.strength, harmful=harmful),
            confidence=_confidence(state, at, reading.strength),
            detector=reading.detector,
            strength=reading.strength,
            value=float(value),
            low=reading.low,
            high=reading.high,
            started_at=at,
            last_at=at,
        )
        state.open, state.calm_windows = anomaly, 0
        state.cooldown_until, state.cooldown_severity = at + COOLDOWN_MS, anomaly.severity
        return Change("opened", anomaly, alert=True)

    def _follow(self, state: AlarmState, at: int, value: float, alert: Reading | None) -> list[Change]:
        """Go on with the open anomaly, if there is one; `alert` is the reading where it is cause for one."""
        before = state.open
        if before is None:
            return []
        turned = alert is not None and _direction(value, alert) != before.direction
        beyond = value > before.high if before.direction == "up" else value < before.low
        state.calm_windows = 0 if beyond or (alert is not None and not turned) else state.calm_windows + 1
        if (
            state.calm_windows >= LASTING_WINDOWS
            or (alert is not None and turned and self._may_alert(state, at, value, alert))
            or self._is_settled(state, before, at)
        ):
            state.open = None
            return [Change("ended", before.model_copy(update={"ended_at": at}), alert=False)]
        if state.calm_windows:
            return []
        anomaly = self._continued(state, before, at, value, alert)
        state.open = anomaly
        if _rank(anomaly.severity) <= _rank(before.severity):
            return []
        state.cooldown_severity = anomaly.severity
        graver = alert is not None and _rank(severity_of(alert.strength)) > _rank(before.severity)
        if graver:
            state.cooldown_until = at + COOLDOWN_MS
        return [Change("worsened", anomaly, alert=graver)]

    def _is_settled(self, state: AlarmState, before: Anomaly, at: int) -> bool:
        # With windows of hours, three of them may take longer than the cooldown.
        until = state.cooldown_until
        return until is not None and at >= until and before.windows >= LASTING_WINDOWS

    def _continued(
        self, state: AlarmState, before: Anomaly, at: int, value: float, alert: Reading | None
    ) -> Anomaly:
        strength = max(before.strength, alert.strength) if alert else before.strength
        windows = before.windows + 1
        stronger = alert is not None and alert.strength > before.strength
        furthest = max if before.direction == "up" else min
        return before.model_copy(
            update={
                "severity": severity_of(strength, windows=windows, harmful=before.harmful),
                "confidence": _confidence(state, at, strength),
                "detector": alert.detector if alert is not None and stronger else before.detector,
                "strength": strength,
                "value": furthest(before.value, float(value)),
                "last_at": at,
                "windows": windows,
            }
        )


def _direction(value: float, reading: Reading) -> Direction:
    # By the hour's median, a value may be within the range and the hour beyond it.
    assert reading.low is not None
    assert reading.high is not None
    return "up" if value >= (reading.low + reading.high) / 2 else "down"


def _rank(severity: Severity) -> int:
    return SEVERITIES.index(severity)


def _confidence(state: AlarmState, at: int, strength: float) -> float:
    since = at if state.since is None else state.since
    return round(confidence_of(strength, at - since), 4)


def _is_credible(state: AlarmState, requests: int, errors: int) -> bool:
    rate = max((state.errors + 0.5) / (state.requests + 1), LEAST_EXPECTED)
    if errors > rate * requests:
        return chance_of_as_many(errors, requests, rate) < CHANCE
    return chance_of_as_few(errors, requests, rate) < CHANCE


def _count(state: AlarmState, at: int, requests: int, errors: int) -> None:
    passed = max(0, at - state.at) if state.at is not None else 0
    kept = 0.5 ** (passed / COUNTS_HALF_LIFE_MS)
    state.requests = state.requests * kept + requests
    state.errors = state.errors * kept + errors
