"""The verdicts: rolled back, extended, let through, and what the reasons say."""

from collections.abc import Sequence

import numpy as np
import pytest

from bench.gate_traffic import BASE, Arm, bucket
from domain.deployment import GuardrailReading
from domain.gate import ArmBucket, Bucket, GateSettings, GateState, Judgement, judge, observe
from domain.policy import ServicePolicy

DEFAULTS = GateSettings()
NOBODY = ArmBucket(n=0)


def _policy(**policy: object) -> GateSettings:
    return GateSettings.from_policy(ServicePolicy.model_validate({"service": "chat", **policy}))


def _seen(
    shares: Sequence[float],
    canary: Arm = BASE,
    settings: GateSettings = DEFAULTS,
    now: Sequence[Arm] | None = None,
    seed: int = 1,
) -> GateState:
    """The state after a bucket at each share."""
    rng, state = np.random.default_rng(seed), GateState()
    for number, share in enumerate(shares):
        shared = BASE if now is None else now[number]
        state = observe(state, bucket(number, share, shared, canary, rng), settings)
    return state


def _binary(n: int, good: float, rng: np.random.Generator) -> ArmBucket:
    """Requests scored 0 or 100."""
    return ArmBucket(
        n=n,
        latency_ms=rng.lognormal(6, 0.5, n).tolist(),
        cost_usd=rng.lognormal(-6, 0.5, n).tolist(),
        quality=np.where(rng.random(n) < good, 100.0, 0.0).tolist(),
    )


