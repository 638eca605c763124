"""The benchmark's score against cases in closed form."""

import json
import math
from pathlib import Path

import pytest

from bench.nab import Window, earned, normalised, probation, raw_score, read_checkout

WINDOWS = [Window(200, 299), Window(600, 699)]
N = 1000


def test_perfect_is_100_and_silent_is_0() -> None:
    assert normalised(raw_score([200, 600], WINDOWS, N), 2) == pytest.approx(100)
    assert normalised(raw_score([], WINDOWS, N), 2) == 0
    assert normalised(0.0, 0) == 0


def test_an_alert_earns_the_less_the_later_in_its_window() -> None:
    for index in (200, 250, 299):
        y = -(299 - index + 1) / 100
        expected = (2 / (1 + math.exp(5 * y)) - 1) / (2 / (1 + math.exp(-5)) - 1)
        assert raw_score([index], WINDOWS[:1], N) == pytest.approx(expected)
        # Only the first counts.
        assert raw_score([index, 299, 299], WINDOWS[:1], N) == pytest.approx(expected)


def test_a_false_alarm_costs_the_more_the_further_behind() -> None:
    assert raw_score([170], WINDOWS[:1], N) == pytest.approx(-1 - 0.11)
    for index in (300, 320, 500):
        behind = (index - 299) / 99
        assert raw_score([index], WINDOWS[:1], N) == pytest.approx(-1 + 0.11 * earned(behind))
    assert raw_score([299 + 99 * 3 + 1], WINDOWS[:1], N) == pytest.approx(-1.11)
    assert raw_score([160], [], N) == pytest.approx(-0.11)


def test_probation() -> None:
    assert (probation(100), probation(5000), probation(22_695)) == (15, 750, 750)
    assert raw_score([0, 149], WINDOWS, N) == raw_score([], WINDOWS, N)


def test_a_checkout_is_read(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "data" / "real").mkdir(parents=True)
    rows = [f"2014-02-14 14:{minute:02}:00,{minute}.5" for minute in range(0, 60, 5)]
    (tmp_path / "data" / "real" / "a.csv").write_text("timestamp,value\n" + "\n".join(rows) + "\n")
    spans = [["2014-02-14 14:20:00.000000", "2014-02-14 14:40:00.000000"]]
    (tmp_path / "labels" / "combined_windows.json").write_text(json.dumps({"real/a.csv": spans}))
    [series] = read_checkout(tmp_path)
    assert (series.name, series.windows) == ("real/a.csv", [Window(4, 8)])
    assert series.v.tolist() == [5 * i + 0.5 for i in range(12)]
    assert series.t[1] - series.t[0] == 300_000
    assert series.t[0] == 1_392_386_400_000
