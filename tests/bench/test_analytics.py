"""The benchmark of analytics, on a few reports."""

from typing import Any

from bench import analytics


async def test_a_small_run_has_every_figure_and_a_right_p95() -> None:
    found = await analytics.run([10_000, 20_000], 1)
    assert [figures["reports"] for figures in found] == [10_000, 20_000]
    for figures in found:
        assert figures["relativeError"] <= 0.01
        measured = {name: value for name, value in figures.items() if name.endswith(("Ms", "PerReport"))}
        assert len(measured) == len(analytics.QUESTIONS) + 3
        assert all(value > 0 for value in measured.values())
    assert len(analytics.judged(found)) == 11


def test_what_misses_a_gate_is_named() -> None:
    good: dict[str, Any] = {
        "ratio": 0.05,
        "relativeError": 0.01,
        "observeMs": 100.0,
        "foldedDayByServiceAndModelMs": 20_000.0,
        "reports": 10_000_000,
        "rollUpAllMicrosPerReport": 5.0,
        "rollUpMicrosPerReport": 5.0,
        "commitMicrosPerReport": 9.0,
        "p95OfADayMs": 100.0,
        "p95OfAnHourMs": 10.0,
        "gateMs": 10.0,
    }
    assert all(
        gate.to_json()["met"] for gate in analytics.judged([good | {"reports": 1, "ratio": 1.0}, good])
    )
    bad = {
        "ratio": 0.06,
        "relativeError": 0.011,
        "observeMs": 201.0,
        "foldedDayByServiceAndModelMs": 20_001.0,
        "reports": 50_000_000,
        "rollUpAllMicrosPerReport": 8.0,
        "rollUpMicrosPerReport": 8.0,
        "commitMicrosPerReport": 12.0,
        "p95OfADayMs": 130.0,
        "p95OfAnHourMs": 13.0,
        "gateMs": 13.0,
    }
    assert not any(gate.to_json()["met"] for gate in analytics.judged([good, bad]))
