"""The project's anomaly detector and those that are in common use, each as the indices that it alerts at."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bench.nab import Labelled
from domain.analysis.alarms import COOLDOWN_MS, Alarms, AlarmState
from domain.analysis.detector import Detector, DetectorState

FEWEST = 40


class Counts(NamedTuple):
    """Requests and errors of each window of an error rate."""

    requests: list[int]
    errors: list[int]


Alerting = Callable[[Labelled, Counts | None], list[int]]


def step_seconds(series: Labelled) -> float:
    """The usual time between two points."""
    return float(np.median(np.diff(series.t))) / 1000


def streaming(series: Labelled, counts: Counts | None) -> list[int]:
    """What `domain.analysis` alerts at."""
    detector, state = Detector(step_seconds(series)), DetectorState()
    alarms, alarm_state = Alarms(series.name), AlarmState()
    alerts = []
    for index, (at, value) in enumerate(zip(series.t.tolist(), series.v.tolist(), strict=True)):
        reading = detector.step(state, at, value)
        requests = None if counts is None else counts.requests[index]
        errors = None if counts is None else counts.errors[index]
        changes = alarms.step(alarm_state, at, value, reading, requests=requests, errors=errors)
        if any(change.alert for change in changes):
            alerts.append(index)
    return alerts


def z_score(series: Labelled, counts: Counts | None) -> list[int]:
    """Four standard deviations from the mean of seven days."""
    past = _past(series, hours=168)
    return _cooled(series, np.abs(series.v - np.nanmean(past, axis=1)) > 4 * np.nanstd(past, axis=1))


def median_deviation(series: Labelled, counts: Counts | None) -> list[int]:
    """Six median absolute deviations, scaled to a normal's standard deviation, from the median of a day."""
    past = _past(series, hours=24)
    middle = _quantile(past, 0.5)
    deviation = 1.4826 * _quantile(np.abs(past - middle[:, None]), 0.5)
    return _cooled(series, np.abs(series.v - middle) > 6 * deviation)


def quartiles(series: Labelled, counts: Counts | None) -> list[int]:
    """Three interquartile ranges beyond the quartiles of a day."""
    past = _past(series, hours=24)
    low, high = _quantile(past, 0.25), _quantile(past, 0.75)
    reach = 3 * (high - low)
    return _cooled(series, (series.v < low - reach) | (series.v > high + reach))


DETECTORS: dict[str, Alerting] = {
    "streaming": streaming,
    "z, 7 days, 4 sigma": z_score,
    "MAD, 24 h, 6": median_deviation,
    "IQR, 24 h, 3": quartiles,
}


def _past(series: Labelled, hours: int) -> np.ndarray:
    """For each point a row of those of the hours before it, padded with NaN."""
    n = max(FEWEST, round(hours * 3600 / step_seconds(series)))
    padded = np.concatenate([np.full(n, np.nan), series.v[:-1]])
    return sliding_window_view(padded, n)


def _quantile(rows: np.ndarray, q: float) -> np.ndarray:
    # NaN sorts last, so the rank is among those that are numbers.
    ordered = np.sort(rows, axis=1)
    known = np.count_nonzero(~np.isnan(rows), axis=1)
    rank = np.maximum((q * (known - 1)).round().astype(int), 0)
    return np.asarray(ordered[np.arange(len(rows)), rank])


def _cooled(series: Labelled, anomalous: np.ndarray) -> list[int]:
    """The first anomalous points, no two within the cooldown, none within the first 40."""
    alerts: list[int] = []
    for index in np.flatnonzero(anomalous).tolist():
        if index >= FEWEST and (not alerts or series.t[index] - series.t[alerts[-1]] >= COOLDOWN_MS):
            alerts.append(index)
    return alerts
