"""The door to deciding: what holds for every strategy."""

from domain.decision.constraints import ValidationContext, validate_config
from domain.decision.pooling import tokens_of
from domain.decision.problem import DecisionProblem, Skip, Strategy
from domain.decision.readiness import ruled_out
from domain.plan import OptimizationPlan, ValidationResult


def decide(problem: DecisionProblem, strategy: Strategy) -> OptimizationPlan | Skip:
    """A validated plan for one service, or a reasoned skip.

    Contradictory hard constraints and a running cooldown end in a skip before the strategy is asked; a plan
    that breaches a hard constraint never leaves here.
    """
    if reason := ruled_out(problem):
        return reason
    outcome = strategy.propose(problem)
    if isinstance(outcome, Skip):
        return outcome
    result = validate_plan(problem, outcome)
    if result.is_valid:
        return outcome
    return Skip(reasoning=f"The best plan found breaches hard constraints: {result.refusal}.")


def validate_plan(problem: DecisionProblem, plan: OptimizationPlan) -> ValidationResult:
    """A plan held against the constraints of its problem; the optimizer's own goes by the odds."""
    return validate_config(
        plan.recommended_config,
        constraints=problem.constraints,
        search_space=problem.search_space,
        predictions=plan.predictions,
        context=ValidationContext(
            now=problem.now,
            last_change_at=problem.last_change_at,
            traffic=problem.traffic,
            tokens=tokens_of(problem.history, problem.incumbent),
            by_odds=plan.source == "model",
        ),
    )
