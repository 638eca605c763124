"""The benchmark of analytics, on a few reports."""

from typing import Any

from bench import analytics


async def test_a_small_run_has_every_figure_and_a_right_p95() -> None:
    (figures,) = await analytics.run([20_000], 1)
    assert figures["reports"] == 20_000
    assert figures["relativeError"] <= 0.01
    milliseconds = {name: value for name, value in figures.items() if name.endswith("Ms")}
    assert len(milliseconds) == 8
    assert all(value > 0 for value in milliseconds.values())


def test_what_misses_a_gate_is_named() -> None:
    good: dict[str, Any] = {
        "ratio": 0.05,
        "relativeError": 0.01,
        "observeMs": 100.0,
        "reports": 10_000_000,
        "rollUpMicrosPerReport": 5.0,
        "commitMicrosPerReport": 9.0,
        "p95OfADayMs": 100.0,
        "p95OfAnHourMs": 10.0,
    }
    assert all(gate.to_json()["met"] for gate in analytics.judged([good | {"ratio": 1.0}, good]))
    bad = {
        "ratio": 0.06,
        "relativeError": 0.03,
        "observeMs": 201.0,
        "reports": 50_000_000,
        "rollUpMicrosPerReport": 8.0,
        "commitMicrosPerReport": 12.0,
        "p95OfADayMs": 130.0,
        "p95OfAnHourMs": 13.0,
    }
    assert not any(gate.to_json()["met"] for gate in analytics.judged([good, bad]))
