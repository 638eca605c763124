"""The analysis' benchmark, in short; `python -m bench.analysis` runs it in full."""

from typing import Any

from bench import analysis


async def test_every_series_is_read_and_a_run_measured() -> None:
    detected = await analysis.detecting(series=14, rounds=2, warm=3)
    assert detected["series"] == 14
    assert 0 < detected["secondsPerMinute"] < detected["secondsPer3000Series"]
    assert detected["bytesPerState"] > 1_000
    run = await analysis.running(reports=5_000, rounds=1)
    assert run["secondsOfARun"] > 0
    assert min(run["observeMs"], run["analyzeMs"], run["decideMs"]) > 0


def test_what_misses_a_gate_is_named() -> None:
    good: dict[str, Any] = {"detecting": {"secondsPer3000Series": 15.0}, "run": {"secondsOfARun": 2.0}}
    assert all(gate.to_json()["met"] for gate in analysis.judged(good))
    bad = {"detecting": {"secondsPer3000Series": 15.1}, "run": {"secondsOfARun": 2.1}}
    assert not any(gate.to_json()["met"] for gate in analysis.judged(bad))
