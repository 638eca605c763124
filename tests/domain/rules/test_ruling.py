"""Decisions in which rules have a say: who goes first, who is asked, and which of two plans is taken."""

from typing import Any

import pytest

from domain.decision.foresight import foresee
from domain.decision.problem import DecisionProblem, Rejection, Skip
from domain.decision.strategy import StructuredPriorStrategy
from domain.plan import OptimizationPlan
from domain.policy import Constraint
from domain.rules.firing import Fired, judge_all
from domain.rules.ruling import RuledBack, Ruling, rule_on
from tests.domain.decision.scenarios import MIXTRAL, NOW, candidate, config, floor, problem
from tests.domain.rules.conditions import FAILING, metric, rule

WORDS = "errors.rate 0.1 > 0.05 over 5m"
CHEAP = {"type": "model_switch", "provider": MIXTRAL[0], "model": MIXTRAL[1]}
COOLER = {"type": "config_change", "set": {"temperature": 0.6}}


class NeverAsked(StructuredPriorStrategy):
    def propose(self, problem: DecisionProblem) -> OptimizationPlan | Skip:
        raise AssertionError("the optimizer was asked")


def ruled(of: DecisionProblem, *rules: Any, asked: bool = True, fired: Any = None) -> Ruling:
    strategy = StructuredPriorStrategy() if asked else NeverAsked()
    return rule_on(of, strategy, judge_all(rules, FAILING, fired or {}, NOW))


def plan(found: Ruling) -> OptimizationPlan:
    assert isinstance(found.outcome, OptimizationPlan)
    return found.outcome


def test_without_rules_it_is_the_optimizer_that_decides() -> None:
    found = ruled(problem())
    assert (plan(found).source, found.rule, found.notes) == ("model", None, ())


def test_a_rule_above_the_optimizer_decides_alone() -> None:
    found = ruled(problem(), rule(id="fallback", priority=1, action=CHEAP), asked=False)
    chosen = plan(found)
    assert (chosen.source, found.rule) == ("rule", "fallback")
    assert chosen.recommended_config == config(*MIXTRAL)
    assert chosen.rationale.startswith(
        f"Rule fallback: {WORDS}. Hence mistral/mixtral-8x7b-instruct-v0.1 in place of openai/gpt-4-1106"
    )
    assert "cost.avg $" in chosen.rationale


def test_its_predictions_are_those_of_the_same_beliefs() -> None:
    of = problem(constraints=[floor(55)])
    models = plan(ruled(of))
    assert models.recommended_config == config(*MIXTRAL)
    found = plan(ruled(of, rule(priority=1, action=CHEAP), asked=False))
    assert found.predictions == models.predictions
    assert found.expected_improvement == models.expected_improvement
    assert found.confidence == pytest.approx(models.confidence)


def test_beside_the_optimizer_the_better_plan_is_taken_and_the_other_is_an_alternative() -> None:
    of = problem()
    found = ruled(of, rule(id="cooler", action=COOLER))
    chosen = plan(found)
    assert (chosen.source, found.rule) == ("model", None)
    assert found.reasoning.startswith(chosen.rationale)
    cooler, models = foresee(of, config(temperature=0.6)), foresee(of, chosen.recommended_config)
    assert cooler is not None
    assert models is not None
    assert models.gain > cooler.gain
    assert found.notes[-1] == (
        "The optimizer's plan was preferred to rule cooler's: expected gains are "
        f"{cooler.gain:+.3f} of the rule's, {models.gain:+.3f} of the optimizer's."
    )
    assert chosen.alternatives[0].config == config(temperature=0.6)
    assert chosen.alternatives[0].score == cooler.gain


def test_a_rule_that_wants_the_same_has_it() -> None:
    found = ruled(problem(), rule(id="same", action=CHEAP))
    assert (plan(found).source, found.rule) == ("rule", "same")
    assert found.notes == (
        "Rule same's plan was preferred to the optimizer's: the optimizer wants the same.",
    )


def test_where_the_optimizer_has_no_plan_the_rule_has_its_way() -> None:
    found = ruled(problem(history=[]), rule(id="cooler", priority=-5, action=COOLER))
    chosen = plan(found)
    assert (chosen.source, chosen.predictions, chosen.confidence) == ("rule", {}, 0.5)
    assert "cannot be predicted" in chosen.rationale
    assert found.notes[-1].startswith("The optimizer has no plan: Nothing has been observed")


