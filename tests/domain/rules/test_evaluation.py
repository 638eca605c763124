"""Conditions in three values: Kleene's tables, thin data, and the words with the numbers."""

from itertools import product
from typing import Any

import pytest

from domain.conditions import Window
from domain.rules.evaluation import Truth, evaluate
from domain.rules.signals import TrendReading, WindowFacts
from tests.domain.rules.conditions import FAILING, condition, facts, metric, signals

# Kleene 1952, section 64: F < U < T; and is the least, or the greatest, not turns the order round.
ORDER: tuple[Truth, ...] = ("fails", "unknown", "holds")
PART: dict[Truth, dict[str, Any]] = {
    "holds": metric(value=0.05),
    "fails": metric(value=0.5),
    "unknown": metric("quality.avg", "<", 50),
}


@pytest.mark.parametrize("truth", ORDER)
def test_a_part_is_what_it_is_meant_to_be(truth: Truth) -> None:
    assert evaluate(condition(PART[truth]), FAILING).truth == truth


@pytest.mark.parametrize(("one", "other"), list(product(ORDER, ORDER)))
def test_all_is_the_least_and_any_the_greatest(one: Truth, other: Truth) -> None:
    both = [PART[one], PART[other]]
    ranks = sorted((ORDER.index(one), ORDER.index(other)))
    assert evaluate(condition({"all": both}), FAILING).truth == ORDER[ranks[0]]
    assert evaluate(condition({"any": both}), FAILING).truth == ORDER[ranks[1]]


@pytest.mark.parametrize(("truth", "opposite"), list(zip(ORDER, reversed(ORDER), strict=True)))
def test_not_turns_the_order_round(truth: Truth, opposite: Truth) -> None:
    assert evaluate(condition({"not": PART[truth]}), FAILING).truth == opposite


def test_de_morgan_holds_for_every_three_parts() -> None:
    for truths in product(ORDER, ORDER, ORDER):
        parts = [PART[truth] for truth in truths]
        inside = {"any": [{"not": part} for part in parts]}
        outside = {"not": {"all": parts}}
        assert evaluate(condition(inside), FAILING).truth == evaluate(condition(outside), FAILING).truth


@pytest.mark.parametrize(
    ("op", "value", "truth"),
    [
        (">", 0.1, "fails"),
        (">=", 0.1, "holds"),
        ("<", 0.1, "fails"),
        ("<=", 0.1, "holds"),
        (">", 0.0999, "holds"),
        ("<", 0.1001, "holds"),
    ],
)
def test_comparisons_at_their_edge(op: str, value: float, truth: Truth) -> None:
    assert evaluate(condition(metric(op=op, value=value)), FAILING).truth == truth


def test_the_last_digits_of_a_sum_decide_nothing() -> None:
    summed = WindowFacts({"cost.avg": 0.1 + 0.2}, {"cost": 30})
    assert summed.values["cost.avg"] > 0.3
    assert evaluate(condition(metric("cost.avg", ">", 0.3)), signals(summed)).truth == "fails"


@pytest.mark.parametrize(
    ("window", "asked", "truth", "words"),
    [
        (
            facts(19, errors=19),
            metric(),
            "unknown",
            "errors.rate over 5m is not known: 19 calls where it takes 20",
        ),
        (facts(20, errors=20), metric(), "holds", "errors.rate 1 > 0.05 over 5m"),
        # Only successes have a latency.
        (
            facts(30, errors=11),
            metric("latency.p95", ">", 100),
            "unknown",
            "latency.p95 over 5m is not known: 19 calls where it takes 20",
        ),
        (
            facts(100, scores=9),
            metric("quality.avg", "<", 95),
            "unknown",
            "quality.avg over 5m is not known: 9 scores where it takes 10",
        ),
        (facts(0, scores=10), metric("quality.avg", "<", 95), "holds", "quality.avg 90 < 95 over 5m"),
        (facts(0), metric("requests.count", "<", 1), "holds", "requests.count 0 < 1 over 5m"),
        (facts(3), metric("requests.rate", "<=", 0.01), "holds", "requests.rate 0.01 <= 0.01 over 5m"),
        (
            facts(1),
            metric(),
            "unknown",
            "errors.rate over 5m is not known: 1 call where it takes 20",
        ),
    ],
)
def test_what_rests_on_too_little_is_unknown(window: Any, asked: Any, truth: Truth, words: str) -> None:
    found = evaluate(condition(asked), signals(window))
    assert (found.truth, found.words) == (truth, words)


