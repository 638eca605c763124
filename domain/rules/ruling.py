"""A decision in which rules have a say: they go first and may decide alone, the optimizer's plan follows.

Rules that fire are gone through by priority. The first rollback, or the first change that keeps the hard
constraints, is what the rules want. The optimizer's own plan stands at priority 0, or at that of the highest
`experiment` that fired: what the rules want from above it is done without asking the optimizer; from beside
it the better of both by expected gain, the rule's where that cannot be told; from below it only where the
optimizer has no plan.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from domain.base import Message
from domain.conditions import ConfigChange, Experiment, ModelSwitch, RollBack, Rule
from domain.config import LLMConfig
from domain.decision import wording
from domain.decision.decide import decide, validate_plan
from domain.decision.foresight import Foresight, foresee
from domain.decision.problem import DecisionProblem, Skip, Strategy
from domain.plan import Alternative, OptimizationPlan
from domain.rules.changes import changed
from domain.rules.firing import Judged

MODEL_PRIORITY = 0
_UNTOLD = 0.5
"""The confidence where nothing can be predicted: neither way."""


class RuledBack(Message):
    """A rule wants the service to go back: to a version, or to the last that was known good."""

    rule: str
    to_version: str | None = None
    reasoning: str


@dataclass(frozen=True, slots=True)
class Ruling:
    """What came out. `rule` names the rule whose plan or rollback it is; `notes` say what else fired."""

    outcome: OptimizationPlan | Skip | RuledBack
    rule: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def reasoning(self) -> str:
        """The outcome's own reasons, and what else there is to say."""
        own = self.outcome.rationale if isinstance(self.outcome, OptimizationPlan) else self.outcome.reasoning
        return " ".join((own, *self.notes))


@dataclass(frozen=True, slots=True)
class _Proposal:
    rule: Rule
    plan: OptimizationPlan
    foresight: Foresight | None


def rule_on(problem: DecisionProblem, strategy: Strategy, judged: Sequence[Judged]) -> Ruling:
    """Decide for one service, given how its rules stand, higher priority first."""
    firing = [(s.subject, s.evaluation.words) for s in judged if s.fires and isinstance(s.subject, Rule)]
    notes = list(_held_back(judged))
    wanted = _wanted(problem, firing, notes)
    if isinstance(wanted, RuledBack):
        return Ruling(wanted, wanted.rule, tuple(notes))
    asked = [rule.priority for rule, _ in firing if isinstance(rule.action, Experiment)]
    own_priority = max([MODEL_PRIORITY, *asked])
    if wanted is not None and wanted.rule.priority > own_priority:
        return Ruling(wanted.plan, wanted.rule.id, tuple(notes))
    own = decide(problem, strategy)
    if wanted is None:
        return Ruling(own, None, tuple(notes))
    if isinstance(own, Skip):
        return Ruling(wanted.plan, wanted.rule.id, (*notes, f"The optimizer has no plan: {own.reasoning}"))
    return _best(problem, wanted, own, own_priority, notes)


def _held_back(judged: Sequence[Judged]) -> Iterator[str]:
    for stands in judged:
        if stands.evaluation.holds and stands.held_back and isinstance(stands.subject, Rule):
            yield f"Rule {stands.subject.id} holds but waits: {stands.held_back}."


def _wanted(
    problem: DecisionProblem, firing: Sequence[tuple[Rule, str]], notes: list[str]
) -> RuledBack | _Proposal | None:
    """What the first rule wants that can be had; why the ones before it cannot is noted."""
    for rule, words in firing:
        match rule.action:
            case RollBack(to_version=version):
                back = f"back to {version or 'the last version known good'}"
                return RuledBack(
                    rule=rule.id, to_version=version, reasoning=f"Rule {rule.id}, {back}: {words}."
                )
            case ConfigChange() | ModelSwitch():
                proposal = _proposal(problem, rule, rule.action, words)
                if isinstance(proposal, _Proposal):
                    return proposal
                notes.append(f"Rule {rule.id} fired ({words}) in vain: {proposal}.")
    return None


