"""`llm-optimizer detect`: the streaming anomaly detector, on anybody's own numbers."""

from itertools import pairwise
from statistics import median
from typing import Annotated, Any

import typer
from pydantic import Field, model_validator
from pydantic_core import from_json

from cli.json_lines import answer_each, described
from domain.analysis.alarms import Alarms, AlarmState
from domain.analysis.detector import ALERT, WARM_UP, Detector, DetectorState
from domain.base import MAX_MILLIS, Message

UNNAMED = "value"
SOME_STEP_SECONDS = 300.0
MUTED = 0.499
"""The highest score of a value that is anomalous and yet no alert, since one was given shortly before."""

Seconds = Annotated[float, Field(ge=-MAX_MILLIS / 1000, le=MAX_MILLIS / 1000)]


class Series(Message):
    """A line of input: values `v` at times `t`, in epoch seconds and in order."""

    id: str
    t: list[Seconds]
    v: list[float]

    @model_validator(mode="after")
    def _is_in_order(self) -> "Series":
        if len(self.t) != len(self.v):
            raise ValueError(f"t has {len(self.t)} and v has {len(self.v)} entries")
        for index in range(1, len(self.t)):
            if self.t[index] < self.t[index - 1]:
                raise ValueError(f"t.{index}: {self.t[index]:.15g} is before {self.t[index - 1]:.15g}")
        return self

    @property
    def step_seconds(self) -> float:
        """The median time between the first values.

        No value of the warm-up is scored, so a step that is taken from those alone lets nothing be known
        ahead of its time.
        """
        first = self.t[: WARM_UP + 1]
        steps = [later - earlier for earlier, later in pairwise(first) if later > earlier]
        return median(steps) if steps else SOME_STEP_SECONDS


def scored(series: Series) -> dict[str, Any]:
    """A score and an expected range for each value, from it and those before it alone."""
    detector, state = Detector(series.step_seconds), DetectorState()
    alarms, alarm_state = Alarms(UNNAMED), AlarmState()
    scores, ranges = [], []
    for seconds, value in zip(series.t, series.v, strict=True):
        at = round(seconds * 1000)
        reading = detector.step(state, at, value)
        changes = alarms.step(alarm_state, at, value, reading)
        score = reading.score
        if score >= ALERT and not any(change.alert for change in changes):
            score = MUTED
        scores.append(score)
        ranges.append(None if reading.detector is None else [reading.low, reading.high])
    return {"id": series.id, "scores": scores, "expectedRange": ranges}


def _answer(line: bytes) -> dict[str, Any]:
    given = from_json(line, allow_inf_nan=False)
    if not isinstance(given, dict):
        raise ValueError("not a JSON object")
    try:
        return scored(Series.model_validate(given))
    except ValueError as error:
        known = {"id": given["id"]} if isinstance(given.get("id"), str) else {}
        return {**known, "error": described(error)}


def detect(
    file: Annotated[
        typer.FileBinaryRead, typer.Argument(help="JSON lines; standard input by default.", metavar="FILE")
    ] = "-",  # type: ignore[assignment]  # typer opens it
) -> None:
    """Find anomalies in time series, one series a line.

    \b
    Reads   {"id": "api/latency.p95", "t": [1788220800, 1788221100, ...], "v": [2210.5, 2187.0, ...]}
    answers {"id": "api/latency.p95", "scores": [0.0, 0.31, ...],
             "expectedRange": [null, [1900.2, 2530.8], ...]}

    Each line of input gets one line of output, at once. t is in epoch seconds, in order; the usual step is
    told from the first 41. A score of 0.5 or more is an alert: the value, or its last hour, is out of the
    expected range. Within six hours after an alert only a graver one is told, and other scores stay below
    0.5. Every score comes from the value and those before it alone. The range is null, and the score 0,
    for the first 41 values, and where a time is given again.

    A malformed line is answered with {"id": "...", "error": "..."}, and makes the exit code 1 at the end.
    Blank lines are skipped.
    """
    answer_each(file, _answer)
