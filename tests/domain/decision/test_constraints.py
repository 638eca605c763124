"""The validator: each kind of constraint, hard and soft, with and without predictions."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.config import LLMConfig
from domain.decision.constraints import ValidationContext, cooldown_left, validate_config
from domain.decision.contradictions import contradictions
from domain.decision.problem import Traffic
from domain.plan import Prediction, ValidationResult
from domain.policy import CandidateModel, Constraint, SearchSpace
from tests.domain.decision.scenarios import GPT4, MIXTRAL, NOW, candidate, config, tokens

DAY = 86_400_000


def predicted(**means: float) -> dict[str, Prediction]:
    names = {"cost": "cost.avg", "quality": "quality.avg", "latency": "latency.p95", "errors": "errors.rate"}
    return {names[k]: Prediction(mean=m, low=0.9 * m, high=1.1 * m, samples=10) for k, m in means.items()}


def judge(
    *constraints: Constraint,
    of: LLMConfig | None = None,
    predictions: dict[str, Prediction] | None = None,
    models: tuple[CandidateModel, ...] = (),
    **context: Any,
) -> ValidationResult:
    return validate_config(
        of or config(),
        constraints=constraints,
        search_space=SearchSpace(models=list(models)),
        predictions=predictions,
        context=ValidationContext(**({"now": NOW} | context)),
    )


def hard(**fields: Any) -> Constraint:
    return Constraint(type="hard", **fields)


def soft(**fields: Any) -> Constraint:
    return Constraint(type="soft", **fields)


def only(result: ValidationResult) -> tuple[str, str, str]:
    (violation,) = result.violations
    return violation.constraint, violation.severity, violation.message


def test_nothing_asked_is_nothing_breached() -> None:
    assert judge() == ValidationResult(is_valid=True, violations=[], recommendations=None)


@pytest.mark.parametrize(
    ("constraint", "mean", "valid"),
    [
        (hard(metric="quality", min=75), 75.0, True),
        (hard(metric="quality", min=75), 74.9, False),
        (hard(metric="cost", max=0.01), 0.01, True),
        (hard(metric="cost", max=0.01), 0.0101, False),
        (hard(metric="latency", min=100, max=900), 901.0, False),
        (hard(metric="errors", max=0.02), 0.03, False),
    ],
)
def test_a_bound_is_held_against_the_predicted_mean(constraint: Constraint, mean: float, valid: bool) -> None:
    assert constraint.metric is not None
    prediction = Prediction(mean=mean, low=mean, high=mean, samples=5)
    result = judge(constraint, predictions={constraint.metric: prediction})
    assert result.is_valid is valid
    assert len(result.violations) == (not valid)


def test_a_violation_names_its_constraint_and_the_numbers() -> None:
    named = judge(hard(id="floor", metric="quality", min=75), predictions=predicted(quality=60))
    assert only(named) == (
        "floor",
        "error",
        "quality.avg is predicted at 60 (54 to 66), below the floor of 75",
    )
    unnamed = judge(hard(metric="cost", max=0.01), predictions=predicted(cost=0.02))
    assert only(unnamed)[0] == "cost.avg <= 0.01"
    assert "$0.02 ($0.018 to $0.022), above the ceiling of $0.01" in only(unnamed)[2]


def test_a_soft_breach_is_a_warning_with_its_weight() -> None:
    result = judge(soft(id="nice", metric="quality", min=75, priority=3), predictions=predicted(quality=60))
    assert result.is_valid
    assert only(result)[:2] == ("nice", "warning")
    assert "weight 3" in only(result)[2]


def test_an_interval_across_a_hard_bound_is_pointed_out() -> None:
    result = judge(hard(metric="quality", min=57), predictions=predicted(quality=60))
    assert result.is_valid
    assert not result.violations
    assert "54 to 66" in (result.recommendations or [""])[0]


@pytest.mark.parametrize(
    ("allowed", "valid"),
    [
        (["openai/gpt-4-1106-preview"], True),
        (["gpt-4-1106-preview"], True),
        (["mistral/x", "openai/gpt-4-1106-preview"], True),
        (["openai"], False),
        (["azure/gpt-4-1106-preview"], False),
        (["gpt-4"], False),
    ],
)
def test_allowed_models(allowed: list[str], valid: bool) -> None:
    result = judge(hard(models=allowed))
    assert result.is_valid is valid
    if not valid:
        assert "openai/gpt-4-1106-preview is not among" in only(result)[2]


@pytest.mark.parametrize(
    ("since", "left"),
    [(None, 0), (0, 60_000), (59_999, 1), (60_000, 0), (DAY, 0), (-5000, 60_000), (-DAY, 60_000)],
)
def test_cooldown_and_a_clock_that_went_back(since: int | None, left: int) -> None:
    constraint = hard(cooldown_ms=60_000)
    last = None if since is None else NOW - since
    assert cooldown_left(constraint, NOW, last) == left
    assert judge(constraint, last_change_at=last).is_valid is (left == 0)


def test_a_budget_is_projected_from_the_traffic_of_its_window() -> None:
    budget = hard(id="budget", metric="cost.total", max=100, window_ms=DAY)
    traffic = [Traffic(window_ms=DAY, requests=10_000), Traffic(window_ms=3_600_000, requests=1)]
    assert judge(budget, predictions=predicted(cost=0.01), traffic=traffic).is_valid
    over = judge(budget, predictions=predicted(cost=0.012), traffic=traffic)
    assert only(over) == (
        "budget",
        "error",
        "cost.total is projected at $120 over 24 h (10,000 requests at $0.012), above the ceiling of $100",
    )


def test_a_budget_of_another_window_is_scaled() -> None:
    hourly = hard(metric="cost.total", max=5, window_ms=3_600_000)
    traffic = [Traffic(window_ms=DAY, requests=24_000)]
    assert judge(hourly, predictions=predicted(cost=0.005), traffic=traffic).is_valid
    assert not judge(hourly, predictions=predicted(cost=0.0051), traffic=traffic).is_valid


def test_a_count_of_errors_is_projected_over_a_day_by_default() -> None:
    few = hard(metric="errors.count", max=50)
    traffic = [Traffic(window_ms=DAY, requests=10_000)]
    assert judge(few, predictions=predicted(errors=0.004), traffic=traffic).is_valid
    assert not judge(few, predictions=predicted(errors=0.006), traffic=traffic).is_valid


def test_a_budget_without_traffic_cannot_be_checked_and_says_so() -> None:
    result = judge(hard(metric="cost.total", max=1, window_ms=DAY), predictions=predicted(cost=9))
    assert result.is_valid
    assert "could not be checked: no traffic" in (result.recommendations or [""])[0]


def test_a_budget_used_up_is_said() -> None:
    traffic = [Traffic(window_ms=DAY, requests=10, cost_usd=150)]
    result = judge(
        hard(metric="cost.total", max=100, window_ms=DAY), predictions=predicted(cost=1), traffic=traffic
    )
    assert result.is_valid
    assert any("$150 were spent" in text for text in result.recommendations or [])


def test_by_hand_cost_follows_from_prices_and_tokens() -> None:
    """1,000 in at $10/M and, cut off at 100 of 0..400 spread evenly, 87.5 out at $30/M."""
    tight, loose = hard(metric="cost", max=0.0126), hard(metric="cost", max=0.0127)
    short = config(max_tokens=100)
    assert not judge(tight, of=short, tokens=tokens(1000, 400)).is_valid
    assert judge(loose, of=short, tokens=tokens(1000, 400)).is_valid


def test_by_hand_the_policys_prices_win() -> None:
    own = candidate(("own", "llama"), price_per_m_tok_in=0.1, price_per_m_tok_out=0.1)
    ceiling = hard(metric="cost", max=0.001)
    assert judge(ceiling, of=config("own", "llama"), models=(own,), tokens=tokens()).is_valid
    unknown = judge(ceiling, of=config("own", "llama"), tokens=tokens())
    assert unknown.is_valid
    assert "cost.avg of own/llama is not known" in (unknown.recommendations or [""])[0]


def test_by_hand_what_cannot_be_known_is_said_not_passed_over() -> None:
    result = judge(hard(id="floor", metric="quality", min=55), of=config(*MIXTRAL), tokens=tokens())
    assert result.is_valid
    assert (result.recommendations or [""])[0].startswith("floor: quality.avg >= 55 could not be checked")


def test_no_configuration_is_blamed_for_traffic() -> None:
    result = judge(hard(metric="requests.rate", max=1))
    assert result.is_valid
    assert "no configuration changes" in (result.recommendations or [""])[0]


def test_max_tokens_within_the_models_limit() -> None:
    assert judge(of=config(max_tokens=128_000)).is_valid
    assert only(judge(of=config(max_tokens=128_001)))[:2] == ("maxTokens", "error")
    own = candidate(GPT4, max_output_tokens=4096)
    assert "4096" in only(judge(of=config(max_tokens=5000), models=(own,)))[2]
    assert judge(of=config("own", "llama", max_tokens=10**8)).is_valid


def test_temperature_within_the_providers_limit() -> None:
    assert judge(of=config(temperature=2.0)).is_valid
    assert only(judge(of=config("anthropic", "claude-sonnet-4", temperature=1.1)))[:2] == (
        "temperature",
        "warning",
    )


def test_top_k_only_where_the_provider_has_it() -> None:
    assert only(judge(of=config(top_k=40)))[:2] == ("topK", "warning")
    assert not judge(of=config("anthropic", "claude-sonnet-4", top_k=40)).violations


def test_every_breach_is_reported() -> None:
    result = judge(
        hard(id="models", models=["other"]),
        hard(id="wait", cooldown_ms=1000),
        hard(id="cost", metric="cost", max=0.001),
        soft(id="quality", metric="quality", min=99),
        predictions=predicted(cost=1, quality=50),
        last_change_at=NOW,
    )
    assert [v.constraint for v in result.violations] == ["models", "wait", "cost", "quality"]
    assert [v.severity for v in result.violations] == ["error", "error", "error", "warning"]


@pytest.mark.parametrize(
    ("constraints", "said"),
    [
        ([hard(id="a", metric="cost", min=0.1), hard(id="b", metric="cost.avg", max=0.01)], ["a (", "b ("]),
        ([hard(metric="latency.p50", min=900), hard(metric="latency.p95", max=500)], ["latency.p50 >= 900"]),
        ([hard(models=["openai/gpt-4o"]), hard(models=["mistral/m"])], ["no model in common"]),
        ([hard(metric="quality", min=101)], ["cannot be kept", "0..100"]),
        ([hard(metric="errors.rate", max=-0.1)], ["cannot be kept", "0..1"]),
        ([hard(metric="latency", max=-1)], ["cannot be kept"]),
        (
            [hard(metric="cost.total", min=9, window_ms=DAY), hard(metric="cost.total", max=5)],
            ["contradict each other"],
        ),
    ],
)
def test_contradictions_name_both_sides(constraints: list[Constraint], said: list[str]) -> None:
    (text,) = contradictions(constraints)
    assert all(part in text for part in said)
    result = judge(*constraints)
    assert not result.is_valid
    assert text in [v.message for v in result.violations]


@pytest.mark.parametrize(
    "constraints",
    [
        [hard(metric="cost", min=0.1), soft(metric="cost", max=0.01)],
        [hard(metric="latency.p95", min=900), hard(metric="latency.p50", max=500)],
        [hard(models=["openai/gpt-4o"]), hard(models=["gpt-4o"])],
        [hard(metric="cost.total", min=9, window_ms=DAY), hard(metric="cost.total", max=5, window_ms=1000)],
        [hard(metric="cost", min=0.01, max=0.01)],
        [hard(cooldown_ms=5), hard(cooldown_ms=6)],
    ],
)
def test_what_can_be_kept_together_is_no_contradiction(constraints: list[Constraint]) -> None:
    assert contradictions(constraints) == []


finite = st.floats(-1e6, 1e6)


@given(mean=finite, bounds=st.tuples(finite, finite).map(sorted), kind=st.sampled_from(["hard", "soft"]))
def test_valid_is_exactly_within_every_hard_bound(mean: float, bounds: list[float], kind: Any) -> None:
    """Held against plain comparison, on a metric without a domain of its own to contradict."""
    low, high = bounds
    constraint = Constraint(type=kind, metric="latency", min=low, max=high)
    prediction = Prediction(mean=mean, low=mean, high=mean, samples=0)
    result = judge(constraint, predictions={"latency.p95": prediction})
    within = low <= mean <= high
    assert result.is_valid is (kind == "soft" or (within and high >= 0))
    assert any(v.constraint != "contradiction" for v in result.violations) is not within
