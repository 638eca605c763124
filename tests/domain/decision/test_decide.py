"""Whole decisions: the known cases, every reason to skip, and what holds for any problem."""

from math import log, tanh
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.decision.candidates import REJECTED_FOR_MS, candidates
from domain.decision.decide import decide, validate_plan
from domain.decision.estimates import observation_of
from domain.decision.foresight import foresee
from domain.decision.history import Observation
from domain.decision.pooling import MAX_POOLED, pool_key
from domain.decision.priors import Priors
from domain.decision.problem import DecisionProblem, Rejection, Skip, Strategy, Traffic
from domain.decision.recommend import pooled_history
from domain.decision.strategy import StructuredPriorStrategy
from domain.decision.weighing import weigh
from domain.plan import OptimizationPlan, Prediction
from domain.policy import CandidateModel, Constraint, Objective
from domain.totals import Totals
from tests.domain.decision.scenarios import (
    GPT4,
    MIXTRAL,
    NOW,
    candidate,
    config,
    floor,
    observation,
    problem,
)

STRATEGY = StructuredPriorStrategy()
COST_AND_QUALITY = [
    Objective(metric="cost", goal="minimize", weight=0.7),
    Objective(metric="quality", goal="maximize", weight=0.3),
]
RANGES: dict[str, Any] = {"temperature": {"min": 0.0, "max": 1.0}, "max_tokens": {"min": 256, "max": 2048}}


def plan(asked: DecisionProblem) -> OptimizationPlan:
    outcome = decide(asked, STRATEGY)
    assert isinstance(outcome, OptimizationPlan), outcome
    return outcome


def skipped(asked: DecisionProblem) -> str:
    outcome = decide(asked, STRATEGY)
    assert isinstance(outcome, Skip), outcome
    return outcome.reasoning


@pytest.mark.parametrize("objectives", [None, COST_AND_QUALITY])
@pytest.mark.parametrize("constraints", [[], [floor(55)]])
def test_a_far_cheaper_unseen_model_above_the_floor_is_tried(
    objectives: list[Objective] | None, constraints: list[Constraint]
) -> None:
    given_objectives: dict[str, Any] = {} if objectives is None else {"objectives": objectives}
    made = plan(problem(constraints=constraints, **given_objectives))
    assert made.recommended_config == config(*MIXTRAL)
    assert made.predictions["quality.avg"].mean == pytest.approx(
        86 - 20 * tanh(0.06 * log(36) / 0.2), abs=0.5
    )
    assert made.predictions["cost.avg"].mean == pytest.approx(1300 * 0.7e-6, rel=0.02)
    assert made.predictions["cost.avg"].samples == 0
    assert made.expected_improvement["cost.avg"] == pytest.approx(0.946, abs=0.01)
    assert made.expected_improvement["quality.avg"] < 0
    assert 0.5 < made.confidence <= 1


def test_the_rationale_names_the_numbers_and_what_binds() -> None:
    text = plan(problem(constraints=[floor(55)])).rationale
    assert "mistral/mixtral-8x7b-instruct-v0.1 in place of openai/gpt-4-1106-preview" in text
    assert "cost.avg $0.017 -> $0.000" in text
    assert "quality.avg >= 55 binds" in text
    assert "list prices" in text


def test_far_below_the_floor_it_is_not_and_the_numbers_say_why() -> None:
    models = (candidate(GPT4, score=86), candidate(MIXTRAL, score=60))
    reason = skipped(problem(constraints=[floor(85)], models=models))
    assert "quality.avg >= 85" in reason
    assert "mixtral" in reason
    assert "predicted at 60" in reason


def test_a_model_never_tried_is_tried_where_the_floor_may_hold() -> None:
    asked = problem(constraints=[floor(75)])
    made = plan(asked)
    assert made.recommended_config == config(*MIXTRAL)
    assert made.predictions["quality.avg"].mean == pytest.approx(70, abs=0.5)
    assert "quality.avg >= 75 binds: 3" in made.rationale
    assert "which the canary is to show" in made.rationale
    (said,) = validate_plan(asked, made).recommendations or []
    assert "quality.avg is predicted at 70" in said
    assert "below the floor of 75" in said
    tried = observation(config(*MIXTRAL), n=300, quality=(70.0, 2.6), cost=(0.0012, 1e-5))
    assert "quality.avg >= 75" in skipped(
        problem(constraints=[floor(75)], history=[observation(config()), tried])
    )


