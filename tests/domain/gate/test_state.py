"""The state: closed buckets stay closed, JSON and back, and nothing that breaks it."""

import json
import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.gate_traffic import BASE, bucket
from domain.gate import ArmBucket, Bucket, GateSettings, GateState, GuardrailSettings, judge, observe
from domain.gate.bucket import LARGEST
from domain.gate.settings import Key

DEFAULTS = GateSettings()


def _bounded(bounds: Mapping[Key, float]) -> GateSettings:
    changed: dict[str, GuardrailSettings] = {
        key: DEFAULTS.guardrail(key).model_copy(update={"bound": bound}) for key, bound in bounds.items()
    }
    return DEFAULTS.model_copy(update=changed)


BOUNDED = _bounded({"errors": 0.02, "tail": 2000.0, "latency": 800.0, "cost": 0.01, "quality": 55.0})


def _long_state(gate: GateSettings) -> GateState:
    rng, state = np.random.default_rng(1), GateState()
    for number in range(80):
        share = (5.0, 25.0, 50.0, 95.0)[number // 20]
        state = observe(state, bucket(number, share, BASE, BASE, rng), gate)
    return state


@pytest.mark.parametrize("gate", [DEFAULTS, BOUNDED], ids=["margins", "bounds"])
def test_json_and_back_changes_nothing_and_is_small(gate: GateSettings) -> None:
    state = _long_state(gate)
    text = json.dumps(state.to_json(), allow_nan=False)
    assert len(text) < 14_000
    again = GateState.model_validate(json.loads(text))
    assert again == state
    following = bucket(80, 95.0, BASE, BASE, np.random.default_rng(2))
    assert observe(again, following, gate) == observe(state, following, gate)


def test_a_closed_bucket_is_never_opened_again() -> None:
    rng = np.random.default_rng(3)
    buckets = [bucket(number, 25.0, BASE, BASE, rng) for number in range(3)]
    state = GateState()
    for each in buckets:
        state = observe(state, each, DEFAULTS)
    for each in buckets:
        assert observe(state, each, DEFAULTS) is state


def test_observing_leaves_the_state_before_as_it_was() -> None:
    rng = np.random.default_rng(4)
    before = observe(GateState(), bucket(0, 25.0, BASE, BASE, rng), DEFAULTS)
    text = before.model_dump_json()
    observe(before, bucket(1, 25.0, BASE, BASE, rng), DEFAULTS)
    assert before.model_dump_json() == text


@pytest.mark.parametrize(
    "arm",
    [
        {"n": -1},
        {"n": 2, "errors": 3},
        {"n": 1, "latencyMs": [1, 2]},
        {"n": 1, "costUsd": [1, 2]},
        {"n": 1, "latencyMs": [math.nan]},
        {"n": 1, "costUsd": [math.inf]},
        {"n": 1, "costUsd": [-1]},
        {"n": 1, "quality": [101]},
        {"n": "1"},
        {"n": 1, "scores": []},
    ],
)
def test_a_bucket_that_cannot_be_is_refused(arm: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ArmBucket.model_validate(arm)


def test_scores_may_arrive_later_than_their_requests() -> None:
    assert ArmBucket(n=0, quality=[80.0]).quality == [80.0]


def _values(top: float) -> st.SearchStrategy[list[float]]:
    one = st.sampled_from([0.0, 1e-300, 1.0, 100.0, top]) | st.floats(0, top)
    constant = st.builds(lambda value, n: [value] * n, one, st.integers(0, 80))
    return constant | st.lists(one, max_size=80)


@st.composite
def _arms(draw: st.DrawFn) -> ArmBucket:
    latency, cost = draw(_values(LARGEST)), draw(_values(LARGEST))
    n = max(len(latency), len(cost)) + draw(st.sampled_from([0, 1, 1000, 10**9]))
    errors = draw(st.sampled_from([0, n]) | st.integers(0, n))
    return ArmBucket(n=n, errors=errors, latency_ms=latency, cost_usd=cost, quality=draw(_values(100.0)))


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    arms=st.lists(st.tuples(st.sampled_from([0.0, 5.0, 50.0, 95.0, 100.0]), _arms(), _arms()), max_size=6),
    gate=st.sampled_from(
        [DEFAULTS, BOUNDED, _bounded({"errors": 0.0, "cost": 0.0, "quality": 0.0}), _bounded({"errors": 1.0})]
    ),
)
def test_any_traffic_gives_a_finite_verdict(
    arms: list[tuple[float, ArmBucket, ArmBucket]], gate: GateSettings
) -> None:
    state = GateState()
    for number, (share, control, canary) in enumerate(arms):
        state = observe(state, Bucket(id=number, share=share, control=control, canary=canary), gate)
        judgement = judge(state, gate, step_end=True, before_full=True)
        # A strict model refuses NaN and infinity, and so does JSON.
        assert GateState.model_validate(json.loads(json.dumps(state.to_json(), allow_nan=False))) == state
        json.dumps(judgement.to_json(), allow_nan=False)
        assert all(0 <= value <= 1e12 for value in judgement.evidence.values())
        assert judgement.reason
