"""The detector against a naive one written from its definition, and what it promises of time and memory."""

import math
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.analysis.detector import (
    ALERT,
    LARGEST,
    STRONGEST,
    UNREAD,
    Detector,
    DetectorState,
    Reading,
)

START = 1_788_220_800_000
HOUR_MS = 3_600_000
DAY = 288


def _read(
    values: Sequence[float], *, step: int = 300, state: DetectorState | None = None, start: int = START
) -> list[Reading]:
    detector, kept = Detector(step), state or DetectorState()
    return [detector.step(kept, start + 1000 * step * i, value) for i, value in enumerate(values)]


def _daily(n: int, seed: int, step: int = 300) -> np.ndarray:
    rng = np.random.default_rng(seed)
    day = np.arange(n) * step / 86_400
    return 100 + 30 * np.sin(2 * np.pi * day) + 3 * rng.standard_normal(n)


class _Naive:
    """Everything again from the whole past at each point."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.t: list[int] = []
        self.v: list[float] = []
        self.records = [0.0, 0.0, 0.0]
        self.seen = [0, 0, 0]
        self.differences: list[float] = []

    def _ewma(self, hours: int) -> float:
        w = min(max(round(hours * 3600 / self.step), 10), 4000)
        a = 2 / (w + 1)
        weights = (1 - a) ** np.arange(len(self.v))[::-1]
        return float(np.average(self.v, weights=weights))

    def _prediction(self, at: int) -> float | None:
        hours = np.array(self.t) // HOUR_MS
        medians = []
        for back in range(1, 15):
            inside = hours == at // HOUR_MS - 24 * back
            if inside.any():
                # Kept to seven digits.
                medians.append(float(f"{np.median(np.array(self.v)[inside]):.7g}"))
        return float(np.median(medians)) if len(medians) >= 2 else None

    def read(self, at: int, value: float) -> tuple[float, float | None, float | None]:
        strengths = [0.0]
        edges: list[tuple[float | None, float | None]] = [(None, None)]
        if self.v:
            fast, slow, seasonal = self._ewma(1), self._ewma(6), self._prediction(at)
            distances: list[float | None] = [abs(value - fast), abs(value - slow), None]
            span = max(3, round(3600 / self.step))
            if seasonal is None:
                self.differences = []
            else:
                self.differences.append(value - seasonal)
                if len(self.differences) >= span:
                    distances[2] = abs(float(np.median(self.differences[-span:])))
            floor = 0.05 * abs(slow)
            for k, (centre, r) in enumerate(zip((fast, slow, seasonal), distances, strict=True)):
                if r is None or centre is None:
                    continue
                m = self.records[k]
                unit = max(m, floor)
                warm = self.seen[k] >= 40
                cap = 3 * unit if warm and m > 0 else math.inf
                self.records[k] = max(m * 0.5 ** (self.step / (30 * 86_400)), min(r, cap))
                self.seen[k] += 1
                if warm:
                    strengths.append(r / unit)
                    edges.append((centre - 1.2 * unit, centre + 1.2 * unit))
        self.t.append(at)
        self.v.append(value)
        best = int(np.argmax(strengths[1:])) + 1 if len(strengths) > 1 else 0
        return strengths[best], *edges[best]


@pytest.mark.parametrize(("step", "n"), [(300, 900), (3600, 400), (1200, 500), (86_400, 120)])
def test_readings_are_those_of_the_definition(step: int, n: int) -> None:
    values = _daily(n, seed=step, step=step)
    # Nowhere further out than 20 records, past which a value is drawn in before it is averaged.
    values[n // 2 : n // 2 + 3] *= 1.7
    values[3 * n // 4 :] += 25
    naive, detectors = _Naive(step), set()
    for i, reading in enumerate(_read(values.tolist(), step=step)):
        strength, low, high = naive.read(START + 1000 * step * i, float(values[i]))
        assert reading.strength == pytest.approx(strength, rel=1e-9, abs=1e-9)
        assert reading.score == pytest.approx(strength / (strength + 1.2), rel=1e-9, abs=1e-9)
        if strength > 0:
            assert (reading.low, reading.high) == pytest.approx((low, high), rel=1e-9)
            detectors.add(reading.detector)
    assert detectors >= {"ewma_fast", "seasonal"}


def test_gaps_in_the_naive_definition_too() -> None:
    rng = np.random.default_rng(5)
    values, naive = _daily(8 * 24, seed=2, step=3600), _Naive(3600)
    detector, state = Detector(3600), DetectorState()
    hours = [hour for hour in range(8 * 24) if rng.random() < 0.9]
    for hour in hours:
        at = START + HOUR_MS * hour + 1234
        # Differences from before a gap longer than the span are forgotten.
        if naive.t and at - naive.t[-1] > 3 * HOUR_MS:
            naive.differences = []
        strength, _, _ = naive.read(at, float(values[hour]))
        assert detector.step(state, at, float(values[hour])).strength == pytest.approx(
            strength, rel=1e-9, abs=1e-9
        )


def test_a_spike_a_shift_and_a_broken_cycle_are_found() -> None:
    values = _daily(10 * DAY, seed=1)
    spike, shift, flat = 5 * DAY + 100, 6 * DAY + 30, 8 * DAY
    values[spike] += 300
    assert _read(values.tolist())[spike].score >= ALERT
    shifted = _daily(10 * DAY, seed=1)
    shifted[shift:] += 60
    assert max(reading.score for reading in _read(shifted.tolist())[shift : shift + 12]) >= ALERT
    # At night as busy as by day: no value is unusual, only the hour is.
    night = slice(flat + 200, flat + 224)
    cycle = _daily(10 * DAY, seed=1)
    cycle[night] = np.random.default_rng(3).normal(125, 3, 24)
    loud = [reading for reading in _read(cycle.tolist())[night] if reading.score >= ALERT]
    assert "seasonal" in {reading.detector for reading in loud}


def test_the_same_daily_cycle_is_expected() -> None:
    readings = _read(_daily(14 * DAY, seed=4).tolist())
    assert sum(reading.score >= ALERT for reading in readings[3 * DAY :]) == 0


_any = st.floats(allow_nan=True, allow_infinity=True)


@given(values=st.lists(_any, max_size=80), cut=st.integers(0, 80), gaps=st.data())
@settings(max_examples=60, deadline=None)
def test_nothing_is_known_ahead_of_its_time_and_a_restart_forgets_nothing(
    values: list[float], cut: int, gaps: st.DataObject
) -> None:
    moves = st.integers(-3 * HOUR_MS, 30 * HOUR_MS)
    at, times = START, []
    for _ in values:
        at += gaps.draw(moves)
        times.append(at)
    detector, whole = Detector(3600), DetectorState()
    readings = [detector.step(whole, t, v) for t, v in zip(times, values, strict=True)]
    state = DetectorState()
    prefix = [detector.step(state, t, v) for t, v in zip(times[:cut], values[:cut], strict=True)]
    assert prefix == readings[:cut]
    state = DetectorState.model_validate_json(state.model_dump_json(by_alias=True))
    rest = [Detector(3600).step(state, t, v) for t, v in zip(times[cut:], values[cut:], strict=True)]
    assert rest == readings[cut:]
    assert state == whole
    for reading in readings:
        assert 0 <= reading.score < 1
        assert math.isfinite(reading.strength)


@pytest.mark.parametrize("cut", [0, 1, 40, 700, 1500])
def test_a_restart_from_json_goes_on_exactly(cut: int) -> None:
    values = _daily(6 * DAY, seed=6).tolist()
    state = DetectorState()
    _read(values[:cut], state=state)
    kept = DetectorState.model_validate(state.to_json())
    assert _read(values[cut:], state=kept, start=START + 300_000 * cut) == _read(values)[cut:]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.1 * LARGEST, -1.1 * LARGEST])
def test_a_value_that_is_no_number_is_skipped(value: float) -> None:
    state = DetectorState()
    _read(_daily(100, seed=1).tolist(), state=state)
    before = state.model_copy(deep=True)
    assert Detector(300).step(state, START + 100 * 300_000, value) == UNREAD
    assert state == before


@pytest.mark.parametrize("back", [0, 1, 5 * HOUR_MS, 13 * 24 * HOUR_MS])
def test_what_is_not_after_the_last_value_is_skipped(back: int) -> None:
    state = DetectorState()
    _read(_daily(100, seed=1).tolist(), state=state)
    before = state.model_copy(deep=True)
    last = START + 99 * 300_000
    assert Detector(300).step(state, last - back, 1e6) == UNREAD
    assert state == before


def test_a_clock_set_back_by_weeks_goes_on_without_its_hours() -> None:
    values = _daily(4 * DAY, seed=1).tolist()
    state = DetectorState()
    _read(values, state=state, start=START + 400 * 24 * HOUR_MS)
    assert state.predicted is not None
    readings = _read(values, state=state)
    assert readings[0].detector is not None
    assert all(reading.score < ALERT for reading in readings)
    assert state.hour == (START + (4 * DAY - 1) * 300_000) // HOUR_MS


def test_hours_older_than_two_weeks_are_forgotten() -> None:
    detector, state = Detector(3600), DetectorState()
    for hour in range(72):
        detector.step(state, START + hour * HOUR_MS, 5.0)
    for days, known in ((14, 3), (15, 2), (16, 1), (17, 0)):
        later = state.model_copy(deep=True)
        # Hour 2 of the day was last seen on days 0, 1 and 2.
        detector.step(later, START + (24 * days + 2) * HOUR_MS, 5.0)
        place = later.medians[later.hour % 24 :: 24] if later.hour is not None else []
        assert sum(each is not None for each in place) == known
        assert (later.predicted is not None) == (known >= 2)


def test_a_constant_series_is_calm_and_its_first_change_is_not() -> None:
    for level in (0.0, 7.0):
        *calm, change = _read([level] * 100 + [level + 1])
        assert {reading.score for reading in calm} == {0.0}
        assert change.score >= ALERT
        assert (change.low, change.high) == pytest.approx((0.94 * level, 1.06 * level))
    assert change.strength < STRONGEST
    assert _read([0.0] * 100 + [1e-9])[-1].strength == STRONGEST


def test_one_wild_value_does_not_blind_it() -> None:
    values = _daily(6 * DAY, seed=8)
    values[4 * DAY] = 1e9
    values[4 * DAY + 200] += 400
    assert _read(values.tolist())[4 * DAY + 200].score >= ALERT


def test_ranges_end_where_the_metric_does() -> None:
    detector, state = Detector(300, lowest=0, highest=1), DetectorState()
    rng = np.random.default_rng(1)
    readings = [
        detector.step(state, START + 300_000 * i, float(v)) for i, v in enumerate(rng.beta(0.3, 0.3, 400))
    ]
    assert {(reading.low, reading.high) for reading in readings[:41]} == {(None, None)}
    assert readings[41].low is not None
    assert {(reading.low, reading.high) for reading in readings[300:]} == {(0.0, 1.0)}


@pytest.mark.parametrize("step", [0, -1, math.nan, math.inf])
def test_a_step_is_positive(step: float) -> None:
    with pytest.raises(ValueError, match="step"):
        Detector(step)


def test_the_state_stays_small_whatever_the_step() -> None:
    rng = np.random.default_rng(1)
    for step, n, most in ((300, 15 * DAY, 6000), (60, 1440 * 3, 9000), (1, 8000, 12_000)):
        state = DetectorState()
        _read((0.123456789 * rng.lognormal(0, 1, n)).tolist(), step=step, state=state)
        assert len(state.model_dump_json(by_alias=True)) < most
    crowded, detector = DetectorState(), Detector(300)
    for i in range(5000):
        detector.step(crowded, START + i, float(i))
    assert len(crowded.model_dump_json(by_alias=True)) < 6000


def test_a_point_costs_microseconds() -> None:
    values = _daily(10 * DAY, seed=1).tolist()
    detector, state = Detector(300), DetectorState()
    _read(values, state=state)
    begin = time.process_time()
    for i, value in enumerate(values):
        detector.step(state, START + 300_000 * (10 * DAY + i), value)
    assert (time.process_time() - begin) / len(values) < 50e-6
    stored = state.model_dump_json(by_alias=True)
    begin = time.process_time()
    for i in range(300):
        kept = DetectorState.model_validate_json(stored)
        detector.step(kept, START + 300_000 * (20 * DAY + i), 100.0)
        kept.model_dump_json(by_alias=True)
    assert (time.process_time() - begin) / 300 < 300e-6