def test_a_model_tried_so_little_that_it_is_not_pooled_was_tried_yet() -> None:
    settings = [(t / 10, q / 5, m) for t in range(21) for q in range(1, 6) for m in (300, 1024)]
    others = [
        observation(config(temperature=t, top_p=q, max_tokens=limit), n=300) for t, q, limit in settings
    ]
    once = observation(config(*MIXTRAL), n=5, quality=(80.0, 15.0))
    assert _tries_of_mixtral([observation(config()), *others]) == 1
    assert _tries_of_mixtral([observation(config()), *others, once]) == 0


def _tries_of_mixtral(history: list[Observation]) -> int:
    """How many candidates of the model may be tried, of which a first is 14 % likely to keep the floor."""
    asked = problem(constraints=[floor(75)], history=history)
    pooled = pooled_history(asked)
    assert len(pooled) == MAX_POOLED
    priors = Priors(pooled, asked.search_space, asked.now)
    weighing = weigh(asked, pooled, candidates(asked, pooled), priors)
    named = [each.model_key == config(*MIXTRAL).model_key for each in weighing.configs]
    return int(weighing.tries[named].sum())


def test_a_rule_s_plan_may_not_go_by_odds() -> None:
    asked = problem(constraints=[floor(75)])
    made = plan(asked).model_copy(update={"source": "rule"})
    assert "below the floor of 75" in str(validate_plan(asked, made).refusal)


def test_in_pareto_mode_nothing_goes_by_odds() -> None:
    models = (candidate(GPT4, score=80), candidate(MIXTRAL, score=80))
    assert "keep every hard constraint" in skipped(
        problem(mode="pareto", models=models, constraints=[floor(87)])
    )


def test_a_public_score_can_lift_it_above_the_floor() -> None:
    models = (candidate(GPT4, score=86), candidate(MIXTRAL, score=80))
    made = plan(problem(constraints=[floor(75)], models=models))
    assert made.predictions["quality.avg"].mean == pytest.approx(80, abs=0.5)
    assert "public scores" in made.rationale


def test_what_was_measured_outweighs_the_prior() -> None:
    good = observation(config(*MIXTRAL), quality=(84.0, 1.0), cost=(0.0012, 1e-5), latency=(4000.0, 80.0))
    made = plan(problem(constraints=[floor(80)], history=[observation(config()), good]))
    assert made.predictions["quality.avg"].mean == pytest.approx(84, abs=0.5)
    assert made.predictions["latency.p95"].mean == pytest.approx(4000, rel=0.02)
    assert made.predictions["latency.p95"].samples == 3000
    assert "measured on 3,000 requests" in made.rationale
    bad = observation(config(*MIXTRAL), quality=(50.0, 1.0))
    assert "quality.avg >= 55" in skipped(
        problem(constraints=[floor(55)], history=[observation(config()), bad])
    )


def test_a_measurement_is_never_taken_for_exact() -> None:
    """Prior variance .25² + .05² + .05² against floor .03² and noise .03², the incumbent telling little."""
    exact = observation(config(*MIXTRAL), cost=(0.001, 0.0))
    prediction = plan(problem(history=[observation(config()), exact])).predictions["cost.avg"]
    prior, noise = 0.25**2 + 2 * 0.05**2, 2 * 0.03**2
    half_width = 1.64 * (prior * noise / (prior + noise)) ** 0.5
    assert log(prediction.high / prediction.mean) == pytest.approx(half_width, rel=0.01)


def test_what_varies_between_measurements_evens_out_over_several() -> None:
    """Prior variance as above against (.03² + .03²)/9 after nine exact measurements."""
    exact = observation(config(*MIXTRAL), cost=(0.001, 0.0)).model_copy(update={"trials": 9})
    prediction = foresee(problem(history=[observation(config()), exact]), config(*MIXTRAL))
    assert prediction is not None
    cost = prediction.predictions["cost.avg"]
    prior, noise = 0.25**2 + 2 * 0.05**2, 2 * 0.03**2 / 9
    half_width = 1.64 * (prior * noise / (prior + noise)) ** 0.5
    assert log(cost.high / cost.mean) == pytest.approx(half_width, rel=0.01)


def test_pareto_trades_nothing() -> None:
    assert "make no objective worse" in skipped(problem(mode="pareto"))
    models = (candidate(GPT4, score=80), candidate(MIXTRAL, score=86))
    assert plan(problem(mode="pareto", models=models)).recommended_config == config(*MIXTRAL)