def _binary_rollout(settings: GateSettings, control: float, canary: float) -> Judgement:
    """Ten buckets each at 5, 25 and 50 % of 5 requests/s; the first rollback, or the verdict before full."""
    rng, state = np.random.default_rng(2), GateState()
    for number in range(30):
        share = (5.0, 25.0, 50.0)[number // 10]
        n = int(rng.binomial(150, share / 100))
        arms = {"control": _binary(150 - n, control, rng), "canary": _binary(n, canary, rng)}
        state = observe(state, Bucket(id=number, share=share, **arms), settings)
        judgement = judge(state, settings, step_end=number % 10 == 9, before_full=share == 50)
        if judgement.verdict == "unhealthy":
            break
    return judgement


def _reading(judgement: Judgement, metric: str) -> GuardrailReading:
    return next(reading for reading in judgement.guardrails if reading.metric == metric)


def test_before_any_request() -> None:
    judgement = judge(GateState(), DEFAULTS, step_end=False)
    assert judgement.verdict == "continue"
    assert judgement.combined == 1
    assert len(judgement.missing) == 5
    assert judge(GateState(), DEFAULTS, step_end=True).verdict == "inconclusive"


def test_equal_arms_go_on_and_pass_every_step() -> None:
    state = _seen([5.0] * 10)
    assert judge(state, DEFAULTS, step_end=False).verdict == "continue"
    assert judge(state, DEFAULTS, step_end=True).verdict == "healthy"
    state = _seen([5.0] * 10 + [25.0] * 10 + [50.0] * 10)
    judgement = judge(state, DEFAULTS, step_end=True, before_full=True)
    assert judgement.verdict == "healthy"
    assert not judgement.triggers
    assert all(proof >= 10 for proof in judgement.proof.values())


@pytest.mark.parametrize(
    ("canary", "key", "metric", "margin"),
    [
        (Arm(errors=10), "errors", "errors.rate", 1.25),
        (Arm(slowest_tenth=2.5), "tail", "latency.p95", 1.10),
        (Arm(latency=1.4), "latency", "latency.avg", 1.05),
        (Arm(cost=1.5), "cost", "cost.avg", 1.05),
    ],
)
def test_harm_is_rolled_back_with_the_numbers_that_say_why(
    canary: Arm, key: str, metric: str, margin: float
) -> None:
    judgement = judge(_seen([25.0] * 10, canary), DEFAULTS, step_end=False)
    assert judgement.verdict == "unhealthy"
    assert judgement.combined >= 20
    assert judgement.evidence[key] == max(judgement.evidence.values())
    trigger = next(trigger for trigger in judgement.triggers if trigger.metric == metric)
    reading = _reading(judgement, metric)
    assert reading.control is not None
    assert reading.low is not None
    assert reading.low > 0
    assert trigger.threshold == pytest.approx(margin * reading.control)
    assert trigger.actual == reading.canary
    assert trigger.actual > trigger.threshold
    assert metric in judgement.reason


def test_lost_quality_is_rolled_back() -> None:
    judgement = judge(_seen([25.0] * 10, Arm(quality=-8)), DEFAULTS, step_end=True)
    assert judgement.verdict == "unhealthy"
    reading = _reading(judgement, "quality.avg")
    assert reading.control is not None
    assert reading.high is not None
    assert reading.high < 0
    assert judgement.triggers[0].threshold == pytest.approx(reading.control - 1)


def test_an_incident_that_both_arms_share_under_unlike_shares_is_nobodys_fault() -> None:
    # The bad time falls into the step with the larger share, so that pooled over steps the canary's error
    # rate is three times control's.
    now = [BASE] * 10 + [Arm(errors=20, latency=2, cost=2, quality=-20)] * 10
    state = _seen([5.0] * 10 + [50.0] * 10, now=now)
    judgement = judge(state, DEFAULTS, step_end=True)
    rates = {arm: getattr(state.errors.pair, arm).mean for arm in ("control", "canary")}
    assert rates["canary"] > 2 * rates["control"]
    assert judgement.verdict == "healthy"
    assert judgement.combined < 1
    quality, tail = _reading(judgement, "quality.avg"), _reading(judgement, "latency.p95")
    assert quality.difference == pytest.approx(0, abs=1)
    assert tail.canary == pytest.approx(tail.control, rel=0.1)


def test_few_requests_are_inconclusive_however_good() -> None:
    rng, state = np.random.default_rng(3), GateState()
    for number in range(10):
        arms = {"control": _binary(100, 0.9, rng), "canary": _binary(4, 0.9, rng)}
        state = observe(state, Bucket(id=number, share=5.0, **arms), DEFAULTS)
    judgement = judge(state, DEFAULTS, step_end=True, extension=3)
    assert judgement.verdict == "inconclusive"
    assert "40 requests, and 50 are needed" in judgement.reason


def test_signs_of_harm_extend_a_step_until_extensions_run_out() -> None:
    settings = DEFAULTS.model_copy(update={"alpha": 1e-6})
    state = _seen([25.0] * 4, Arm(cost=1.25), settings)
    suspect = judge(state, settings, step_end=True, extension=2, max_extensions=3)
    assert suspect.verdict == "inconclusive"
    assert "cost.avg" in suspect.reason
    assert judge(state, settings, step_end=True, extension=3, max_extensions=3).verdict == "healthy"
    assert judge(state, settings, step_end=False).verdict == "continue"


def test_full_exposure_needs_proof_where_a_step_does_not() -> None:
    state = _seen([5.0] * 4)
    assert judge(state, DEFAULTS, step_end=True).verdict == "healthy"
    judgement = judge(state, DEFAULTS, step_end=True, before_full=True, extension=3)
    assert judgement.verdict == "inconclusive"
    assert "not ruled out" in judgement.reason
    assert "errors.rate x2.5" in judgement.reason


def test_few_errors_prove_themselves_harmless_without_a_ratio() -> None:
    rng, state = np.random.default_rng(4), GateState()
    for number in range(10):
        arms = {"control": _binary(30, 0.9, rng), "canary": _binary(30, 0.9, rng)}
        state = observe(state, Bucket(id=number, share=50.0, **arms), DEFAULTS)
    # Neither arm failed once, so that only the absolute rate can be proved.
    assert judge(state, DEFAULTS, step_end=True).proof["errors"] >= 10


def test_a_difference_below_half_a_point_is_no_harm() -> None:
    def state(canary_errors: int) -> GateState:
        return observe(
            GateState(),
            Bucket(
                id=1,
                share=50.0,
                control=ArmBucket(n=100_000, errors=100),
                canary=ArmBucket(n=100_000, errors=canary_errors),
            ),
            DEFAULTS,
        )

    assert judge(state(590), DEFAULTS, step_end=False).evidence["errors"] <= 1
    assert judge(state(610), DEFAULTS, step_end=False).verdict == "unhealthy"


def test_what_was_not_measured_is_left_out_and_said() -> None:
    rng, state = np.random.default_rng(5), GateState()
    for number in range(10):
        arms = {
            "control": ArmBucket(n=300, errors=3, latency_ms=rng.lognormal(6, 0.8, 297).tolist()),
            "canary": ArmBucket(
                n=300, errors=60, latency_ms=rng.lognormal(6, 0.8, 240).tolist(), cost_usd=[1.0]
            ),
        }
        state = observe(state, Bucket(id=number, share=50.0, **arms), DEFAULTS)
    judgement = judge(state, DEFAULTS, step_end=False)
    assert judgement.missing == ["cost.avg", "quality.avg"]
    assert "cost.avg, quality.avg" in judgement.reason
    weights = {"errors": 0.30, "tail": 0.20, "latency": 0.15}
    expected = sum(weight * judgement.evidence[key] for key, weight in weights.items()) / 0.65
    assert judgement.combined == pytest.approx(expected)


def test_a_guardrail_switched_off_neither_counts_nor_is_missed() -> None:
    settings = _policy(guardrails=[{"metric": "cost.avg", "enabled": False}])
    judgement = judge(_seen([25.0] * 10, Arm(cost=3), settings), settings, step_end=True)
    assert judgement.verdict == "healthy"
    assert "cost" not in judgement.evidence
    assert not judgement.missing


def test_a_new_model_without_any_score_needs_a_person() -> None:
    rng, state = np.random.default_rng(6), GateState()
    unscored = GateState()
    for number in range(20):
        arms = {"control": _binary(300, 0.9, rng), "canary": _binary(300, 0.9, rng)}
        state = observe(state, Bucket(id=number, share=50.0, **arms), DEFAULTS)
        plain = {name: arm.model_copy(update={"quality": []}) for name, arm in arms.items()}
        unscored = observe(unscored, Bucket(id=number, share=50.0, **plain), DEFAULTS)
    changed = {"step_end": True, "model_changed": True}
    judgement = judge(unscored, DEFAULTS, before_full=True, **changed)
    assert judgement.verdict == "healthy"
    assert judgement.needs_approval
    assert "person" in judgement.reason
    assert not judge(unscored, DEFAULTS, before_full=False, **changed).needs_approval
    assert not judge(unscored, DEFAULTS, step_end=True, before_full=True).needs_approval
    assert not judge(state, DEFAULTS, before_full=True, **changed).needs_approval


def test_a_split_against_the_share_ends_no_step_and_rolls_nothing_back() -> None:
    rng, state = np.random.default_rng(7), GateState()
    for number in range(10):
        arms = {"control": _binary(450, 0.9, rng), "canary": _binary(50, 0.9, rng)}
        state = observe(state, Bucket(id=number, share=50.0, **arms), DEFAULTS)
    for step_end, verdict in ((False, "continue"), (True, "inconclusive")):
        judgement = judge(state, DEFAULTS, step_end=step_end, extension=3)
        assert judgement.verdict == verdict
        assert "10 % of 5000 requests at a share of 50 %" in judgement.reason
        assert judgement.mismatch >= 1000


class TestTrades:
    """A floor or ceiling takes control's place."""

    def test_within_the_floor_a_worse_model_is_adopted(self) -> None:
        floor = [{"type": "hard", "metric": "quality.avg", "min": 55}]
        judgement = _binary_rollout(_policy(constraints=floor), control=0.86, canary=0.64)
        assert judgement.verdict == "healthy"
        assert judgement.proof["quality"] >= 10

    @pytest.mark.parametrize("policy", [{"guardrails": [{"metric": "quality.avg", "floor": 75}]}, {}])
    def test_below_the_floor_or_without_one_it_is_rolled_back(self, policy: dict[str, object]) -> None:
        judgement = _binary_rollout(_policy(**policy), control=0.86, canary=0.64)
        assert judgement.verdict == "unhealthy"
        assert [trigger.metric for trigger in judgement.triggers] == ["quality.avg"]
        if policy:
            assert judgement.triggers[0].threshold == 75
            assert "floor 75" in judgement.reason

    @pytest.mark.parametrize(
        ("metric", "ceiling", "fine", "harmful"),
        [
            ("errors.rate", 0.03, Arm(errors=2), Arm(errors=8)),
            # The base has its p95 at 1864 ms, its mean at 689 ms and 0.0024 USD.
            ("latency.p95", 3200.0, Arm(slowest_tenth=1.5), Arm(slowest_tenth=3)),
            ("latency.avg", 900.0, Arm(latency=1.2), Arm(latency=1.6)),
            ("cost.avg", 0.004, Arm(cost=1.4), Arm(cost=2)),
        ],
    )
    def test_ceilings(self, metric: str, ceiling: float, fine: Arm, harmful: Arm) -> None:
        others = [
            {"metric": name, "enabled": False} for name in ("latency.p95", "latency.avg") if name != metric
        ]
        settings = _policy(guardrails=[{"metric": metric, "ceiling": ceiling}, *others])
        shares = [5.0] * 10 + [25.0] * 10 + [50.0] * 10
        passed = judge(_seen(shares, fine, settings), settings, step_end=True, before_full=True)
        assert passed.verdict == "healthy"
        failed = judge(_seen([25.0] * 10, harmful, settings), settings, step_end=False)
        assert failed.verdict == "unhealthy"
        trigger = next(trigger for trigger in failed.triggers if trigger.metric == metric)
        assert trigger.threshold == ceiling
        assert trigger.actual > ceiling
        assert f"{metric} " in failed.reason
        assert "ceiling" in failed.reason

    @pytest.mark.parametrize(
        ("key", "constraint"),
        [
            ("errors", {"metric": "errors.rate", "max": 0.01}),
            ("tail", {"metric": "latency.p95", "max": 1864}),
            ("latency", {"metric": "latency.avg", "max": 689}),
            ("cost", {"metric": "cost.avg", "max": 0.002394}),
            ("quality", {"metric": "quality.avg", "min": 79.8}),
        ],
    )
    def test_at_the_bound_itself_full_exposure_is_open(self, key: str, constraint: dict[str, object]) -> None:
        # What has to be ruled out is the bound worsened by the critical harm.
        settings = _policy(constraints=[{"type": "hard", **constraint}])
        state = _seen([5.0] * 10 + [25.0] * 10 + [50.0] * 10, settings=settings)
        judgement = judge(state, settings, step_end=True, before_full=True)
        assert judgement.verdict == "healthy"
        assert judgement.evidence[key] < 3
        assert judgement.proof[key] >= 10

    def test_what_is_not_traded_keeps_its_margin(self) -> None:
        settings = _policy(constraints=[{"type": "hard", "metric": "quality", "min": 55}])
        judgement = judge(_seen([25.0] * 10, Arm(cost=1.5, quality=-10), settings), settings, step_end=True)
        assert judgement.verdict == "unhealthy"
        assert [trigger.metric for trigger in judgement.triggers] == ["cost.avg"]


class TestWithoutControl:
    """An immediate change: floors and ceilings alone."""

    @staticmethod
    def _state(settings: GateSettings, good: float) -> GateState:
        rng, state = np.random.default_rng(8), GateState()
        for number in range(10):
            seen = Bucket(id=number, share=100.0, control=NOBODY, canary=_binary(60, good, rng))
            state = observe(state, seen, settings)
        return state

    def test_bounds_are_judged_and_the_rest_is_left_out(self) -> None:
        settings = _policy(
            guardrails=[{"metric": "quality.avg", "floor": 75}, {"metric": "latency.p95", "ceiling": 5000}]
        )
        judgement = judge(self._state(settings, 0.9), settings, step_end=True)
        assert judgement.verdict == "healthy"
        assert judgement.missing == ["errors.rate", "latency.avg", "cost.avg"]
        tail, quality = _reading(judgement, "latency.p95"), _reading(judgement, "quality.avg")
        assert (quality.control, quality.difference, quality.samples.canary) == (None, None, 600)
        # ln N(6, .5): p95 = exp(6 + 1.645 * .5).
        assert tail.canary == pytest.approx(918, rel=0.1)
        assert judge(self._state(settings, 0.6), settings, step_end=False).verdict == "unhealthy"

    def test_without_bounds_there_is_nothing_to_judge(self) -> None:
        judgement = judge(self._state(DEFAULTS, 0.1), DEFAULTS, step_end=True)
        assert judgement.verdict == "healthy"
        assert "nothing can be judged" in judgement.reason


def test_readings_recover_what_was_simulated() -> None:
    judgement = judge(_seen([50.0] * 20, Arm(latency=1.2, cost=1.3, quality=-5)), DEFAULTS, step_end=False)
    for metric, control, canary in (
        ("errors.rate", 0.01, 0.01),
        ("latency.p95", 1864, 1.2 * 1864),
        ("latency.avg", 689, 1.2 * 689),
        ("cost.avg", 0.002394, 1.3 * 0.002394),
        ("quality.avg", 79.76, 74.92),
    ):
        reading = _reading(judgement, metric)
        assert reading.control == pytest.approx(control, rel=0.5 if metric == "errors.rate" else 0.06)
        assert reading.canary == pytest.approx(canary, rel=0.5 if metric == "errors.rate" else 0.06)
        assert reading.canary is not None
        assert reading.control is not None
        assert reading.difference == pytest.approx(reading.canary - reading.control)
        assert reading.low is not None
        assert reading.high is not None
        assert reading.low < canary - control < reading.high
