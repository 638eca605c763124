"""The structured-prior strategy: expectations first, measurements on top, a loose gate to try."""

from collections.abc import Sequence

import numpy as np

from domain.decision import explain
from domain.decision.acquisition import LEAST_PROMISE, choose, non_dominated
from domain.decision.candidates import Candidates, candidates
from domain.decision.priors import Priors
from domain.decision.problem import DecisionProblem, Skip, Strategy
from domain.decision.readiness import too_little
from domain.decision.recommend import pooled_history, promotable
from domain.decision.weighing import Weighing, objective_gains, weigh
from domain.plan import Alternative, OptimizationPlan

MOST_ALTERNATIVES = 3


class StructuredPriorStrategy(Strategy):
    """Gaussian processes with structured priors over every configuration of the search space.

    A canary is dear, so what is known beforehand (prices, token counts, public scores) sets the expectation,
    and measurements move it. Proposed is the candidate of the highest expected improvement times
    feasibility among those that are likely enough to keep every hard constraint; among equals, that which
    changes least. Of a model never tried that nearest to the present settings alone counts. In `pareto` mode
    the predicted means must keep them, and a candidate must besides be predicted to make no objective worse.
    """

    def propose(self, problem: DecisionProblem) -> OptimizationPlan | Skip:
        pooled = pooled_history(problem)
        if reason := too_little(problem, pooled):
            return reason
        found = candidates(problem, pooled)
        if not found.configs:
            return _no_candidate(found)
        priors = Priors(pooled, problem.search_space, problem.now)
        best = promotable(problem, pooled, priors) if problem.adoptable else None
        weighing = weigh(problem, pooled, found, priors, None if best is None else best.gain)
        if not weighing.configs:
            return _nothing_known(problem, found, priors)
        known = None if best is None else weighing.index_of(best.config)
        others = weighing.tries & (np.arange(len(weighing.configs)) != known)
        chosen = choose(weighing.appraisal, weighing.closeness, others)
        chosen = known if chosen is None else chosen
        return explain.nothing_found(weighing) if chosen is None else _plan(weighing, chosen)


def _no_candidate(found: Candidates) -> Skip:
    alone = "the search space holds the present configuration alone: name models or ranges in it"
    return Skip(reasoning=f"There is no configuration to try: {'; '.join(found.left_out or [alone])}.")


def _nothing_known(problem: DecisionProblem, found: Candidates, priors: Priors) -> Skip:
    unpriced = sorted({c.model_key for c in found.configs if priors.prices(c) is None})
    if unpriced:
        return Skip(
            reasoning=f"No price is known for {', '.join(unpriced)}, so their cost cannot be predicted: give "
            f"pricePerMTokIn and pricePerMTokOut in the search space."
        )
    return Skip(
        reasoning=f"The token counts of {problem.service} are not known, so no cost can be predicted."
    )


def _plan(weighing: Weighing, chosen: int) -> OptimizationPlan:
    appraisal = weighing.appraisal
    confidence = float(appraisal.better[chosen] * appraisal.feasibility[chosen])
    return OptimizationPlan(
        service=weighing.problem.service,
        recommended_config=weighing.configs[chosen],
        expected_improvement=weighing.improvement(chosen),
        predictions=weighing.predictions(chosen),
        confidence=min(max(confidence, 0.0), 1.0),
        rationale=explain.rationale(weighing, chosen),
        alternatives=_alternatives(weighing, chosen),
        source="model",
    )


def _alternatives(weighing: Weighing, chosen: int) -> list[Alternative]:
    """Up to three worth trying too that nothing beats in every objective: other models first."""
    score = weighing.appraisal.score
    promising = weighing.appraisal.promise >= LEAST_PROMISE
    worth = np.flatnonzero((weighing.appraisal.keeps | weighing.tries) & promising)
    front = worth[non_dominated(objective_gains(weighing.beliefs, weighing.weights)[worth])]
    ranked = [int(index) for index in front[np.argsort(-score[front], kind="stable")] if index != chosen]
    return [
        Alternative(
            config=weighing.configs[index],
            score=float(score[index]),
            predictions=weighing.predictions(index),
            tradeoffs=explain.tradeoffs(weighing, index, chosen),
            on_pareto_front=True,
        )
        for index in _other_models_first(weighing, ranked, chosen)[:MOST_ALTERNATIVES]
    ]


def _other_models_first(weighing: Weighing, ranked: Sequence[int], chosen: int) -> list[int]:
    seen, firsts = {weighing.configs[chosen].model_key}, []
    for index in ranked:
        if weighing.configs[index].model_key not in seen:
            seen.add(weighing.configs[index].model_key)
            firsts.append(index)
    return [*firsts, *(index for index in ranked if index not in firsts)]
