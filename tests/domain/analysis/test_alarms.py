"""What is told of readings: severity, confidence, cooldown, episodes, and the test of error counts."""

import math

import pytest
from scipy import stats

from domain.analysis.alarms import COOLDOWN_MS, Alarms, AlarmState, Change, confidence_of, severity_of
from domain.analysis.anomaly import DetectorType
from domain.analysis.binomial import chance_of_as_few, chance_of_as_many
from domain.analysis.detector import UNREAD, Reading

START = 1_788_220_800_000
STEP = 300_000
DAY = 86_400_000


def _reading(strength: float, low: float = 90.0, high: float = 110.0) -> Reading:
    detector: DetectorType = "ewma_slow"
    return Reading(strength / (strength + 1.2), strength, low, high, detector)


class _Series:
    """Readings one window after the other, and what was told at each."""

    def __init__(self, metric: str = "latency.p95") -> None:
        self.alarms, self.state, self.at = Alarms(metric), AlarmState(), START

    def step(
        self,
        strength: float = 0.5,
        value: float = 100.0,
        *,
        requests: int | None = None,
        errors: int | None = None,
        after: int = STEP,
        low: float = 90.0,
        high: float = 110.0,
    ) -> list[Change]:
        self.at += after
        reading = _reading(strength, low, high)
        return self.alarms.step(self.state, self.at, value, reading, requests=requests, errors=errors)


@pytest.mark.parametrize(
    ("strength", "severity", "lasting"),
    [
        (1.2, "low", "medium"),
        (1.49, "low", "medium"),
        (1.5, "medium", "high"),
        (1.99, "medium", "high"),
        (2.0, "high", "critical"),
        (2.99, "high", "critical"),
        (3.0, "critical", "critical"),
        (1000.0, "critical", "critical"),
    ],
)
def test_severity(strength: float, severity: str, lasting: str) -> None:
    assert severity_of(strength) == severity
    assert severity_of(strength, windows=2) == severity
    assert severity_of(strength, windows=3) == lasting
    assert severity_of(strength, windows=3, harmful=False) == "low"


@pytest.mark.parametrize(
    ("strength", "days", "confidence"),
    [
        (1.2, 14, 0.46),
        (1.49, 40, 0.46),
        (1.5, 14, 0.56),
        (2.99, 7, 0.28),
        (3.0, 14, 0.83),
        (9.0, 3.5, 0.2075),
    ],
)
def test_confidence(strength: float, days: float, confidence: float) -> None:
    assert confidence_of(strength, round(days * DAY)) == pytest.approx(confidence)


def test_an_anomaly_as_it_is_told() -> None:
    series = _Series()
    assert series.step() == []
    [change] = series.step(1.6, 130.0, after=7 * DAY)
    assert (change.kind, change.alert) == ("opened", True)
    assert change.anomaly.to_json() == {
        "metric": "latency.p95",
        "direction": "up",
        "harmful": True,
        "severity": "medium",
        "confidence": 0.28,
        "detector": "ewma_slow",
        "strength": 1.6,
        "value": 130.0,
        "low": 90.0,
        "high": 110.0,
        "startedAt": series.at,
        "lastAt": series.at,
        "windows": 1,
    }


def test_it_grows_worse_by_strength_and_by_lasting_and_ends() -> None:
    series = _Series()
    [opened] = series.step(1.3, 120.0)
    assert opened.anomaly.severity == "low"
    [worsened] = series.step(2.1, 180.0)
    assert (worsened.kind, worsened.alert) == ("worsened", True)
    assert (worsened.anomaly.severity, worsened.anomaly.value) == ("high", 180.0)
    # Beyond the range that it left, whatever the detector has grown used to.
    [lasting] = series.step(0.9, 150.0)
    assert (lasting.kind, lasting.alert) == ("worsened", False)
    assert (lasting.anomaly.severity, lasting.anomaly.windows, lasting.anomaly.value) == (
        "critical",
        3,
        180.0,
    )
    assert series.step(0.3, 150.0) == []
    last = series.at
    assert [series.step(), series.step()] == [[], []]
    [ended] = series.step()
    assert (ended.kind, ended.anomaly.last_at, ended.anomaly.ended_at) == ("ended", last, series.at)
    assert (ended.anomaly.windows, ended.anomaly.severity) == (4, "critical")
    assert series.state.open is None


def test_three_calm_windows_end_it_only_in_a_row() -> None:
    series = _Series()
    series.step(1.3, 120.0)
    for _ in range(4):
        assert [series.step(), series.step()] == [[], []]
        series.step(0.8, 120.0)
    assert series.state.open is not None


