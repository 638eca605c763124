"""Series as services have them: autocorrelated noise around a level, with a daily cycle."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from domain.analysis.points import Series
from domain.analytics import DAY_MS

STEP_MS = 300_000
PER_DAY = DAY_MS // STEP_MS
START_MS = 20_000 * DAY_MS


class Base(NamedTuple):
    """Level, standard deviation of the noise, and amplitude of the cycle, in a metric's unit."""

    level: float = 500.0
    sd: float = 50.0
    amplitude: float = 100.0


class World(NamedTuple):
    """History, windows before the present ones, and the present ones: consecutive windows of five minutes."""

    history: Series
    before: Series
    now: Series
    day_before: Series
    same_hours: list[float]


def ar1(rng: np.random.Generator, n: int, rho: float) -> NDArray[np.float64]:
    """Stationary noise of variance 1 and autocorrelation rho."""
    steps = np.sqrt(1 - rho * rho) * rng.standard_normal(n)
    noise: NDArray[np.float64] = lfilter([1.0], [1.0, -rho], steps, zi=[rho * rng.standard_normal()])[0]
    return noise


def world(
    rng: np.random.Generator,
    *,
    n: int,
    rho: float,
    days: int,
    base: Base,
    shift: float = 0.0,
    rise: float = 0.0,
) -> World:
    """`days` of history, then n windows before a change and n since, at any time of the day.

    The present windows are `shift` standard deviations higher, and rise by `rise` more from first to last.
    """
    size = days * PER_DAY + 2 * n
    times = START_MS + STEP_MS * (int(rng.integers(PER_DAY)) + np.arange(size))
    noise = ar1(rng, size, rho)
    noise[-n:] += shift + np.linspace(0, rise, n)
    values = base.level + base.sd * noise + base.amplitude * np.sin(2 * np.pi * times / DAY_MS)
    starts = [size - n - day * PER_DAY for day in range(days, 0, -1)]
    return World(
        history=Series(times[: -2 * n], values[: -2 * n]),
        before=Series(times[-2 * n : -n], values[-2 * n : -n]),
        now=Series(times[-n:], values[-n:]),
        day_before=Series(times[-n - PER_DAY : -n], values[-n - PER_DAY : -n]),
        same_hours=[float(values[start : start + n].mean()) for start in starts],
    )
