"""The score of the Numenta Anomaly Benchmark, standard profile, at a fixed threshold.

Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms: the Numenta Anomaly Benchmark" (2015).
The first alert inside a labelled window earns up to 1, the more the earlier; a window without one costs 1; an
alert outside of windows costs up to .11, the less the nearer behind a window. The sum is scaled so that
alerts at the very beginning of every window make 100, and no alert at all makes 0.
"""

import csv
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

MISS, FALSE_ALARM = 1.0, 0.11
PROBATION = 0.15
# Of a file of 5,000 points, as the benchmark's own scorer has it; longer files are not spared for longer.
LONGEST_PROBATION = 750
# An alert further than this behind a window, in the window's lengths, is as false as one before any.
FORGIVEN = 3.0


class Window(NamedTuple):
    """The first and the last index at which an anomaly counts as found."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1


def probation(n: int) -> int:
    """How many points at the beginning of a series of `n` are not scored."""
    return min(int(PROBATION * n), LONGEST_PROBATION)


def earned(position: float) -> float:
    """The scaled sigmoid of a place relative to a window: -1 its beginning, 0 its end, 1 a length behind."""
    return float(2 / (1 + np.exp(5 * position)) - 1)


def raw_score(alerts: Iterable[int], windows: Sequence[Window], n: int) -> float:
    """The unscaled score of a series of `n` points with alerts at some indices."""
    found: dict[Window, float] = {}
    false = 0.0
    for index in sorted(set(alerts)):
        if index < probation(n):
            continue
        window = next((each for each in windows if each.first <= index <= each.last), None)
        if window is not None:
            # From one point past the end, so that the last point still earns something.
            position = -(window.last - index + 1) / window.length
            found.setdefault(window, earned(position) / earned(-1.0))
            continue
        before = [each for each in windows if each.last < index]
        if before:
            behind = (index - before[-1].last) / max(before[-1].length - 1, 1)
            false += earned(behind) if behind <= FORGIVEN else -1.0
        else:
            false -= 1.0
    return sum(found.values()) - MISS * (len(windows) - len(found)) + FALSE_ALARM * false


def normalised(raw: float, windows: int) -> float:
    """A sum of raw scores over all series and their number of windows, 100 for perfect and 0 for silent."""
    return 100 * (raw + MISS * windows) / (windows + MISS * windows) if windows else 0.0


class Labelled(NamedTuple):
    """A series with its labelled windows; times in ms."""

    name: str
    t: np.ndarray
    v: np.ndarray
    windows: list[Window]


def read_checkout(folder: Path) -> list[Labelled]:
    """Every series of a checkout of the benchmark: `data/*/*.csv` with `labels/combined_windows.json`.

    Raises:
        OSError: there is no such file.
    """
    labels = json.loads((folder / "labels" / "combined_windows.json").read_text(encoding="utf-8"))
    return [_read(folder / "data" / name, name, spans) for name, spans in sorted(labels.items())]


def _read(path: Path, name: str, spans: list[list[str]]) -> Labelled:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    t = np.array([_millis(row["timestamp"]) for row in rows], dtype=np.int64)
    v = np.array([float(row["value"]) for row in rows])
    windows = []
    for first, last in spans:
        inside = np.flatnonzero((t >= _millis(first)) & (t <= _millis(last)))
        windows.append(Window(int(inside[0]), int(inside[-1])))
    return Labelled(name, t, v, windows)


def _millis(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)
