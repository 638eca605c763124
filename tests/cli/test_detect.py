"""`llm-optimizer detect`: one answer a line, the detector's own readings, and clear errors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from cli.detect import detect as command
from domain.analysis.detector import Detector, DetectorState

app = typer.Typer()
app.command()(command)

START = 1_788_220_800


def _series(n: int = 600, *, step: int = 300, seed: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    v = 100 + rng.standard_normal(n)
    return {"id": "a", "t": [START + step * i for i in range(n)], "v": v.tolist()}


def _run(*lines: object) -> Result:
    told = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    return CliRunner().invoke(app, [], input=told)


def _answers(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("step", [60, 300, 3600])
def test_scores_and_ranges_are_the_detectors(step: int) -> None:
    series = _series(step=step)
    result = _run(series)
    assert result.exit_code == 0
    [answer] = _answers(result)
    assert set(answer) == {"id", "scores", "expectedRange"}
    detector, state = Detector(step), DetectorState()
    for i, score in enumerate(answer["scores"]):
        reading = detector.step(state, 1000 * series["t"][i], series["v"][i])
        assert score == (reading.score if reading.score < 0.5 else pytest.approx(reading.score))
        assert answer["expectedRange"][i] == (None if i <= 40 else [reading.low, reading.high])


def test_an_alert_is_told_once_in_six_hours_unless_it_is_graver() -> None:
    series = _series()
    # The second is as grave as the first, the last far graver than the one before it.
    for index, value in ((200, 107.0), (205, 110.0), (300, 125.0), (302, 400.0)):
        series["v"][index] = value
    detector, state = Detector(300), DetectorState()
    raw = [detector.step(state, 1000 * t, v).strength for t, v in zip(series["t"], series["v"], strict=True)]
    assert [i for i, strength in enumerate(raw) if strength >= 1.2] == [200, 205, 300, 302]
    assert [raw[200] < 1.5, raw[205] < 1.5] == [True, True]
    scores = _answers(_run(series))[0]["scores"]
    assert [i for i, score in enumerate(scores) if score >= 0.5] == [200, 300, 302]
    assert scores[205] == 0.499


def test_no_score_knows_what_comes_after() -> None:
    series = _series()
    series["v"][300] = 200.0
    series["t"][100:] = [t + 86_400 for t in series["t"][100:]]
    [whole] = _answers(_run(series))
    for n in (0, 1, 2, 41, 301, 450):
        [prefix] = _answers(_run({**series, "t": series["t"][:n], "v": series["v"][:n]}))
        assert prefix["scores"] == whole["scores"][:n]
        assert prefix["expectedRange"] == whole["expectedRange"][:n]


def test_the_name_means_nothing() -> None:
    series = _series()
    series["v"][300] = 20.0
    first, second = _answers(_run(series, {**series, "id": "quality.avg"}))
    assert first["scores"] == second["scores"]
    assert second["id"] == "quality.avg"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{", "EOF"),
        ("[]", "not a JSON object"),
        ({"id": "b", "t": [1, 2], "v": [1, None]}, "v.1"),
        ({"id": "b", "t": [1, 2], "v": [1, "2"]}, "v.1"),
        ('{"id": "b", "t": [1, 2], "v": [1, NaN]}', "expected value"),
        ('{"id": "b", "t": [1, 2], "v": [1, 1e999]}', "v.1: Input should be a finite number"),
        ({"id": "b", "t": [1, 2], "v": [1]}, "t has 2 and v has 1"),
        ({"id": "b", "t": [2, 1], "v": [1, 1]}, "t.1: 1 is before 2"),
        ({"id": "b", "t": [1, 1e15], "v": [1, 1]}, "t.1"),
        ({"id": "b", "t": [1]}, "v: Field required"),
        ({"id": 5, "t": [1], "v": [1]}, "id"),
        ({"id": "b", "t": [1], "v": [1], "x": 1}, "x: Extra"),
        ({"id": "b", "t": [1] * 9, "v": [None] * 9}, "and 4 more"),
    ],
)
def test_a_malformed_line_is_named_and_the_others_answered(line: object, named: str) -> None:
    series = _series(60)
    result = _run(series, line, series)
    before, error, after = _answers(result)
    assert result.exit_code == 1
    assert named in error["error"]
    assert set(error) == ({"id", "error"} if error.get("id") == "b" else {"error"})
    assert before == after == _answers(_run(series))[0]


def test_odd_series_are_answered() -> None:
    lines: list[dict[str, Any]] = [
        {"id": "none", "t": [], "v": []},
        {"id": "one", "t": [5], "v": [1]},
        {"id": "same time", "t": [5] * 100, "v": [1.0] * 100},
        {"id": "constant", "t": list(range(0, 30_000, 300)), "v": [0] * 100},
        {"id": "huge", "t": list(range(0, 30_000, 300)), "v": [1e308, -1e308] * 50},
    ]
    result = _run("", *lines)
    assert result.exit_code == 0
    for line, answer in zip(lines, _answers(result), strict=True):
        assert answer["scores"] == [0] * len(line["t"])
        assert len(answer["expectedRange"]) == len(line["t"])


def test_a_file_is_read_like_standard_input(tmp_path: Path) -> None:
    file = tmp_path / "series.jsonl"
    file.write_text(json.dumps(_series(60)))
    result = CliRunner().invoke(app, [str(file)])
    assert (result.exit_code, result.stdout) == (0, _run(_series(60)).stdout)
    assert CliRunner().invoke(app, [str(tmp_path / "none")]).exit_code == 2
