"""Windows over the recorded past, against the values themselves."""

from typing import Any

import numpy as np
import pytest

from domain.analytics import MINUTE_MS
from domain.conditions import WINDOW_MS, Rule, Window
from domain.errors import InvalidRequest
from domain.rules.past import Moment, Past
from domain.rules.rehearsal import course, rehearse
from domain.rules.signals import Findings
from domain.totals import Amount, Totals
from tests.domain.rules.conditions import metric, rule

START = 1_760_000_040_000 // MINUTE_MS * MINUTE_MS


def minutes(count: int) -> list[dict[str, Any]]:
    """What was called in each minute, nothing in every seventh."""
    random = np.random.default_rng(7)
    found = []
    for minute in range(count):
        n = 0 if minute % 7 == 0 else int(random.integers(1, 40))
        errors = int(random.binomial(n, 0.2))
        latency = random.lognormal(6, 0.8, n - errors)
        found.append({"n": n, "errors": errors, "latency": latency, "cost": random.gamma(2, 0.01, n)})
    return found


def totals(called: dict[str, Any]) -> Totals:
    cost, latency = Amount.of(called["cost"]), Amount.of(called["latency"])
    return Totals(n=called["n"], errors=called["errors"], latency=latency, cost=cost)


def test_every_window_is_what_the_values_in_it_come_to() -> None:
    windows: tuple[Window, ...] = ("1m", "5m", "15m")
    rules = [
        rule(metric("latency.p95", window=window, forWindows=2, value=1), id=window) for window in windows
    ]
    laid = course(rules, START, START + 90 * MINUTE_MS, 3 * MINUTE_MS)
    assert (laid.length, laid.reach, laid.stride) == (MINUTE_MS, 30, 3)
    called = minutes(laid.cells)
    past = Past(laid, {i: totals(c) for i, c in enumerate(called) if c["n"]}, laid.origin)
    ends = range(laid.reach, laid.cells + 1)
    for window in windows:
        past.slide(window, ends)
    compared = 0
    for window in windows:
        size = WINDOW_MS[window] // MINUTE_MS
        for end in ends:
            inside = called[end - size : end]
            n, errors = sum(c["n"] for c in inside), sum(c["errors"] for c in inside)
            latency = np.concatenate([c["latency"] for c in inside])
            facts = past.facts(window, end)
            assert facts is not None
            assert facts.values["requests.count"] == n
            assert facts.samples["latency"] == latency.size
            if not latency.size:
                continue
            compared += 1
            assert facts.values["errors.rate"] == errors / n
            assert facts.values["latency.avg"] == pytest.approx(latency.mean(), rel=1e-12)
            told = [facts.values[f"latency.p{share}"] for share in (50, 95, 99)]
            assert told == pytest.approx(np.percentile(latency, (50, 95, 99)).tolist(), rel=0.011)
            cost = np.concatenate([c["cost"] for c in inside])
            assert facts.values["cost.total"] == pytest.approx(cost.sum(), rel=1e-12)
    assert compared > 150


def test_percentiles_that_are_asked_for_later_are_those_of_the_first_time() -> None:
    rules = [rule(metric("latency.p95", value=1))]
    laid = course(rules, START, START + 60 * MINUTE_MS, MINUTE_MS)
    cells = {i: totals(c) for i, c in enumerate(minutes(laid.cells)) if c["n"]}
    one, other = Past(laid, cells, laid.origin), Past(laid, cells, laid.origin)
    one.slide("5m", range(5, 60))
    other.slide("5m", (5, 40, 59))
    for end in (5, 40, 59):
        assert one.facts("5m", end) == other.facts("5m", end)


def test_a_window_that_began_before_anything_was_reported_is_not_known() -> None:
    laid = course([rule()], START, START + 10 * MINUTE_MS, MINUTE_MS)
    past = Past(laid, {7: Totals(n=30)}, START + 2 * MINUTE_MS)
    known = [past.facts("5m", end) is not None for end in range(laid.reach, laid.cells + 1)]
    assert known == [False] * 7 + [True] * 4
    assert past.facts("5m", 4) is None, "it begins before what was read"
    nothing = Past(laid, {}, None)
    assert nothing.facts("1m", laid.cells) is None


def test_findings_are_those_of_each_moment() -> None:
    laid = course([given := rule({"anomaly": "cost"}, cooldownMs=0)], START, START + 3 * MINUTE_MS, MINUTE_MS)

    def findings(at: int) -> Findings:
        minute = (at - START) // MINUTE_MS
        return Findings(anomalies=None if minute == 0 else {"cost.avg": "high"} if minute == 2 else {})

    (found,) = rehearse([given], laid, Past(laid, {}, None), findings)
    assert [fired.at for fired in found.fired] == [START + 2 * MINUTE_MS]
    assert (found.held, found.unknown) == (1, 1)
    moment = Moment(Past(laid, {}, None), 0, laid.length, findings(START))
    assert (moment.anomaly("cost.avg"), moment.trend("cost.avg", "1h")) == (None, None)


@pytest.mark.parametrize(
    ("rules", "step_ms", "length_min"),
    [
        ([rule(metric(window="1h"))], 60 * MINUTE_MS, 60),
        ([rule(metric(window="1h"))], 25 * MINUTE_MS, 5),
        ([rule(metric(window="24h")), rule(metric(window="15m"))], 60 * MINUTE_MS, 15),
        ([rule({"anomaly": "cost"})], 7 * MINUTE_MS, 7),
    ],
)
def test_the_past_is_cut_as_coarsely_as_windows_and_steps_allow(
    rules: list[Rule], step_ms: int, length_min: int
) -> None:
    laid = course(rules, START, START + 1000 * MINUTE_MS, step_ms)
    assert laid.length == length_min * MINUTE_MS


def test_a_stretch_without_a_whole_minute_has_no_moment() -> None:
    with pytest.raises(InvalidRequest, match="no whole minute"):
        course([rule()], START + 1, START + 2, MINUTE_MS)