def _proposal(
    problem: DecisionProblem, rule: Rule, action: ConfigChange | ModelSwitch, words: str
) -> _Proposal | str:
    """The plan of a rule, or why there is none."""
    try:
        config = changed(problem, action)
    except ValidationError as error:
        return "; ".join(str(fault["msg"]) for fault in error.errors())
    if config == problem.incumbent:
        return "what it asks for is served already"
    for rejection in problem.rejections:
        if rejection.config == config:
            return f"the health gate took that back: {rejection.reason}"
    foresight = foresee(problem, config)
    change = wording.changes(problem.incumbent, config) or _other_changes(problem.incumbent, config)
    plan = rule_plan(
        problem, config, f"Rule {rule.id}: {words}. Hence {change}. {_foreseen(foresight)}", foresight
    )
    result = validate_plan(problem, plan)
    if not result.is_valid:
        return f"it would breach hard constraints: {result.refusal}"
    advice = [*(found.message for found in result.violations), *(result.recommendations or ())]
    if advice:
        plan = plan.model_copy(update={"rationale": f"{plan.rationale} Mind: {'; '.join(advice)}."})
    return _Proposal(rule, plan, foresight)


def rule_plan(
    problem: DecisionProblem, config: LLMConfig, rationale: str, foresight: Foresight | None
) -> OptimizationPlan:
    """The plan of a rule, with what is foreseen of its configuration, if anything can be."""
    return OptimizationPlan(
        service=problem.service,
        recommended_config=config,
        expected_improvement=foresight.improvement if foresight else {},
        predictions=foresight.predictions if foresight else {},
        confidence=foresight.confidence if foresight else _UNTOLD,
        rationale=rationale,
        alternatives=[],
        source="rule",
    )


def _other_changes(before: LLMConfig, after: LLMConfig) -> str:
    old, new = before.to_json(), after.to_json()
    named = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return f"another {', '.join(named)}"


def _foreseen(foresight: Foresight | None) -> str:
    if foresight is None:
        return "What it will do cannot be predicted from what was observed."
    told = "; ".join(
        f"{metric} {wording.value(metric, p.mean)} ({wording.value(metric, p.low)} to "
        f"{wording.value(metric, p.high)})"
        for metric, p in foresight.predictions.items()
    )
    return f"Predicted, 90 % interval in brackets: {told}."


def _best(
    problem: DecisionProblem, wanted: _Proposal, own: OptimizationPlan, own_priority: int, notes: list[str]
) -> Ruling:
    """Of two valid plans the better one; the other becomes its first alternative."""
    theirs, ours = wanted.foresight, foresee(problem, own.recommended_config)
    told = theirs is not None and ours is not None
    if wanted.rule.priority < own_priority:
        prefers_rule, why = False, f"its priority {wanted.rule.priority} is below {own_priority}"
    elif own.recommended_config == wanted.plan.recommended_config:
        prefers_rule, why = True, "the optimizer wants the same"
    elif theirs is None or ours is None:
        prefers_rule, why = True, "the gain of both cannot be told"
    else:
        prefers_rule = theirs.gain >= ours.gain
        why = f"expected gains are {theirs.gain:+.3f} of the rule's, {ours.gain:+.3f} of the optimizer's"
    winner, loser = (wanted.plan, own) if prefers_rule else (own, wanted.plan)
    score = (ours if prefers_rule else theirs) if told else None
    if winner.recommended_config != loser.recommended_config:
        winner = _with_alternative(winner, loser, score)
    whose = f"rule {wanted.rule.id}'s plan" if prefers_rule else "the optimizer's plan"
    other = "the optimizer's" if prefers_rule else f"rule {wanted.rule.id}'s"
    said = f"{whose[0].upper()}{whose[1:]} was preferred to {other}: {why}."
    return Ruling(winner, wanted.rule.id if prefers_rule else None, (*notes, said))


def _with_alternative(
    winner: OptimizationPlan, loser: OptimizationPlan, score: Foresight | None
) -> OptimizationPlan:
    alternative = Alternative(
        config=loser.recommended_config,
        score=score.gain if score else 0.0,
        predictions=loser.predictions,
        tradeoffs=loser.rationale,
        on_pareto_front=False,
    )
    return winner.model_copy(update={"alternatives": [alternative, *winner.alternatives]})
