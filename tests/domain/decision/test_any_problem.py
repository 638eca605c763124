"""Whatever it is asked: a plan within bounds or a reason; what is promoted was observed."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.config import LLMConfig
from domain.decision.decide import decide, validate_plan
from domain.decision.history import QUANTILES, MetricEstimate, Observation, TokenUse
from domain.decision.pooling import pool_key
from domain.decision.problem import DecisionProblem, Rejection, Skip, Traffic
from domain.decision.recommend import recommend
from domain.decision.strategy import StructuredPriorStrategy
from domain.policy import CandidateModel, Constraint, IntRange, Objective, Range, SearchSpace
from tests.domain.decision.scenarios import NOW, config

MODELS = [
    ("openai", "gpt-4o"),
    ("mistral", "mixtral-8x7b-instruct-v0.1"),
    ("anthropic", "claude-3-5-haiku-latest"),
    ("own", "unpriced"),
    ("own", "free"),
]
METRICS = ["cost.avg", "latency.p95", "latency.avg", "quality.avg", "errors.rate", "tokens.output"]
times = st.integers(NOW - 10**10, NOW + 10**9)  # clocks ahead of ours too
configs = st.builds(
    lambda names, t, p, m, k: config(*names, temperature=t, top_p=p, max_tokens=m, top_k=k),
    st.sampled_from(MODELS),
    st.floats(0, 2),
    st.floats(0, 1),
    st.integers(1, 100_000),
    st.none() | st.integers(0, 1000),
)
amounts = st.sampled_from([0.0, 1e-12, 0.5, 1.0, 80.0, 1e4, 1e15]) | st.floats(0, 1e6)
estimates = st.builds(MetricEstimate, mean=amounts, se=amounts)
tokens = st.builds(
    lambda size, longest: TokenUse(
        input=size, output_quantiles=[longest * i / 100 for i in range(QUANTILES)]
    ),
    st.floats(0, 1e5),
    st.floats(0, 1e5),
)
observations = st.builds(
    Observation,
    config=configs,
    n=st.sampled_from([0, 1, 49, 50, 300, 10**7]),
    metrics=st.dictionaries(st.sampled_from(METRICS), estimates),
    tokens=st.none() | tokens,
    observed_at=st.none() | times,
    trials=st.integers(1, 9),
)


def interval(kind: Any, numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(numbers, numbers).map(sorted).map(lambda ends: kind(min=ends[0], max=ends[1]))


entries = st.sampled_from(MODELS).flatmap(
    lambda names: st.builds(
        CandidateModel,
        provider=st.just(names[0]),
        model=st.just(names[1]),
        score=st.none() | st.floats(0, 100),
        price_per_m_tok_in=st.just(0.0) if names[1] == "free" else st.none() | st.floats(0, 1e4),
        price_per_m_tok_out=st.just(0.0) if names[1] == "free" else st.none() | st.floats(0, 1e4),
        max_output_tokens=st.none() | st.integers(1, 10_000),
    )
)
spaces = st.builds(
    SearchSpace,
    models=st.lists(entries, max_size=5, unique_by=lambda entry: entry.key),
    temperature=st.none() | interval(Range, st.floats(0, 2)),
    top_p=st.none() | interval(Range, st.floats(0, 1)),
    max_tokens=st.none() | interval(IntRange, st.integers(1, 100_000)),
    top_k=st.none() | interval(IntRange, st.integers(0, 1000)),
)
constraints = st.one_of(
    st.builds(
        lambda kind, metric, low, high, window: Constraint(
            type=kind, metric=metric, min=min(low, high), max=max(low, high), window_ms=window
        ),
        st.sampled_from(["hard", "soft"]),
        st.sampled_from([*METRICS, "cost.total", "requests.rate"]),
        amounts,
        amounts,
        st.none() | st.integers(1, 10**9),
    ),
    st.builds(
        Constraint, type=st.just("hard"), models=st.lists(st.sampled_from([m for _, m in MODELS]), min_size=1)
    ),
    st.builds(Constraint, type=st.sampled_from(["hard", "soft"]), cooldown_ms=st.integers(0, 10**6)),
)
objectives = st.lists(
    st.builds(
        Objective,
        metric=st.sampled_from(["cost", "latency", "quality", "errors", "cost.total"]),
        goal=st.sampled_from(["minimize", "maximize"]),
        weight=st.floats(1e-3, 1e6),
    ),
    min_size=1,
    max_size=3,
)


@st.composite
def problems(draw: st.DrawFn) -> DecisionProblem:
    incumbent: LLMConfig = draw(configs)
    usual = {
        "cost.avg": MetricEstimate(mean=0.01, se=0.001),
        "latency.p95": MetricEstimate(mean=3000, se=100),
        "quality.avg": MetricEstimate(mean=80, se=1),
        "errors.rate": MetricEstimate(mean=0.01, se=0.002),
    }
    whole = Observation(config=incumbent, incumbent=True, n=1000, metrics=usual, tokens=draw(tokens))
    present = draw(st.sampled_from([[whole], [whole], [whole], []]))
    return DecisionProblem(
        service="any",
        incumbent=incumbent,
        objectives=draw(objectives),
        constraints=draw(st.lists(constraints, max_size=3)),
        search_space=draw(spaces),
        mode=draw(st.sampled_from(["weighted", "pareto"])),
        history=present + draw(st.lists(observations, max_size=6)),
        now=NOW,
        last_change_at=draw(st.none() | times),
        rejections=draw(
            st.lists(st.builds(Rejection, config=configs, at=times, reason=st.just("")), max_size=2)
        ),
        traffic=draw(
            st.lists(st.integers(0, 10**6).map(lambda n: Traffic(window_ms=10**6, requests=n)), max_size=1)
        ),
        unavailable=draw(st.lists(st.sampled_from([m for _, m in MODELS]), max_size=1)),
        widening=draw(st.dictionaries(st.sampled_from(METRICS), st.floats(1, 1000), max_size=2)),
        adoptable=draw(st.booleans()),
    )


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(asked=problems())
def test_a_plan_keeps_the_space_and_the_bounds(asked: DecisionProblem) -> None:
    outcome = decide(asked, StructuredPriorStrategy())
    if isinstance(outcome, Skip):
        assert outcome.reasoning
    else:
        assert validate_plan(asked, outcome).is_valid
        assert_within(outcome.recommended_config, asked)
        assert all(p.low <= p.mean <= p.high for p in outcome.predictions.values())
    kept = recommend(asked)
    if kept is not None:
        assert_within(kept, asked)
        assert pool_key(kept) in {pool_key(o.config) for o in asked.history}
        assert pool_key(kept) not in {pool_key(r.config) for r in asked.rejections}


def assert_within(chosen: LLMConfig, asked: DecisionProblem) -> None:
    space = asked.search_space
    LLMConfig.model_validate(chosen.model_dump())
    assert pool_key(chosen) != pool_key(asked.incumbent)
    assert chosen.model not in asked.unavailable
    if space.models:
        assert chosen.model_key in {entry.key for entry in space.models}
    for name in ("temperature", "top_p", "max_tokens", "top_k"):
        limits, value = getattr(space, name), getattr(chosen, name)
        if limits is not None and value is not None:
            assert limits.min <= value <= limits.max
    for constraint in asked.constraints:
        if constraint.type == "hard" and constraint.models is not None:
            assert chosen.model in constraint.models
