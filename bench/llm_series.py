"""Generated series of LLM services, five minutes a point, some with labelled anomalies.

Traffic has a daily and a weekly cycle and autocorrelated noise. Each metric is what a rollup of a window's
requests would show: a p95 of lognormal latencies that rises with load, a mean cost, a share of errors, a mean
of the few quality scores. All but the request counts are noisier where there are fewer requests, and some
windows are off by far for no cause, as in production.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from bench.nab import Labelled, Window, probation

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

STEP_SECONDS = 300
PER_DAY = 86_400 // STEP_SECONDS
START_MS = 1_788_220_800_000  # a Tuesday, 00:00 UTC
# The benchmark's own rule: a tenth of a series is window, in equal parts with an anomaly in the middle.
WINDOWED = 0.1
LONGEST_ANOMALY = 3 * PER_DAY
RECOVERY = PER_DAY


@dataclass(frozen=True)
class Base:
    """What a healthy service looks like; each generated one differs by up to half either way."""

    requests_per_second: float = 0.5
    latency_ms: float = 1800.0
    latency_sigma: float = 0.7
    cost_usd: float = 0.004
    cost_sigma: float = 0.8
    error_rate: float = 0.01
    quality: float = 80.0
    quality_sigma: float = 14.0
    scored: float = 0.2

    def varied(self, rng: np.random.Generator) -> "Base":
        """Another service like this."""
        factor = np.exp(rng.uniform(-0.4, 0.4, 4))
        return replace(
            self,
            requests_per_second=self.requests_per_second * factor[0],
            latency_ms=self.latency_ms * factor[1],
            cost_usd=self.cost_usd * factor[2],
            error_rate=min(self.error_rate * factor[3], 0.5),
        )


@dataclass(frozen=True)
class Injected:
    """An anomaly: its kind, the index of its onset and the first one after it."""

    kind: str
    onset: int
    end: int

    @property
    def plain(self) -> int:
        """From where on it can be seen: its onset, but of a drift, which begins with nothing, the middle."""
        return (self.onset + self.end) // 2 if self.kind == "drift" else self.onset


@dataclass(frozen=True)
class Generated:
    """A series, its anomalies, and where each window's errors and requests come from a rate, these."""

    series: Labelled
    metric: str
    injected: list[Injected]
    requests: Counts
    errors: Counts | None


@dataclass(frozen=True)
class Profile:
    """What anomalies do to a series: the factor on its level, and load that is out of its cycle."""

    size: Array
    frozen_load: Array


def generate(base: Base, weeks: float, metric: str, rng: np.random.Generator) -> Generated:
    """A series of a metric with 0 to 3 anomalies."""
    service = base.varied(rng)
    n = round(weeks * 7 * PER_DAY)
    injected = list(_placed(n, int(rng.integers(0, 4)), metric, rng))
    profile = _profile(n, injected, metric, rng)
    load = _load(n, rng)
    load = np.where(np.isnan(profile.frozen_load), load, profile.frozen_load)
    requests = rng.poisson(np.maximum(service.requests_per_second * STEP_SECONDS * load, 0.02))
    errors = None
    if metric == "requests.count":
        requests = rng.poisson(service.requests_per_second * STEP_SECONDS * load * profile.size)
        v = requests.astype(float)
    elif metric == "errors.rate":
        # Failures of providers come in bouts, so their rate is gamma-distributed.
        rate = service.error_rate * _autocorrelated(n, 0.8, 0.3, rng) * profile.size
        errors = rng.binomial(requests, np.minimum(rate, 1.0))
        v = errors / np.maximum(requests, 1)
    else:
        v = MEANS[metric](service, requests, load, profile.size, rng)
    t = START_MS + 1000 * STEP_SECONDS * np.arange(n, dtype=np.int64)
    kept = requests > 0  # no rollup without requests
    if metric == "requests.count":
        kept[:] = True
    return _without_gaps(metric, t, v, injected, requests, errors, kept)


def _latency(service: Base, requests: Counts, load: Array, size: Array, rng: np.random.Generator) -> Array:
    n = len(requests)
    m = np.maximum(requests, 1)
    # The k-th smallest of m uniform numbers is beta-distributed, so no request has to be drawn.
    k = np.ceil(0.95 * m)
    p95: Array = np.exp(service.latency_sigma * ndtri(rng.beta(k, m - k + 1)))
    level = service.latency_ms * load**0.25
    return level * _autocorrelated(n, 0.85, 0.08, rng) * p95 * _outliers(n, rng) * size


def _cost(service: Base, requests: Counts, load: Array, size: Array, rng: np.random.Generator) -> Array:
    n = len(requests)
    m = np.maximum(requests, 1)
    each = np.exp(service.cost_sigma * (rng.standard_normal(m.sum()) - service.cost_sigma / 2))
    mean = np.add.reduceat(each, np.concatenate([[0], np.cumsum(m)[:-1]])) / m
    level = service.cost_usd * load**-0.1
    return level * _autocorrelated(n, 0.95, 0.05, rng) * mean * _outliers(n, rng) * size