def test_a_window_that_was_not_read_is_unknown() -> None:
    for name in ("errors.rate", "requests.count"):
        found = evaluate(condition(metric(name, "<", 1)), signals())
        assert (found.truth, found.words) == ("unknown", f"{name} over 5m is not known: nothing was read")


def test_each_of_several_windows_has_to_hold() -> None:
    bad, good, thin = facts(100, errors=8), facts(100, errors=2), facts(4)
    asked = condition(metric(forWindows=3))
    found = evaluate(asked, signals(bad, bad, bad))
    assert found.holds
    assert found.words == "errors.rate 0.08 > 0.05 over 5m, in each of 3 windows"
    found = evaluate(asked, signals(bad, bad, good))
    assert (found.truth, found.words) == ("fails", "errors.rate 0.02 is not > 0.05 over 5m, 2 windows before")
    found = evaluate(asked, signals(bad, thin, bad))
    assert found.truth == "unknown"
    assert found.words == "errors.rate over 5m, 1 window before is not known: 4 calls where it takes 20"
    assert evaluate(asked, signals(good, thin, bad)).truth == "fails", "one that fails settles it"


TRENDS: dict[tuple[str, Window], TrendReading] = {
    ("latency.p95", "1h"): TrendReading("up", 0.12, significant=True),
    ("cost.avg", "1h"): TrendReading("up", 0.5, significant=False),
}


@pytest.mark.parametrize(
    ("trend", "truth", "words"),
    [
        ({"trend": "latency", "direction": "up"}, "holds", "latency.p95 went up by 12 % over 1h"),
        (
            {"trend": "latency", "direction": "up", "minChange": 0.12},
            "holds",
            "latency.p95 went up by 12 % over 1h",
        ),
        (
            {"trend": "latency", "direction": "up", "minChange": 0.2},
            "fails",
            "latency.p95 went up by 12 % over 1h, which is less than 20 %",
        ),
        (
            {"trend": "latency", "direction": "down"},
            "fails",
            "latency.p95 is not significantly going down over 1h",
        ),
        ({"trend": "cost", "direction": "up"}, "fails", "cost.avg is not significantly going up over 1h"),
        ({"trend": "quality", "direction": "up"}, "unknown", "the trend of quality.avg over 1h is not known"),
    ],
)
def test_trends(trend: Any, truth: Truth, words: str) -> None:
    found = evaluate(condition(trend | {"window": "1h"}), signals(trends=TRENDS))
    assert (found.truth, found.words) == (truth, words)


@pytest.mark.parametrize(
    ("asked", "truth", "words"),
    [
        ({"anomaly": "cost"}, "holds", "an anomaly of cost.avg is open, of severity high"),
        (
            {"anomaly": "cost", "minSeverity": "high"},
            "holds",
            "an anomaly of cost.avg is open, of severity high",
        ),
        (
            {"anomaly": "cost", "minSeverity": "critical"},
            "fails",
            "an anomaly of cost.avg is open, of severity high, which is less than critical",
        ),
        ({"anomaly": "quality"}, "fails", "no anomaly of quality.avg is open"),
    ],
)
def test_anomalies(asked: Any, truth: Truth, words: str) -> None:
    found = evaluate(condition(asked), signals(anomalies={"cost.avg": "high"}))
    assert (found.truth, found.words) == (truth, words)
    assert evaluate(condition(asked), signals()).truth == "unknown"


def test_a_compound_tells_what_settled_it() -> None:
    parts = [PART["holds"], PART["fails"], PART["unknown"]]
    assert evaluate(condition({"any": parts}), FAILING).words == "errors.rate 0.1 > 0.05 over 5m"
    assert evaluate(condition({"all": parts}), FAILING).words == "errors.rate 0.1 is not > 0.5 over 5m"
    both = {"all": [PART["holds"], metric("requests.count", ">=", 100)]}
    assert (
        evaluate(condition(both), FAILING).words
        == "errors.rate 0.1 > 0.05 over 5m and requests.count 100 >= 100 over 5m"
    )