def test_an_incumbent_below_the_floor_is_left_even_for_a_dearer_model() -> None:
    present = config(*MIXTRAL)
    weak = observation(present, quality=(64.0, 1.0), cost=(0.0009, 1e-5))
    asked = problem(incumbent=present, history=[weak], constraints=[floor(75)])
    made = plan(asked)
    assert made.recommended_config.model_key == "openai/gpt-4-1106-preview"
    assert "breaches quality.avg >= 75" in made.rationale
    assert "expected to gain enough" in skipped(asked.model_copy(update={"constraints": []}))


def test_alternatives_are_other_ways_that_nothing_beats() -> None:
    others = (("openai", "gpt-4o-mini"), ("anthropic", "claude-3-haiku-20240307"))
    models = tuple(candidate(names) for names in (GPT4, MIXTRAL, *others))
    made = plan(problem(models=models, space=RANGES))
    assert 1 <= len(made.alternatives) <= 3
    keys = {pool_key(made.recommended_config), *(pool_key(a.config) for a in made.alternatives)}
    assert len(keys) == 1 + len(made.alternatives)
    assert all("against" in a.tradeoffs and a.on_pareto_front for a in made.alternatives)


def test_a_soft_preference_for_a_model_weighs_by_its_weight() -> None:
    twins = [
        candidate(("own", "a"), price_per_m_tok_in=1, price_per_m_tok_out=1),
        candidate(("own", "b"), price_per_m_tok_in=0.9, price_per_m_tok_out=0.9),
    ]
    prefer = Constraint(type="soft", models=["own/a"])
    assert plan(problem(models=twins)).recommended_config.model == "b"
    assert plan(problem(models=twins, constraints=[prefer])).recommended_config.model == "a"
    adamant = Constraint(type="soft", models=["gpt-4-1106-preview"], priority=100)
    assert "expected to gain enough" in skipped(problem(constraints=[adamant]))


def test_a_soft_cooldown_asks_for_a_greater_gain() -> None:
    calm = Constraint(type="soft", cooldown_ms=60_000, priority=100)
    assert skipped(problem(constraints=[calm], last_change_at=NOW - 1000))
    assert plan(problem(constraints=[calm], last_change_at=NOW - 60_000))


def test_what_brings_nothing_is_not_changed() -> None:
    made = plan(problem(space=RANGES | {"top_p": {"min": 0.5, "max": 1.0}}))
    assert (made.recommended_config.temperature, made.recommended_config.top_p) == (0.7, 1.0)


def test_the_same_problem_has_the_same_answer() -> None:
    asked = problem(space=RANGES)
    assert plan(asked) == plan(DecisionProblem.model_validate_json(asked.model_dump_json(by_alias=True)))


def test_a_budget_counts_as_a_bound() -> None:
    day = 86_400_000
    traffic = [Traffic(window_ms=day, requests=10_000)]
    tight = Constraint(id="budget", type="hard", metric="cost.total", max=5, window_ms=day)
    assert "cost.total <= 5 over 24 h" in skipped(problem(constraints=[tight], traffic=traffic))
    loose = tight.model_copy(update={"max": 20.0})
    assert plan(problem(constraints=[loose], traffic=traffic)).recommended_config == config(*MIXTRAL)
    assert "No traffic is known" in skipped(problem(constraints=[loose]))


def test_cost_total_as_an_objective_is_cost_per_request() -> None:
    total = [Objective(metric="cost.total", goal="minimize", weight=1)]
    assert plan(problem(objectives=total)).recommended_config == config(*MIXTRAL)


def test_skip_without_or_with_too_thin_history() -> None:
    assert "Nothing has been observed" in skipped(problem(history=[]))
    assert "Nothing has been observed" in skipped(problem(history=[observation(config(*MIXTRAL))]))
    assert "Only 1 requests" in skipped(problem(history=[observation(config(), n=1)]))
    assert "Only 49 requests" in skipped(problem(history=[observation(config(), n=49)]))
    assert "Nothing has been observed" in skipped(problem(history=[observation(config(), n=0)]))


def test_skip_where_the_search_space_has_one_point() -> None:
    one_point = {"temperature": {"min": 0.7, "max": 0.7}, "max_tokens": {"min": 1024, "max": 1024}}
    for models in ((), (candidate(GPT4),)):
        assert "the present configuration alone" in skipped(problem(models=models))
        assert "the present configuration alone" in skipped(problem(models=models, space=one_point))


