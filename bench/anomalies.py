"""How well anomalies in series of LLM services are found: `python -m bench.anomalies`.

Generated series (bench/llm_series.py) go through the detector and the alarms that the product runs, and
through detectors in common use, all with the same cooldown of six hours. Counted are the score of the Numenta
Anomaly Benchmark at the fixed threshold, false alarms per series and week, the share of the injected
anomalies that is found before they are over or their window is, and CPU time per point. Alerts during an
anomaly, and until six hours after it, are not false: a return is a change too. Prints a table and one JSON
line, and exits with 1 if a gate is missed.

With `--nab DIR` the files of a checkout of github.com/numenta/NAB are used instead; there, what is found is
the share of the labelled windows with an alert, and any alert outside of them is false.
"""

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from bench.detectors import DETECTORS, Counts, step_seconds
from bench.gates import Gate, concluded
from bench.llm_series import METRICS, Base, Generated, Injected, generate
from bench.nab import Labelled, normalised, probation, raw_score, read_checkout
from domain.analysis.alarms import COOLDOWN_MS

WEEK_MS = 7 * 86_400_000


@dataclass(frozen=True)
class Task:
    """A series to be made: the number of it and what it is made from."""

    seed: int
    number: int
    weeks: float
    base: Base


@dataclass
class Figures:
    """What a detector did on some series; a key of `found` and `injected` is a kind of anomaly."""

    raw: float = 0.0
    windows: int = 0
    false_alarms: int = 0
    weeks: float = 0.0
    seconds: float = 0.0
    points: int = 0
    found: Counter[str] = field(default_factory=Counter)
    injected: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Figures") -> None:
        """Count another's series as well."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    @property
    def nab(self) -> float:
        return normalised(self.raw, self.windows)

    @property
    def false_alarms_per_week(self) -> float:
        return self.false_alarms / self.weeks

    @property
    def recall(self) -> float:
        return self.found.total() / max(self.injected.total(), 1)

    @property
    def microseconds(self) -> float:
        return self.seconds / self.points * 1e6

    def to_json(self) -> dict[str, object]:
        """As it is printed."""
        recall = {kind: round(self.found[kind] / n, 3) for kind, n in sorted(self.injected.items())}
        return {
            "nab": round(self.nab, 1),
            "falseAlarmsPerSeriesAndWeek": round(self.false_alarms_per_week, 3),
            "recall": round(self.recall, 3),
            "recallByKind": recall,
            "microsecondsPerPoint": round(self.microseconds, 2),
        }


def judged(generated: Generated, name: str, grace_ms: int = COOLDOWN_MS) -> Figures:
    """What a detector does on one series; an alert within `grace_ms` after an anomaly is not false."""
    series = generated.series
    n, spared = len(series.v), probation(len(series.v))
    counts = None
    if generated.errors is not None:
        counts = Counts(generated.requests.tolist(), generated.errors.tolist())
    begin = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing, before there are any values
        alerts = DETECTORS[name](series, counts)
    figures = Figures(
        raw=raw_score(alerts, series.windows, n),
        windows=len(series.windows),
        weeks=float(series.t[-1] - series.t[spared]) / WEEK_MS,
        seconds=time.process_time() - begin,
        points=n,
    )
    after = round(grace_ms / 1000 / step_seconds(series))
    excused = [(window.first, window.last) for window in series.windows]
    excused += [(each.onset, each.end + after) for each in generated.injected]
    figures.false_alarms = sum(
        index >= spared and not any(first <= index <= last for first, last in excused) for index in alerts
    )
    for each, window in zip(generated.injected, series.windows, strict=True):
        figures.injected[each.kind] += 1
        last = max(window.last, each.end - 1)
        figures.found[each.kind] += any(each.onset <= index <= last for index in alerts)
    return figures


def _run(task: Task | Labelled) -> dict[str, Figures]:
    if isinstance(task, Labelled):
        windows = [Injected("window", first, last + 1) for first, last in task.windows]
        labelled = Generated(task, task.name, windows, np.zeros(0, dtype=np.int64), None)
        return {name: judged(labelled, name, grace_ms=0) for name in DETECTORS}
    rng = np.random.default_rng([task.seed, task.number])
    generated = generate(task.base, task.weeks, METRICS[task.number % len(METRICS)], rng)
    return {name: judged(generated, name) for name in DETECTORS}


def measure(tasks: Iterable[Task | Labelled], workers: int) -> dict[str, Figures]:
    """Every detector on every series; the same seeds give the same figures, whatever the workers."""
    found = {name: Figures() for name in DETECTORS}
    with ProcessPoolExecutor(workers) as pool:
        for each in pool.map(_run, tasks, chunksize=5):
            for name, figures in each.items():
                found[name].add(figures)
    return found


def gates(figures: Figures) -> list[Gate]:
    """What is asked of the project's detector."""
    return [
        Gate("NAB score, standard profile, fixed threshold", round(figures.nab, 1), 60, 64),
        Gate("false alarms per series and week", round(figures.false_alarms_per_week, 3), 0.40, ceiling=True),
        Gate("anomalies found", round(figures.recall, 3), 0.70),
        Gate("microseconds a point", round(figures.microseconds, 1), 50, 15, ceiling=True),
    ]


def _row(name: str, figures: Figures) -> str:
    return (
        f"{name:<20} {figures.nab:>8.1f} {figures.false_alarms_per_week:>12.2f} {figures.recall:>8.2f} "
        f"{figures.microseconds:>8.1f}"
    )


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, nargs="+", default=[1, 2, 3], help="one or more (1 2 3)")
    parser.add_argument("--series", type=int, default=40, help="series per seed (40)")
    parser.add_argument("--weeks", type=float, default=4, help="length of a series (4)")
    parser.add_argument("--workers", type=int, default=1, help="processes (1)")
    parser.add_argument("--nab", type=Path, help="a checkout of the Numenta Anomaly Benchmark")
    for each in fields(Base):
        option = "--" + each.name.replace("_", "-")
        parser.add_argument(option, type=float, default=each.default, help=f"of a service ({each.default})")
    given = parser.parse_args()
    base = Base(**{each.name: getattr(given, each.name) for each in fields(Base)})
    tasks: list[Task | Labelled] = [
        Task(seed, number, given.weeks, base) for seed in given.seed for number in range(given.series)
    ]
    if given.nab is not None:
        tasks = list(read_checkout(given.nab))
    found = measure(tasks, given.workers)
    print(f"{'detector':<20} {'NAB':>8} {'false/week':>12} {'recall':>8} {'us/point':>8}")
    for name, figures in found.items():
        print(_row(name, figures))
    detectors = {name: figures.to_json() for name, figures in found.items()}
    return concluded("anomalies", gates(found["streaming"]), seeds=given.seed, detectors=detectors)


if __name__ == "__main__":
    sys.exit(main())
