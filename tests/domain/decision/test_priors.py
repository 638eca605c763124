"""Expectations against sums by hand."""

from math import exp, log, tanh

import pytest

from domain.config import LLMConfig
from domain.decision.history import QUANTILES, Observation, TokenUse
from domain.decision.pooling import pool
from domain.decision.priors import Priors, effective_temperature, heat
from domain.decision.responses import RESPONSES
from domain.policy import CandidateModel, SearchSpace
from tests.domain.decision.scenarios import GPT4, MIXTRAL, NOW, candidate, config, observation, tokens

MIXTRAL_RATIO = (0.7 + 3 * 0.7) / (10 + 3 * 30)


def expect(
    *others: Observation,
    models: tuple[CandidateModel, ...] = (candidate(GPT4), candidate(MIXTRAL)),
    incumbent: Observation | None = None,
) -> Priors:
    pooled = pool([incumbent or observation(config()), *others], config(), NOW)
    return Priors(pooled, SearchSpace(models=list(models)), NOW)


def mean(priors: Priors, metric: str, of: LLMConfig) -> float:
    return priors.mean(RESPONSES[metric], of)


@pytest.mark.parametrize(
    ("temperature", "top_p", "effective"),
    [(0.5, 0.1, 0.5), (1.0, 0.1, 1.0), (1.6, 1.0, 1.6), (1.6, 0.95, 1.6), (1.6, 0.8, 1.0), (1.6, 0.875, 1.3)],
)
def test_effective_temperature(temperature: float, top_p: float, effective: float) -> None:
    assert effective_temperature(temperature, top_p) == pytest.approx(effective)
    assert heat(config(temperature=temperature, top_p=top_p)) == pytest.approx(max(0, effective - 1.2))


def test_cost_is_prices_times_tokens() -> None:
    """1,100 tokens in, 0..400 out evenly."""
    priors = expect()
    assert mean(priors, "cost.avg", config()) == pytest.approx(log(1100 * 10e-6 + 200 * 30e-6))
    assert mean(priors, "cost.avg", config(*MIXTRAL)) == pytest.approx(log(1300 * 0.7e-6))
    cut = mean(priors, "cost.avg", config(max_tokens=100))
    assert cut == pytest.approx(log(1100 * 10e-6 + 87.5 * 30e-6))


def test_a_models_verbosity_is_learnt_within_bounds() -> None:
    wordy = observation(config(*MIXTRAL)).model_copy(update={"tokens": tokens(longest=800)})
    assert expect(wordy).verbosity(config(*MIXTRAL)) == pytest.approx(2.0)
    assert mean(expect(wordy), "cost.avg", config(*MIXTRAL)) == pytest.approx(log(1500 * 0.7e-6))
    endless = observation(config(*MIXTRAL)).model_copy(update={"tokens": tokens(longest=9000)})
    assert expect(endless).verbosity(config(*MIXTRAL, max_tokens=100_000)) <= 4.0
    assert expect(wordy).verbosity(config()) == 1.0


def test_an_unknown_price_is_what_the_model_was_measured_at_or_nothing() -> None:
    own = config("own", "llama")
    assert mean(expect(), "cost.avg", own) != mean(expect(), "cost.avg", own)  # NaN
    assert mean(expect(observation(own, cost=(0.004, 1e-4))), "cost.avg", own) == pytest.approx(log(0.004))


def test_capability_by_price_and_by_public_scores() -> None:
    assert expect().capability(config(*MIXTRAL)) == pytest.approx(0.2 * tanh(0.3 * log(MIXTRAL_RATIO)))
    assert expect().capability(config()) == 0.0
    assert expect().capability(config("own", "llama")) == 0.0
    scored = expect(models=(candidate(GPT4, score=80), candidate(MIXTRAL, score=70)))
    assert scored.capability(config(*MIXTRAL)) == pytest.approx(-0.10)
    assert scored.scored
    assert not expect().scored


def test_quality_falls_with_capability_truncation_and_heat() -> None:
    priors = expect()
    assert mean(priors, "quality.avg", config()) == pytest.approx(0.86)
    expected = 0.86 + 0.2 * tanh(0.3 * log(MIXTRAL_RATIO))
    assert mean(priors, "quality.avg", config(*MIXTRAL)) == pytest.approx(expected)
    hot = mean(priors, "quality.avg", config(temperature=1.5))
    assert hot == pytest.approx(0.86 * exp(-4 * 0.3))
    short = mean(
        priors, "quality.avg", config(max_tokens=160)
    )  # of 0, 4, .. 400 tokens 61 are at least as long
    assert short == pytest.approx(0.86 * (1 - 61 / 101))


def test_answers_cut_off_at_present_are_cut_off_by_a_little_less_too() -> None:
    """Of 0, 5, .. 500 tokens 22 of 101 are at the limit of 400, within 2 %; 32 are at 350 or beyond."""
    lengths = [min(5.0 * i, 400.0) for i in range(QUANTILES)]
    present = observation(config(max_tokens=400)).model_copy(
        update={"tokens": TokenUse(input=1100, output_quantiles=lengths)}
    )
    priors = Priors(pool([present], config(max_tokens=400), NOW), SearchSpace(models=[candidate(GPT4)]), NOW)
    assert mean(priors, "quality.avg", config(max_tokens=350)) == pytest.approx(0.86 * (1 - 10 / 101))
    assert mean(priors, "quality.avg", config(max_tokens=800)) == pytest.approx(0.86)


def test_latency_follows_the_long_answers_and_heat() -> None:
    priors = expect()
    assert mean(priors, "latency.p95", config()) == pytest.approx(log(9000))
    halved = mean(priors, "latency.p95", config(max_tokens=190))  # the 95th percentile is 380
    assert halved == pytest.approx(log(9000) + 0.8 * log(0.5))
    assert mean(priors, "latency.p95", config(temperature=2.0)) == pytest.approx(log(9000) + 1.5 * 0.8)


def test_errors_rise_with_heat_and_stay_a_rate() -> None:
    assert mean(expect(), "errors.rate", config(*MIXTRAL)) == pytest.approx(0.004)
    assert mean(expect(), "errors.rate", config(temperature=2.0)) == pytest.approx(0.004 + 0.4 * 0.8)
    broken = expect(incumbent=observation(config(), errors=(0.9, 0.01)))
    assert mean(broken, "errors.rate", config(temperature=2.0)) == 1.0
