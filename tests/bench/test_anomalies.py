"""The detector on a few generated series; `python -m bench.anomalies` measures many."""

import numpy as np
import pytest

from bench.anomalies import Figures, Task, gates, judged
from bench.detectors import DETECTORS
from bench.llm_series import METRICS, PER_DAY, Base, Generated, Injected, generate
from bench.nab import Labelled, Window


def _made(number: int) -> Generated:
    task = Task(seed=7, number=number, weeks=3, base=Base())
    rng = np.random.default_rng([task.seed, task.number])
    return generate(task.base, task.weeks, METRICS[number % len(METRICS)], rng)


def test_it_finds_what_was_injected_and_seldom_more() -> None:
    found = Figures()
    for number in range(10):
        found.add(judged(_made(number), "streaming"))
    assert found.injected.total() >= 10
    assert found.recall >= 0.6
    # 26 weeks are few; over 120 series it is a third of an alarm, and those in common use are above one.
    assert found.false_alarms_per_week <= 0.8
    assert found.nab >= 40


def test_one_seed_makes_one_series_and_labels_what_it_injects() -> None:
    for number in range(5):
        first, second = _made(number), _made(number)
        assert np.array_equal(first.series.v, second.series.v)
        assert first.injected == second.injected
        assert np.isfinite(first.series.v).all()
        assert np.all(np.diff(first.series.t) > 0)
        for each, window in zip(first.injected, first.series.windows, strict=True):
            assert window.first <= each.plain <= window.last


@pytest.mark.parametrize("name", DETECTORS)
def test_figures_count_alerts_inside_and_outside_of_windows(name: str) -> None:
    rng = np.random.default_rng(1)
    n = 10 * PER_DAY
    v = 100 + rng.standard_normal(n)
    onset, false = 6 * PER_DAY, 9 * PER_DAY
    v[onset : onset + 3], v[false] = 160, 400
    t = 1_788_220_800_000 + 300_000 * np.arange(n, dtype=np.int64)
    series = Labelled("latency.p95", t, v, [Window(onset - 50, onset + 50)])
    spike = Injected("spike", onset, onset + 3)
    made = Generated(series, "latency.p95", [spike], np.zeros(n, dtype=np.int64), None)
    figures = judged(made, name)
    assert (figures.found["spike"], figures.windows) == (1, 1)
    assert figures.false_alarms >= 1
    assert figures.points == n


def test_gates_compare() -> None:
    good = Figures(raw=1.0, windows=1, false_alarms=0, weeks=1.0, seconds=1e-6, points=1)
    good.found["spike"] = good.injected["spike"] = 1
    assert all(gate.keeps(gate.bound) for gate in gates(good))
    bad = Figures(raw=-1.0, windows=1, false_alarms=1, weeks=1.0, seconds=1.0, points=1)
    bad.injected["spike"] = 1
    assert not any(gate.keeps(gate.bound) for gate in gates(bad))
