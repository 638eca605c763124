"""Which anomalies may be acted on."""

import pytest

from domain.analysis.agreement import agreeing, related
from domain.analysis.alarms import is_harmful
from domain.analysis.anomaly import Anomaly, Direction

START = 1_788_220_800_000
HOUR_MS = 3_600_000


def _anomaly(metric: str, direction: Direction, strength: float = 1.25, hour: float = 0) -> Anomaly:
    at = START + round(hour * HOUR_MS)
    return Anomaly(
        metric=metric,
        direction=direction,
        harmful=is_harmful(metric, direction),
        severity="low",
        confidence=0.46,
        detector="seasonal",
        strength=strength,
        value=1.0,
        low=2.0,
        high=3.0,
        started_at=at,
        last_at=at,
    )


@pytest.mark.parametrize(
    ("first", "second", "agree"),
    [
        (("latency.p95", "up"), ("latency.p50", "up"), True),
        (("latency.p95", "up"), ("latency.p50", "down"), False),
        (("cost.avg", "up"), ("tokens.output", "up"), True),
        (("cost.avg", "up"), ("tokens.output", "down"), False),
        (("errors.rate", "up"), ("latency.p95", "up"), True),
        (("errors.rate", "up"), ("latency.p95", "down"), True),
        (("errors.rate", "up"), ("quality.avg", "down"), True),
        (("errors.rate", "up"), ("quality.avg", "up"), False),
        (("cost.avg", "up"), ("quality.avg", "down"), False),
        (("cost.avg", "up"), ("latency.p95", "up"), False),
        (("cost.avg", "up"), ("cost.avg", "up"), False),
    ],
)
def test_related_metrics_agree(
    first: tuple[str, Direction], second: tuple[str, Direction], agree: bool
) -> None:
    one, other = _anomaly(*first), _anomaly(*second, hour=0.5)
    assert related(one, other) == related(other, one) == agree
    pair = [one, other]
    groups = agreeing(pair)
    assert [group.anomalies for group in groups] == ([pair] if agree else [])
    assert all(group.agreed for group in groups)


@pytest.mark.parametrize(("hour", "agree"), [(1.0, True), (1.01, False)])
def test_they_agree_at_the_same_time(hour: float, agree: bool) -> None:
    pair = [_anomaly("latency.p95", "up"), _anomaly("latency.p99", "up", hour=hour)]
    assert bool(agreeing(pair)) == agree
    lasting = pair[0].model_copy(update={"last_at": START + HOUR_MS // 10})
    assert len(agreeing([pair[1], lasting])) == 1


@pytest.mark.parametrize(("strength", "sure"), [(1.34, False), (1.35, True)])
def test_one_alone_has_to_be_strong(strength: float, sure: bool) -> None:
    assert (strength / (strength + 1.35) >= 0.5) == sure
    groups = agreeing([_anomaly("cost.avg", "up", strength)])
    assert [group.agreed for group in groups] == ([False] if sure else [])


def test_what_does_good_is_not_acted_on() -> None:
    assert agreeing([_anomaly("cost.avg", "down", 9.0)]) == []
    assert agreeing([_anomaly("latency.p95", "down", 9.0), _anomaly("latency.p99", "down", 9.0)]) == []


def test_a_chain_is_one_group() -> None:
    quality, errors = _anomaly("quality.avg", "down", hour=0.2), _anomaly("errors.rate", "up", hour=0.1)
    latency, cost = _anomaly("latency.p95", "up"), _anomaly("cost.avg", "up", 2.0, hour=0.15)
    first, second = agreeing([quality, cost, latency, errors])
    assert first.anomalies == [latency, errors, quality]
    assert second.anomalies == [cost]
    assert (first.agreed, second.agreed) == (True, False)
    assert agreeing([]) == []