def test_skip_where_no_price_is_known_and_leave_out_where_some_are() -> None:
    unknown = candidate(("own", "llama"))
    reason = skipped(problem(models=(unknown,)))
    assert "No price is known for own/llama" in reason
    made = plan(problem(models=(unknown, candidate(MIXTRAL))))
    assert made.recommended_config == config(*MIXTRAL)
    assert "no price is known for own/llama" in made.rationale
    priced = candidate(("own", "llama"), price_per_m_tok_in=0.5, price_per_m_tok_out=0.5)
    assert plan(problem(models=(priced,))).recommended_config.model_key == "own/llama"


def test_an_unknown_price_does_not_matter_where_cost_does_not() -> None:
    quality = [Objective(metric="quality", goal="maximize", weight=1)]
    models = (candidate(GPT4, score=80), candidate(("own", "llama"), score=90))
    assert plan(problem(models=models, objectives=quality)).recommended_config.model == "llama"


def test_a_model_of_unknown_price_is_known_once_measured() -> None:
    own = config("own", "llama")
    measured = observation(own, cost=(0.001, 1e-5), quality=(86.0, 0.5))
    made = plan(problem(models=(candidate(("own", "llama")),), history=[observation(config()), measured]))
    assert made.recommended_config == own
    assert made.predictions["cost.avg"].mean == pytest.approx(0.001, rel=0.02)


@pytest.mark.parametrize("metric", ["requests.rate", "requests.count", "tokens.input", "tokens.total"])
def test_skip_for_an_objective_that_no_configuration_decides(metric: str) -> None:
    objectives = [Objective(metric=metric, goal="minimize", weight=1)]
    assert metric in skipped(problem(objectives=objectives))


def test_skip_where_every_request_failed() -> None:
    broken = observation_of(config(), Totals(n=200, errors=200, last_at=NOW), incumbent=True)
    assert "cost.avg, latency.p95 of the present configuration is not known" in skipped(
        problem(history=[broken])
    )


def test_without_any_quality_a_floor_cannot_be_judged_but_objectives_can() -> None:
    present = observation(config())
    blind = present.model_copy(
        update={"metrics": {k: v for k, v in present.metrics.items() if k != "quality.avg"}}
    )
    assert "quality.avg >= 55 cannot be judged" in skipped(problem(history=[blind], constraints=[floor(55)]))
    made = plan(problem(history=[blind]))
    assert "quality.avg" not in made.predictions
    assert "no quality ever measured" in made.rationale


def test_skip_for_contradictory_constraints_before_anything_is_weighed() -> None:
    both = [floor(90), Constraint(id="lid", type="hard", metric="quality", max=80)]
    reason = skipped(problem(constraints=both, history=[]))
    assert "floor" in reason
    assert "lid" in reason


@pytest.mark.parametrize(
    ("kind", "since", "skips"), [("hard", 5000, True), ("hard", 60_000, False), ("soft", 0, False)]
)
def test_a_hard_cooldown_is_waited_out(kind: Any, since: int, skips: bool) -> None:
    wait = Constraint(id="calm", type=kind, cooldown_ms=60_000)
    outcome = decide(problem(constraints=[wait], last_change_at=NOW - since), STRATEGY)
    assert isinstance(outcome, Skip) is skips
    if isinstance(outcome, Skip):
        assert "calm" in outcome.reasoning
        assert "55 s" in outcome.reasoning


def test_what_the_gate_took_back_is_not_proposed_again() -> None:
    back = Rejection(config=config(*MIXTRAL), at=NOW - 1000, reason="quality 61 below the floor")
    assert "quality 61 below the floor" in skipped(problem(rejections=[back]))
    aged = back.model_copy(update={"at": NOW - REJECTED_FOR_MS})
    assert plan(problem(rejections=[aged])).recommended_config == config(*MIXTRAL)
    measured = observation(config(*MIXTRAL), quality=(50.0, 1.0))
    still = problem(rejections=[aged], constraints=[floor(55)], history=[observation(config()), measured])
    assert "quality.avg >= 55" in skipped(still)


def test_nothing_to_gain_is_a_skip_with_the_gain() -> None:
    twin = candidate(("own", "twin"), price_per_m_tok_in=20, price_per_m_tok_out=60)
    cost = [Objective(metric="cost", goal="minimize", weight=1)]
    assert "expected to gain enough" in skipped(problem(models=(twin,), objectives=cost))