def test_what_lasts_for_six_hours_is_the_new_level() -> None:
    series = _Series()
    series.step(1.3, 120.0)
    told = [series.step(0.2, 120.0) for _ in range(COOLDOWN_MS // STEP)]
    assert [[change.kind for change in changes] for changes in told if changes] == [["worsened"], ["ended"]]
    assert told[-1]


@pytest.mark.parametrize(("strength", "tells"), [(1.3, False), (1.6, False), (1.99, False), (2.0, True)])
def test_the_cooldown_is_broken_by_a_higher_severity_alone(strength: float, tells: bool) -> None:
    series = _Series()
    series.step(1.7, 120.0)
    for _ in range(3):
        series.step()
    assert series.state.open is None
    assert [change.kind for change in series.step(strength, 120.0)] == (["opened"] if tells else [])


def test_the_cooldown_lasts_six_hours_from_the_last_alert() -> None:
    series = _Series()
    series.step(1.7, 120.0)
    first = series.at
    for _ in range(3):
        series.step()
    assert series.step(1.7, 120.0, after=first + COOLDOWN_MS - 1 - series.at) == []
    assert [change.kind for change in series.step(1.7, 120.0, after=1)] == ["opened"]


def test_the_other_direction_is_another_anomaly() -> None:
    series = _Series("requests.count")
    series.step(1.3, 120.0)
    assert series.step(1.3, 80.0) == []
    ended, opened = series.step(1.6, 70.0)
    assert (ended.kind, opened.kind) == ("ended", "opened")
    assert (opened.anomaly.direction, opened.anomaly.severity) == ("down", "medium")


@pytest.mark.parametrize(
    ("metric", "value", "harmful"),
    [
        ("latency.p95", 200.0, True),
        ("latency.p95", 20.0, False),
        ("cost.total", 20.0, False),
        ("errors.count", 200.0, True),
        ("quality.avg", 200.0, False),
        ("quality.avg", 20.0, True),
        ("requests.rate", 20.0, True),
        ("requests.count", 200.0, True),
        ("tokens.output", 20.0, True),
        ("tokens.total", 200.0, True),
    ],
)
def test_what_does_good_is_never_grave(metric: str, value: float, harmful: bool) -> None:
    series = _Series(metric)
    [change] = series.step(5.0, value)
    assert change.anomaly.harmful == harmful
    assert change.anomaly.severity == ("critical" if harmful else "low")
    for _ in range(5):
        assert series.step(5.0, value) == []


def test_what_the_detector_skips_changes_nothing() -> None:
    series = _Series()
    series.step(1.3, 120.0)
    before = series.state.model_copy(deep=True)
    for at, value in ((series.at, 500.0), (series.at - STEP, 500.0), (series.at + STEP, math.nan)):
        assert series.alarms.step(series.state, at, value, UNREAD) == []
    assert series.state == before


def test_a_restart_forgets_nothing() -> None:
    strengths = [0.5, 1.3, 1.3, 0.9, 2.2, 0.4, 0.4, 0.4, 1.9, 3.5, 0.1, 0.1, 0.1, 0.1] * 3
    whole, restarted = _Series(), _Series()
    for strength in strengths:
        value = 130.0 if strength > 0.5 else 100.0
        told = whole.step(strength, value)
        restarted.state = AlarmState.model_validate_json(restarted.state.model_dump_json(by_alias=True))
        assert restarted.step(strength, value) == told


@pytest.mark.parametrize(
    ("k", "n", "p"), [(0, 20, 0.01), (1, 20, 0.01), (7, 900, 0.002), (20, 20, 0.3), (60, 100_000, 5e-4)]
)
def test_the_binomial_tails_are_scipys(k: int, n: int, p: float) -> None:
    many, few = (stats.binomtest(k, n, p, side).pvalue for side in ("greater", "less"))
    assert chance_of_as_many(k, n, p) == pytest.approx(many, rel=1e-9)
    assert chance_of_as_few(k, n, p) == pytest.approx(few, rel=1e-9)


@pytest.mark.parametrize(
    ("errors", "requests", "tells"),
    [(1, 20, False), (2, 20, False), (3, 20, True), (5, 1000, False), (60, 1000, True)],
)
def test_few_errors_of_few_requests_are_no_anomaly(errors: int, requests: int, tells: bool) -> None:
    series = _Series("errors.rate")
    for _ in range(50):
        series.step(value=0.0, requests=2000, errors=1, low=0.0, high=0.001)
    # As many as one in a thousand are expected of the best service.
    chance = stats.binomtest(errors, requests, 0.001, "greater").pvalue
    assert tells == (chance < 1e-4)
    changes = series.step(4.0, errors / requests, requests=requests, errors=errors, low=0.0, high=0.001)
    assert bool(changes) == tells


def test_errors_are_held_against_the_rate_of_the_day_before() -> None:
    for usual, tells in ((10, True), (300, False)):
        series = _Series("errors.rate")
        for _ in range(100):
            series.step(value=usual / 10_000, requests=10_000, errors=usual, low=0.0, high=0.001)
        assert bool(series.step(4.0, 0.02, requests=500, errors=10, low=0.0, high=0.001)) == tells


def test_without_counts_there_is_nothing_to_test() -> None:
    assert _Series("errors.rate").step(4.0, 0.05, low=0.0, high=0.001)
    with pytest.raises(ValueError, match="3 errors of 2"):
        _Series("errors.rate").step(4.0, 0.05, requests=2, errors=3)