def test_below_the_optimizer_a_rule_waits_for_it() -> None:
    found = ruled(problem(), rule(id="cooler", priority=-1, action=COOLER))
    assert plan(found).source == "model"
    assert "its priority -1 is below 0" in found.notes[-1]


def test_an_experiment_asks_the_optimizer_at_its_own_priority() -> None:
    cooler = rule(id="cooler", priority=1, action=COOLER)
    assert plan(ruled(problem(), cooler, asked=False)).source == "rule"
    experiment = rule(id="try", priority=2, action={"type": "experiment"})
    assert plan(ruled(problem(), cooler, experiment)).source == "model"


def test_a_rollback_is_decided_before_anything_is_weighed() -> None:
    back = rule(id="back", action={"type": "rollback", "toVersion": "chat@1"})
    found = ruled(problem(), rule(id="cooler", action=COOLER), back, asked=False)
    assert found.outcome == RuledBack(
        rule="back", to_version="chat@1", reasoning=f"Rule back, back to chat@1: {WORDS}."
    )
    above = rule(id="cooler", priority=1, action=COOLER)
    assert plan(ruled(problem(), back, above, asked=False)).source == "rule"


@pytest.mark.parametrize(
    ("of", "action", "why"),
    [
        (problem(constraints=[floor(80)]), CHEAP, "it would breach hard constraints: quality.avg"),
        (
            problem(constraints=[Constraint(type="hard", models=["openai/gpt-4-1106-preview"])]),
            CHEAP,
            "it would breach hard constraints: mistral/",
        ),
        (
            problem(constraints=[Constraint(type="hard", cooldown_ms=60_000)], last_change_at=NOW - 1000),
            COOLER,
            "it would breach hard constraints: the cooldown of",
        ),
        (
            problem(),
            {"type": "config_change", "set": {"temperature": 0.7}},
            "what it asks for is served already",
        ),
        (
            problem(rejections=[Rejection(config=config(temperature=0.6), at=NOW - 1, reason="errors")]),
            COOLER,
            "the health gate took that back: errors",
        ),
    ],
)
def test_a_change_that_cannot_be_had_is_told_and_not_proposed(
    of: DecisionProblem, action: dict[str, Any], why: str
) -> None:
    found = ruled(of, rule(id="vain", priority=1, action=action))
    assert found.rule is None
    assert found.notes[0].startswith(f"Rule vain fired ({WORDS}) in vain: {why}")
    if isinstance(found.outcome, OptimizationPlan):
        assert found.outcome.source == "model"


def test_the_next_rule_is_tried_where_one_cannot_be_had() -> None:
    of = problem(constraints=[floor(80)])
    found = ruled(
        of, rule(id="a", priority=2, action=CHEAP), rule(id="b", priority=1, action=COOLER), asked=False
    )
    assert found.rule == "b"


def test_a_rule_that_waits_or_is_not_certain_has_no_say() -> None:
    waiting = rule(id="waits", priority=1, action=CHEAP)
    unsure = rule(metric("quality", "<", 50), id="unsure", priority=2, action=CHEAP)
    found = ruled(problem(), waiting, unsure, fired={"rule/waits": Fired(NOW - 1000, 1)})
    assert (plan(found).source, found.rule) == ("model", None)
    assert found.notes == ("Rule waits holds but waits: its cooldown has 3599 s left.",)


def test_with_another_model_what_belongs_to_the_old_one_goes() -> None:
    incumbent = config(top_k=40, model_version="v9", parameters={"seed": 1}, temperature=1.9)
    action = {"type": "config_change", "set": {"provider": MIXTRAL[0], "model": MIXTRAL[1], "maxTokens": 77}}
    of = problem(incumbent=incumbent, models=[candidate(MIXTRAL)])
    assert plan(ruled(of, rule(priority=1, action=action))).recommended_config == config(
        *MIXTRAL, temperature=1.5, max_tokens=77
    )


def test_a_field_may_be_taken_out() -> None:
    action = {"type": "config_change", "set": {"topK": None, "stopSequences": ["END"]}}
    found = plan(ruled(problem(incumbent=config(top_k=40)), rule(priority=1, action=action)))
    assert found.recommended_config == config(stop_sequences=["END"])
    assert "stopSequences" in found.rationale or "topK 40 -> none" in found.rationale