def test_series_without_spread_and_free_models() -> None:
    flat = observation(config(), cost=(0.0, 0.0), latency=(0.0, 0.0), quality=(100.0, 0.0), errors=(0.0, 0.0))
    assert skipped(problem(history=[flat]))
    free = candidate(("own", "free"), price_per_m_tok_in=0, price_per_m_tok_out=0)
    made = plan(problem(models=(free,), objectives=[Objective(metric="cost", goal="minimize", weight=1)]))
    assert made.predictions["cost.avg"].mean == pytest.approx(0, abs=1e-6)


class Reckless(Strategy):
    """Proposes what breaches."""

    def propose(self, problem: DecisionProblem) -> OptimizationPlan | Skip:
        return OptimizationPlan(
            service=problem.service,
            recommended_config=config(*MIXTRAL),
            expected_improvement={},
            predictions={"quality.avg": Prediction(mean=40, low=30, high=50, samples=0)},
            confidence=1,
            rationale="",
            alternatives=[],
            source="model",
        )


def test_no_strategy_gets_a_breach_past_the_door() -> None:
    outcome = decide(problem(constraints=[floor(55)]), Reckless())
    assert isinstance(outcome, Skip)
    assert "quality.avg is predicted at 40" in outcome.reasoning


scales = {"cost": (1e-6, 10.0), "latency": (1.0, 1e6), "quality": (0.0, 100.0), "errors": (0.0, 1.0)}
estimates = st.fixed_dictionaries(
    {name: st.tuples(st.floats(*ends), st.floats(0, ends[1])) for name, ends in scales.items()}
)
observed = st.tuples(
    st.sampled_from([config(), config(*MIXTRAL), config(temperature=0.2), config(*MIXTRAL, max_tokens=300)]),
    st.integers(0, 5000),
    estimates,
)
bounds = st.sampled_from(["cost.avg", "latency.p95", "quality.avg", "errors.rate"]).flatmap(
    lambda metric: st.builds(
        lambda low, high, kind: Constraint(type=kind, metric=metric, min=min(low, high), max=max(low, high)),
        st.floats(0, 100),
        st.floats(0, 1e6),
        st.sampled_from(["hard", "soft"]),
    )
)
weights = st.lists(
    st.tuples(
        st.sampled_from(["cost", "latency", "quality", "errors"]),
        st.sampled_from(["minimize", "maximize"]),
        st.floats(0.01, 10),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda given: given[0],
)


@settings(max_examples=120, deadline=None)
@given(
    history=st.lists(observed, max_size=8),
    constraints=st.lists(bounds, max_size=3),
    objectives=weights,
    mode=st.sampled_from(["weighted", "pareto"]),
)
def test_any_problem_has_a_plan_within_bounds_or_a_reason(
    history: list[Any], constraints: list[Constraint], objectives: list[Any], mode: str
) -> None:
    asked = problem(
        history=[observation(of, n=n, **metrics) for of, n, metrics in history],
        constraints=constraints,
        objectives=[Objective(metric=m, goal=g, weight=w) for m, g, w in objectives],
        mode=mode,
        space=RANGES,
    )
    outcome = decide(asked, STRATEGY)
    if isinstance(outcome, Skip):
        assert outcome.reasoning
        return
    assert validate_plan(asked, outcome).is_valid
    for constraint in constraints:
        if constraint.type == "hard":
            given = outcome.predictions[constraint.metric or ""]
            # The mean may be past the bound, not further than what is likely.
            lowest, highest = (given.low, given.high) if mode == "weighted" else (given.mean, given.mean)
            assert highest >= (constraint.min or 0)
            assert lowest <= (constraint.max or 0)
    assert all(p.low <= p.mean <= p.high for p in outcome.predictions.values())
    assert pool_key(outcome.recommended_config) != pool_key(asked.incumbent)
    OptimizationPlan.model_validate_json(outcome.model_dump_json(by_alias=True))


def test_two_hundred_models_are_weighed() -> None:
    models: list[CandidateModel] = [
        candidate(("own", f"m{i}"), price_per_m_tok_in=1 + i / 10, price_per_m_tok_out=2 + i / 10)
        for i in range(200)
    ]
    history = [observation(config())] + [
        observation(config("own", f"m{i}", temperature=t / 10), n=100, cost=(0.002, 1e-4))
        for i in range(15)
        for t in range(10)
    ]
    made = plan(problem(models=models, space=RANGES, history=history))
    assert made.recommended_config.provider == "own"
    assert made.confidence > 0.5
