"""Traffic of the project's own making, in the formats of the replay: for a demo, and where no trace is.

Requests come as a Poisson process whose rate rises and falls; token counts are lognormal. Questions differ
in difficulty, and in length, for both models alike. The figures are chosen, not measured: they say nothing
of any real model.
"""

import csv
import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cli.replaying.options import ReplayModel, ReplayOptions
from cli.replaying.traces import ARRIVAL_COLUMNS, PROMPT_COLUMN

MODELS = (ReplayModel("large", "openai", "gpt-4o"), ReplayModel("small", "openai", "gpt-4o-mini"))
"""The incumbent and the candidate, under names that have a list price."""

_START = datetime(2026, 1, 5, 9, tzinfo=UTC)
_SECONDS = 3_600
_RATE = 6.0
_WAVE_SECONDS = 900
_WAVE = 0.4
_QUESTIONS = 1_500
_LONGEST_ANSWER = 1_000
_SKILL = {"large": 2.4, "small": 1.7}
_DIFFICULTY = 1.2
_VERBOSITY = {"large": 1.0, "small": 0.85}


def synthetic_options(folder: Path, *, seed: int = 1, **given: Any) -> ReplayOptions:
    """Writes the traffic into `folder`, and gives a replay of it, with `given` among its options.

    The policy asks for lower cost, within a floor of 65 for quality, which the small model keeps.
    """
    arrivals, outcomes = folder / "arrivals.csv", folder / "outcomes.csv"
    write_arrivals(arrivals, seed=seed)
    write_outcomes(outcomes, seed=seed)
    options: dict[str, Any] = {
        "policy": {"constraints": [{"type": "hard", "metric": "quality.avg", "min": 65}]},
        "notes": ("The traffic is synthetic: it is made up, and says nothing of these models.",),
        **given,
    }
    return ReplayOptions(arrivals=arrivals, outcomes=outcomes, models=MODELS, seed=seed, **options)


def write_arrivals(path: Path, *, seed: int) -> None:
    """An hour of requests, 6 a second on average."""
    draw = random.Random(f"arrivals {seed}")
    rows = [
        (
            (_START + timedelta(seconds=at)).isoformat(sep=" "),
            round(draw.lognormvariate(math.log(700), 0.8)),
            _lognormal(draw, 150, 0.7, _LONGEST_ANSWER),
        )
        for at in _poisson(draw)
    ]
    _write(path, ARRIVAL_COLUMNS, rows)


def write_outcomes(path: Path, *, seed: int) -> None:
    """1,500 questions answered by both models; large gets about 87 % right and small 80 %."""
    draw = random.Random(f"outcomes {seed}")
    columns = [PROMPT_COLUMN]
    for name in _SKILL:
        columns += [f"{name}Tokens", f"{name}Correct"]
    _write(path, columns, [_question(draw) for _ in range(_QUESTIONS)])


def _poisson(draw: random.Random) -> list[float]:
    """Arrival times by thinning: drawn at the highest rate, kept in proportion to the rate at their time."""
    highest = _RATE * (1 + _WAVE)
    at, times = 0.0, []
    while (at := at + draw.expovariate(highest)) < _SECONDS:
        rate = _RATE * (1 + _WAVE * math.sin(2 * math.pi * at / _WAVE_SECONDS))
        if draw.random() < rate / highest:
            times.append(at)
    return times


def _question(draw: random.Random) -> list[int]:
    difficulty = draw.gauss(0, _DIFFICULTY)
    length = draw.lognormvariate(math.log(110), 0.3)
    row = [_lognormal(draw, 60, 0.4, 400)]
    for name, skill in _SKILL.items():
        right = 1 / (1 + math.exp(difficulty - skill))
        row += [_lognormal(draw, length * _VERBOSITY[name], 0.2, _LONGEST_ANSWER), int(draw.random() < right)]
    return row


def _lognormal(draw: random.Random, median: float, sigma: float, most: int) -> int:
    return min(most, max(1, round(draw.lognormvariate(math.log(median), sigma))))


def _write(path: Path, columns: tuple[str, ...] | list[str], rows: list[Any]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
