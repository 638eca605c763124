"""What is weighed: within the space, within what providers take, without what is ruled out."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.config import LLMConfig
from domain.decision.candidates import REJECTED_FOR_MS, candidates
from domain.decision.pooling import pool
from domain.decision.problem import DecisionProblem, Rejection
from domain.policy import CandidateModel, Constraint
from tests.domain.decision.scenarios import GPT4, MIXTRAL, NOW, candidate, config, observation, problem

RANGES: dict[str, Any] = {
    "temperature": {"min": 0.0, "max": 1.0},
    "top_p": {"min": 0.5, "max": 1.0},
    "max_tokens": {"min": 256, "max": 2048},
}
CLAUDE = candidate(("anthropic", "claude-sonnet-4"))


def found(asked: DecisionProblem) -> list[LLMConfig]:
    return candidates(asked, pool(asked.history, asked.incumbent, asked.now)).configs


def left_out(asked: DecisionProblem) -> str:
    return "; ".join(candidates(asked, pool(asked.history, asked.incumbent, asked.now)).left_out)


def test_models_alone_leave_all_else_as_it_is() -> None:
    assert found(problem()) == [config(*MIXTRAL)]


def test_no_models_mean_the_present_one() -> None:
    assert found(problem(models=())) == []
    varied = found(problem(models=(), space={"temperature": {"min": 0.0, "max": 1.0}}))
    assert {c.model_key for c in varied} == {"openai/gpt-4-1106-preview"}
    assert {0.0, 0.2, 0.4, 1.0} <= {c.temperature for c in varied}
    assert {c.max_tokens for c in varied} == {1024}


def test_the_grid_and_points_between() -> None:
    configs = found(problem(space=RANGES))
    pairs = {(c.model_key, c.temperature, c.max_tokens) for c in configs}
    for temperature in (0.0, 0.2, 0.4, 1.0):
        for limit in (256, 512, 1024, 2048):
            assert ("mistral/mixtral-8x7b-instruct-v0.1", temperature, limit) in pairs
    assert len({c.top_p for c in configs}) > 5


def test_the_incumbent_and_what_is_as_good_as_it_are_left_out() -> None:
    near = observation(config(temperature=0.71))
    assert config() not in found(problem(space=RANGES, history=[observation(config()), near]))
    assert all(
        abs(c.temperature - 0.7) > 0.04
        for c in found(problem(models=(), space={"temperature": RANGES["temperature"]}))
    )


def test_what_was_observed_within_the_space_is_weighed_as_it_was() -> None:
    seen = config(*MIXTRAL, temperature=0.33, top_p=0.9, max_tokens=777)
    outside = config(*MIXTRAL, temperature=1.7)
    configs = found(problem(space=RANGES, history=[observation(c) for c in (config(), seen, outside)]))
    assert seen in configs
    assert outside not in configs


def test_what_belongs_to_a_provider_stays_with_it() -> None:
    present = config(top_k=10, model_version="1106", parameters={"seed": 7}, stop_sequences=["END"])
    (mixtral, claude) = found(
        problem(
            incumbent=present,
            models=(candidate(MIXTRAL), CLAUDE),
            history=[observation(present)],
        )
    )
    assert (mixtral.top_k, mixtral.parameters, mixtral.model_version) == (None, None, None)
    assert mixtral.stop_sequences == ["END"]
    assert claude.top_k == 10


def test_limits_of_models_and_providers() -> None:
    small = candidate(MIXTRAL, max_output_tokens=300)
    hot = config(temperature=1.8)
    (mixtral, claude) = found(problem(incumbent=hot, models=(small, CLAUDE), history=[observation(hot)]))
    assert mixtral.max_tokens == 300
    assert mixtral.temperature == 1.5
    assert claude.temperature == 1.0


def test_hard_constraints_on_models_hold_and_soft_ones_do_not_exclude() -> None:
    only_openai = Constraint(type="hard", models=["gpt-4-1106-preview"])
    assert found(problem(constraints=[only_openai])) == []
    assert "do not allow mistral/mixtral-8x7b-instruct-v0.1" in left_out(problem(constraints=[only_openai]))
    preferred = Constraint(type="soft", models=["gpt-4-1106-preview"])
    assert found(problem(constraints=[preferred])) == [config(*MIXTRAL)]


@pytest.mark.parametrize(("age", "out"), [(0, True), (REJECTED_FOR_MS - 1, True), (REJECTED_FOR_MS, False)])
def test_what_the_gate_took_back_stays_out_for_a_day(age: int, out: bool) -> None:
    back = Rejection(config=config(*MIXTRAL, temperature=0.68), at=NOW - age, reason="quality 60 below 75")
    asked = problem(rejections=[back])
    assert (found(asked) == []) is out
    assert ("quality 60 below 75" in left_out(asked)) is out


def test_what_was_tried_six_times_is_left_out() -> None:
    often = [observation(config(*MIXTRAL)) for _ in range(6)]
    assert found(problem(history=[observation(config()), *often[:5]])) == [config(*MIXTRAL)]
    assert found(problem(history=[observation(config()), *often])) == []
    assert "tried 6 times" in left_out(problem(history=[observation(config()), *often]))


def interval(low: float, high: float) -> st.SearchStrategy[dict[str, float]]:
    pair = st.tuples(st.floats(low, high), st.floats(low, high)).map(sorted)
    return pair.map(lambda ends: {"min": ends[0], "max": ends[1]})


spaces = st.fixed_dictionaries(
    {},
    optional={
        "temperature": interval(0, 2),
        "top_p": interval(0, 1),
        "max_tokens": st.tuples(st.integers(1, 200_000), st.integers(1, 200_000))
        .map(sorted)
        .map(lambda ends: {"min": ends[0], "max": ends[1]}),
    },
)


@settings(max_examples=60, deadline=None)
@given(space=spaces)
def test_every_candidate_is_in_the_space_and_valid(space: dict[str, Any]) -> None:
    models: tuple[CandidateModel, ...] = (candidate(GPT4), candidate(MIXTRAL, max_output_tokens=500), CLAUDE)
    for each in found(problem(models=models, space=space)):
        LLMConfig.model_validate(each.model_dump())
        for name, ends in space.items():
            assert ends["min"] <= getattr(each, name) <= ends["max"]
        if each.model == MIXTRAL[1]:
            assert each.max_tokens <= 500
