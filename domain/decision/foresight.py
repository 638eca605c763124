"""What the strategy's own beliefs say of a configuration that it did not choose itself."""

from dataclasses import dataclass

from domain.config import LLMConfig
from domain.decision.bounds import PER_REQUEST
from domain.decision.candidates import Candidates
from domain.decision.pooling import pool
from domain.decision.priors import Priors
from domain.decision.problem import DecisionProblem
from domain.decision.responses import RESPONSES
from domain.decision.weighing import weigh
from domain.plan import Prediction


@dataclass(frozen=True, slots=True)
class Foresight:
    """A configuration's predictions and improvements by metric, its expected `gain` in utility against the
    incumbent, and the probability that it beats it within the hard constraints.
    """

    predictions: dict[str, Prediction]
    improvement: dict[str, float]
    gain: float
    confidence: float


def foresee(problem: DecisionProblem, config: LLMConfig) -> Foresight | None:
    """What is believed of a configuration; None where nothing can be.

    That is where the incumbent was not observed, an objective's metric is unknown of it or is none that a
    configuration decides, or the configuration's cost, which the policy asks about, has no known price.
    """
    pooled = pool(problem.history, problem.incumbent, problem.now)
    if not pooled or not pooled[0].incumbent:
        return None
    metrics = {PER_REQUEST.get(objective.metric, objective.metric) for objective in problem.objectives}
    if not metrics <= RESPONSES.keys() or metrics - {"quality.avg"} - pooled[0].metrics.keys():
        return None
    priors = Priors(pooled, problem.search_space, problem.now)
    weighing = weigh(problem, pooled, Candidates([config], []), priors)
    if not weighing.configs:
        return None
    appraisal = weighing.appraisal
    return Foresight(
        predictions=weighing.predictions(0),
        improvement=weighing.improvement(0),
        gain=float(appraisal.gain[0]),
        confidence=min(max(float(appraisal.better[0] * appraisal.feasibility[0]), 0.0), 1.0),
    )