def _quality(service: Base, requests: Counts, load: Array, size: Array, rng: np.random.Generator) -> Array:
    n = len(requests)
    scores = np.maximum(rng.binomial(requests, service.scored), 1)
    noise = rng.standard_normal(n) * service.quality_sigma / np.sqrt(scores)
    level = service.quality - 2 * np.log(load) + 15 * np.log(_autocorrelated(n, 0.95, 0.05, rng))
    found: Array = np.clip(level * size + noise, 0, 100)
    return found


Mean = Callable[[Base, Counts, Array, Array, np.random.Generator], Array]
MEANS: dict[str, Mean] = {"latency.p95": _latency, "cost.avg": _cost, "quality.avg": _quality}
METRICS = (*MEANS, "errors.rate", "requests.count")

# How large each kind of anomaly is on each metric: the range of the factor on its level.
SHIFTS = {
    "latency.p95": (1.5, 3.0),
    "cost.avg": (1.4, 3.0),
    "quality.avg": (0.6, 0.85),
    "errors.rate": (5.0, 20.0),
    "requests.count": (1.8, 4.0),
}
SPIKES = {
    "latency.p95": (2.5, 6.0),
    "cost.avg": (2.5, 6.0),
    "quality.avg": (0.3, 0.6),
    "errors.rate": (15.0, 50.0),
    "requests.count": (3.0, 8.0),
}


def _placed(n: int, count: int, metric: str, rng: np.random.Generator) -> Iterator[Injected]:
    """Anomalies apart from each other, so that one's end is not taken for another's onset."""
    half = round(WINDOWED * n / max(count, 1) / 2)
    first = probation(n) + half
    room = (n - half - first) // max(count, 1)
    kinds = ("shift", "spike", "drift", "outage") + (("cycle",) if metric == "requests.count" else ())
    for number in range(count):
        begin = first + number * room
        onset = int(rng.integers(begin, begin + max(room - LONGEST_ANOMALY - RECOVERY, room // 4)))
        kind = str(rng.choice(kinds))
        lengths: dict[str, int | np.int64] = {
            "shift": rng.integers(PER_DAY // 4, 2 * PER_DAY),
            "spike": rng.integers(1, 5),
            "drift": rng.integers(PER_DAY // 2, LONGEST_ANOMALY),
            "outage": rng.integers(3, 24),
            "cycle": PER_DAY,
        }
        yield Injected(kind, onset, min(onset + int(lengths[kind]), n))


def _profile(n: int, injected: list[Injected], metric: str, rng: np.random.Generator) -> Profile:
    size, frozen = np.ones(n), np.full(n, np.nan)
    for each in injected:
        span = slice(each.onset, each.end)
        shift = rng.uniform(*SHIFTS[metric])
        if each.kind == "shift":
            size[span] = shift
        elif each.kind == "spike":
            size[span] = rng.uniform(*SPIKES[metric])
        elif each.kind == "outage":
            # A provider fails or crawls for a quarter of an hour to two hours.
            size[span] = 0.1 if metric == "requests.count" else rng.uniform(*SPIKES[metric])
        elif each.kind == "drift":
            size[span] = shift ** np.linspace(0, 1, each.end - each.onset)
        else:
            frozen[span] = rng.uniform(0.8, 1.2)
    return Profile(size, frozen)


def _load(n: int, rng: np.random.Generator) -> Array:
    """Traffic relative to its mean: by day, by night and at weekends, with noise that lasts for hours."""
    day = np.arange(n) / PER_DAY
    depth, weekend, peak = rng.uniform(0.3, 0.8), rng.uniform(0.4, 1.0), rng.uniform(0, 1)
    daily = 1 + depth * np.sin(2 * np.pi * (day - peak))
    weekly = np.where((day.astype(int) + 1) % 7 >= 5, weekend, 1.0)
    return np.asarray(daily * weekly * _autocorrelated(n, 0.97, 0.1, rng))


def _autocorrelated(n: int, rho: float, sd: float, rng: np.random.Generator) -> Array:
    """A lognormal AR(1) series about 1 whose logarithm has a standard deviation of `sd`."""
    shocks = rng.standard_normal(n) * sd * np.sqrt(1 - rho**2)
    values, last = np.empty(n), rng.standard_normal() * sd
    for index, shock in enumerate(shocks):
        last = rho * last + shock
        values[index] = last
    return np.exp(values)


def _outliers(n: int, rng: np.random.Generator) -> Array:
    """A window in 200 is up to twice as slow or dear for no cause that would matter, as by a long job."""
    return np.where(rng.random(n) < 0.005, np.exp(rng.uniform(0, np.log(2), n)), 1.0)


def _without_gaps(
    metric: str,
    t: Counts,
    v: Array,
    injected: list[Injected],
    requests: Counts,
    errors: Counts | None,
    kept: NDArray[np.bool_],
) -> Generated:
    place = np.concatenate([[0], np.cumsum(kept)])
    moved = [Injected(each.kind, int(place[each.onset]), int(place[each.end])) for each in injected]
    n = int(place[-1])
    half = round(WINDOWED * n / max(len(moved), 1) / 2)
    windows = [Window(each.plain - half, min(each.plain + half, n - 1)) for each in moved]
    series = Labelled(metric, t[kept], v[kept], windows)
    return Generated(series, metric, moved, requests[kept], None if errors is None else errors[kept])
