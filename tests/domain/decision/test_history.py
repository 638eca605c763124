"""The history's shape in JSON, expected lengths, pooling and ageing."""

import numpy as np
import pytest
from pydantic import ValidationError

from domain.decision.history import Observation, TokenUse
from domain.decision.pooling import HALF_LIFE_MS, MAX_POOLED, pool, pool_key
from tests.domain.decision.scenarios import GPT4, NOW, config, observation, tokens


def test_round_trip_in_the_documented_shape() -> None:
    given = {
        "config": config().to_json(),
        "incumbent": True,
        "n": 3000,
        "metrics": {"cost": {"mean": 0.01, "se": 0.0002}, "latency.p95": {"mean": 900, "se": 12}},
        "tokens": {"input": 310, "outputQuantiles": list(range(101))},
    }
    made = Observation.model_validate_json(Observation.model_validate(given).model_dump_json(by_alias=True))
    assert made.metrics["cost.avg"].mean == 0.01
    assert made.tokens is not None
    assert made.tokens.output_quantiles[95] == 95


@pytest.mark.parametrize("quantiles", [[1.0] * 100, [1.0] * 102, [2.0, *[1.0] * 100], [-1.0, *[1.0] * 100]])
def test_quantiles_are_101_and_do_not_fall(quantiles: list[float]) -> None:
    with pytest.raises(ValidationError):
        TokenUse(input=1, output_quantiles=quantiles)


@pytest.mark.parametrize(("cut", "verbosity"), [(1e9, 1.0), (100.0, 1.0), (300.0, 2.0)])
def test_output_mean_is_that_of_the_distribution(cut: float, verbosity: float) -> None:
    drawn = np.minimum(np.linspace(0, 400, 400_001) * verbosity, cut).mean()
    assert tokens(longest=400).output_mean(cut, verbosity) == pytest.approx(drawn, rel=1e-3)


def test_near_equal_configurations_are_one() -> None:
    assert pool_key(config(temperature=0.7)) == pool_key(config(temperature=0.72))
    assert pool_key(config(temperature=0.7)) != pool_key(config(temperature=0.8))
    assert pool_key(config(max_tokens=1024)) == pool_key(config(max_tokens=1100))
    assert pool_key(config(max_tokens=1024)) != pool_key(config(max_tokens=1218))


def test_pooled_mean_and_error_are_those_of_independent_parts() -> None:
    parts = [
        observation(config(), n=n, cost=cost) for n, cost in ((300, (0.01, 0.002)), (900, (0.02, 0.001)))
    ]
    (pooled,) = pool(parts, config(), NOW)
    assert pooled.n == 1200
    assert pooled.incumbent
    assert pooled.trials == 2
    assert pooled.metrics["cost.avg"].mean == pytest.approx(0.25 * 0.01 + 0.75 * 0.02)
    assert pooled.metrics["cost.avg"].se == pytest.approx(np.hypot(0.25 * 0.002, 0.75 * 0.001))


def test_age_adds_noise_and_loses_weight() -> None:
    old = observation(config(), n=1000, cost=(0.01, 0.001))
    (aged,) = pool([old], config(), NOW + HALF_LIFE_MS)
    assert aged.metrics["cost.avg"].mean == pytest.approx(0.01)
    assert aged.metrics["cost.avg"].se == pytest.approx(0.001 * 2**0.5)
    fresh = observation(config(), n=1000, cost=(0.04, 0.001)).model_copy(
        update={"observed_at": NOW + HALF_LIFE_MS}
    )
    (both,) = pool([old, fresh], config(), NOW + HALF_LIFE_MS)
    assert both.metrics["cost.avg"].mean == pytest.approx((0.01 + 2 * 0.04) / 3)


def test_a_clock_that_went_back_makes_nothing_newer_than_new() -> None:
    (pooled,) = pool([observation(config())], config(), NOW - 10 * HALF_LIFE_MS)
    assert pooled.metrics["cost.avg"].se == pytest.approx(2e-4)


def test_ancient_history_stays_finite() -> None:
    (pooled,) = pool([observation(config())], config(), NOW + 10_000 * HALF_LIFE_MS)
    assert pooled.metrics["cost.avg"].mean == pytest.approx(0.017)
    assert pooled.metrics["cost.avg"].se == pytest.approx(2e-4 * 2**20)


def test_at_most_200_and_the_incumbent_first() -> None:
    many = [
        observation(config(*GPT4, max_tokens=2 + 3**i, temperature=t / 10), n=5000)
        for i in range(15)
        for t in range(20)
    ]
    pooled = pool([*many, observation(config(), n=60)], config(), NOW)
    assert len(pooled) == MAX_POOLED
    assert pooled[0].incumbent
    assert pooled[0].n == 60
    assert sum(o.incumbent for o in pooled) == 1
