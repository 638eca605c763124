"""Windows of a service: what they tell, what they lack and why."""

import pytest

from domain.analysis.windows import lack, missing_in_words, reading, windows_of
from domain.conditions import WINDOW_MS, Window
from domain.sketches import Sketch
from domain.totals import Amount, Totals

HOUR_MS = 3_600_000


def totals(n: int = 100, errors: int = 0, *, priced: int | None = None, scores: int = 20) -> Totals:
    """Successes of 1 to n ms, one cent each where priced, scores of 80."""
    ok = n - errors
    tokens = Amount.of([50.0] * ok)
    return Totals(
        n=n,
        errors=errors,
        last_at=n,
        latency=Amount.of([float(ms) for ms in range(1, ok + 1)]),
        cost=Amount.of([0.01] * (n if priced is None else priced)),
        tokens_input=tokens,
        tokens_output=tokens,
        tokens_total=tokens,
        quality=Amount.of([80.0] * scores),
    )


def test_a_full_window_lacks_nothing() -> None:
    found = reading("1h", totals(), 2 * HOUR_MS)
    assert (found.window, found.requests, found.missing) == ("1h", 100, [])
    assert found.metrics["latency.avg"] == 50.5
    assert found.metrics["requests.rate"] == pytest.approx(100 / 3600)
    assert found.metrics["quality.avg"] == 80


@pytest.mark.parametrize(
    ("metric", "given", "reason"),
    [
        ("latency.p95", totals(0, scores=0), "no successful requests"),
        ("latency.p95", totals(19), "19 successful requests, fewer than 20"),
        ("latency.p95", totals(20), None),
        ("tokens.output", totals(100, 100), "no successful requests"),
        ("errors.rate", totals(19), "19 requests, fewer than 20"),
        ("errors.rate", totals(100, 100), None),
        ("cost.avg", totals(100, priced=0), "no call's cost is known"),
        ("cost.avg", totals(100, priced=5), "5 calls of known cost, fewer than 20"),
        ("cost.total", totals(100, priced=5), None),
        ("cost.total", totals(0), "no calls of known cost"),
        ("quality.avg", totals(scores=0), "no scores"),
        ("quality.avg", totals(scores=9), "9 scores, fewer than 10"),
        ("quality.avg", totals(scores=10), None),
        ("requests.rate", totals(0), None),
        ("errors.count", totals(1), None),
    ],
)
def test_why_a_metric_cannot_be_told(metric: str, given: Totals, reason: str | None) -> None:
    assert lack(metric, given) == reason
    found = reading("5m", given, HOUR_MS)
    assert (metric in found.metrics) == (reason is None)
    assert [one.reason for one in found.missing if one.metric == metric] == ([reason] if reason else [])


def test_without_requests_totals_are_nil() -> None:
    found = reading("1m", Totals(), HOUR_MS)
    assert found.metrics == {"requests.count": 0, "requests.rate": 0, "errors.count": 0}
    assert len(found.missing) == 11


def test_a_service_that_is_younger_than_a_window_has_no_rate_in_it() -> None:
    found = reading("24h", totals(), 6 * HOUR_MS)
    assert "requests.rate" not in found.metrics
    assert missing_in_words([found], "24h") == "requests.rate: the service is known for 6 of 24 hours"
    assert missing_in_words([found], "1h") == ""


def test_longer_windows_and_versions() -> None:
    recent, older = totals(30), totals(60)
    read: dict[Window, dict[str | None, Totals]] = {window: {"chat@2": recent} for window in WINDOW_MS}
    read["7d"] = {"chat@2": recent, "chat@1": older, None: Totals()}
    found = windows_of(10**12, read, None)
    assert [one.requests for one in found.service] == [30] * 5 + [90]
    assert [version.version for version in found.versions] == ["chat@1", "chat@2"]
    assert [one.window for one in found.versions[0].windows] == ["7d"]
    assert [one.window for one in found.versions[1].windows] == list(WINDOW_MS)
    assert len(str(found.to_json())) < 20_000


def test_no_more_versions_than_eight_are_kept_the_most_used_ones() -> None:
    found = windows_of(10**12, {"1m": {f"chat@{n}": totals(n) for n in range(1, 30)}}, None)
    assert [version.version for version in found.versions] == [f"chat@{n}" for n in range(29, 21, -1)]


def test_totals_and_their_sketches_add_up() -> None:
    first, second = totals(10, 2), totals(100)
    both = first + second
    assert (both.n, both.errors, both.last_at, both.quality.n) == (110, 2, 100, 40)
    values = [*range(1, 9), *range(1, 101)]
    whole = Sketch.of_values([float(value) for value in values])
    assert both.latency.sketch is not None
    assert both.latency.sketch.to_bytes() == whole.to_bytes()
    assert both.latency.total == sum(values)
    assert Totals() + first == first + Totals()
    without = Amount(n=1, total=5.0, squares=25.0)
    assert (first.latency + without).sketch is None
