"""What each candidate is worth: utility against the incumbent, feasibility, expected improvement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from domain.decision.bounds import (
    KEEPING_FEASIBILITY,
    LEAST_FEASIBILITY,
    LEAST_ODDS_OF_A_GUESS,
    LEAST_ODDS_OF_A_RETRY,
    PER_REQUEST,
    Bound,
    soft_weight,
)
from domain.decision.posterior import Array, Belief
from domain.decision.responses import RESPONSES
from domain.policy import Objective

SOFT_PENALTY = 0.1
"""Utility that the certain breach of a soft constraint of weight 1 costs."""

BREACH_COST = 1.0
"""Utility that the certain breach of a hard constraint costs: what serves counts as so much less."""

AS_GOOD = 0.02
"""The fraction by which one score may lie below another and count as equal to it."""

AS_LIKELY = 0.5
"""The part of a feasibility at which another counts as about as high."""

_SURE = 1e-12

_Z_KEEPING = float(ndtri(KEEPING_FEASIBILITY))

Mask = NDArray[np.bool_]


LEAST_PROMISE = 0.004
"""What a canary has to promise."""

KEPT_LATER = 0.3
"""What a candidate counts that one canary cannot show to be within the bounds, of one that it surely can."""


@dataclass(frozen=True, slots=True)
class Appraisal:
    """Per candidate: utility against the incumbent (`gain`, `gain_sd`), `feasibility`, `better` (the
    probability of a gain), `ei`, and `keeps`: whether the predicted means keep every hard bound.

    `by_bound` is the probability that each hard bound is kept, bounds in rows; `keepable` that after one
    canary each is known to be kept, surely enough to promote; `baseline` what the incumbent counts as.
    """

    gain: Array
    gain_sd: Array
    feasibility: Array
    better: Array
    ei: Array
    keeps: Mask
    by_bound: Array
    keepable: Array
    baseline: float = 0.0

    @property
    def promise(self) -> Array:
        """What is to be gained by each candidate: expected improvement times feasibility."""
        return self.ei * self.feasibility

    @property
    def score(self) -> Array:
        """What a canary of each candidate is worth: of two that promise the same, more where it can show that
        the bounds are kept than so near to one of them that it takes several."""
        return self.promise * (KEPT_LATER + (1 - KEPT_LATER) * self.keepable)

    @property
    def worth_keeping(self) -> Array:
        """The gain on what serves, less what a breach would cost by its odds."""
        return self.gain - self.baseline - BREACH_COST * (1 - self.feasibility)


def objective_weights(objectives: Sequence[Objective]) -> dict[str, float]:
    """Utility per unit of each response's change, weights normalised to 1; negative where less is better."""
    whole = sum(objective.weight for objective in objectives)
    weights: dict[str, float] = {}
    for objective in objectives:
        metric = PER_REQUEST.get(objective.metric, objective.metric)
        sign = 1.0 if objective.goal == "maximize" else -1.0
        weights[metric] = weights.get(metric, 0.0) + sign * RESPONSES[metric].worth * objective.weight / whole
    return weights


def appraise(
    beliefs: Mapping[str, Belief],
    weights: Mapping[str, float],
    bounds: Sequence[Bound],
    *,
    penalty: Array | float = 0.0,
    pareto: bool = False,
    noise: Mapping[str, float] | None = None,
    best: float | None = None,
) -> Appraisal:
    """Appraises every candidate; `bounds` hard and soft, `penalty` what other soft constraints cost.

    `noise` is the error variance that a canary's measurement of each response will have, those of the
    objectives and of the hard bounds. A canary improves nothing but by what it shows: `ei` is reckoned with
    the spread that the posterior mean will have once it was seen, sd² / sqrt(sd² + noise) (the knowledge
    gradient of an independent alternative: Frazier, Powell & Dayanik 2008, eq. 5 and 16), and so is
    `keepable`. What is known well already is thus not measured again, nor what lies so near to a bound that
    another canary will hardly tell on which side. Without `noise` both are those of an exact measurement.
    `ei` is improvement on `best`, the gain of what could be kept already, where it is above the incumbent's.

    Utility is linear in the responses, so its mean and variance are exact; responses are independent of each
    other. In `pareto` mode no objective is traded for another: that none gets worse counts as feasibility.
    """
    size = next(iter(beliefs.values())).mean.size
    gain, variance, error = np.zeros(size) - penalty, np.zeros(size), 0.0
    for metric, weight in weights.items():
        gain += weight * beliefs[metric].change
        variance += (weight * beliefs[metric].change_sd) ** 2
        error += weight**2 * (noise or {}).get(metric, 0.0)
    hard = [bound for bound in bounds if bound.hard]
    by_bound = np.array([_probability(b, beliefs[b.metric]) for b in hard]).reshape(len(hard), size)
    keeps = np.all([_kept(b, beliefs[b.metric]) for b in hard], axis=0) if hard else np.ones(size, dtype=bool)
    feasibility = by_bound.prod(axis=0)
    for bound in bounds:
        if not bound.hard:
            gain -= (
                SOFT_PENALTY
                * soft_weight(bound.constraint)
                * (1 - _probability(bound, beliefs[bound.metric]))
            )
    if pareto:
        for metric, weight in weights.items():
            loss = -np.sign(weight) * beliefs[metric].change - RESPONSES[metric].slack
            feasibility = feasibility * _cdf(-loss, beliefs[metric].change_sd)
            keeps = keeps & (loss <= 0)
    errors = [0.0 if noise is None else noise[bound.metric] for bound in hard]
    keepable = [_keepable(b, beliefs[b.metric], error) for b, error in zip(hard, errors, strict=True)]
    baseline = 0.0 if all(_incumbent_kept(b, beliefs[b.metric]) for b in hard) else -BREACH_COST
    sd = np.sqrt(variance)
    learnt = variance / np.sqrt(np.maximum(variance + error, _SURE**2))
    return Appraisal(
        gain=gain,
        gain_sd=sd,
        feasibility=feasibility,
        better=_cdf(gain - baseline, sd),
        ei=expected_improvement(gain, learnt, baseline if best is None else max(baseline, best)),
        keeps=keeps,
        by_bound=by_bound,
        keepable=np.array(keepable).reshape(len(hard), size).prod(axis=0),
        baseline=baseline,
    )


def expected_improvement(mean: Array, sd: Array, best: float) -> Array:
    """E[max(0, X - best)] for normal X (Jones, Schonlau & Welch 1998, eq. 15)."""
    margin = mean - best
    z = margin / np.maximum(sd, _SURE)
    return np.where(
        sd > _SURE, margin * ndtr(z) + sd * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), np.maximum(margin, 0.0)
    )


def may_be_tried(
    appraisal: Appraisal,
    models: Sequence[str],
    requests: Mapping[str, int],
    closeness: Array,
    *,
    by_odds: bool = True,
) -> Mask:
    """Which candidates may be tried, given the model of each and how many `requests` of it were observed.

    Those whose predicted means keep every hard bound may, and with `by_odds` so may those that keep each
    bound well enough likely: a canary may fall short by chance. Of a model that never was observed, what is
    predicted goes by its price or public score: there it is enough that each bound may be kept, and only one
    candidate counts, so that what the canary shows is the model's own: of those that are about as likely as
    any of it to keep them all the nearest to the incumbent's settings.
    """
    seen = np.array([requests.get(model, 0) for model in models])
    likely = appraisal.feasibility >= LEAST_FEASIBILITY
    first = again = likely & appraisal.keeps
    if by_odds:
        first = np.all(appraisal.by_bound >= LEAST_ODDS_OF_A_GUESS, axis=0)
        again = again | (likely & np.all(appraisal.by_bound >= LEAST_ODDS_OF_A_RETRY, axis=0))
    tries: Mask = again & (seen > 0)
    for model in {each for each, n in zip(models, seen, strict=True) if n == 0}:
        of_model = first & np.array([each == model for each in models], dtype=bool)
        if of_model.any():
            of_model &= appraisal.feasibility >= AS_LIKELY * appraisal.feasibility[of_model].max()
            tries[int(np.argmax(np.where(of_model, closeness, -np.inf)))] = True
    return tries


def choose(appraisal: Appraisal, closeness: Array, among: Mask) -> int | None:
    """The candidate most worth a canary, by its score; None if none promises enough.

    `among` are those that may be chosen. Of those whose score is as good as the best, the one of the greatest
    `closeness` to the incumbent's settings: what brings nothing is not changed.
    """
    score = appraisal.score
    eligible = among & (appraisal.promise >= LEAST_PROMISE)
    if not eligible.any():
        return None
    as_good = eligible & (score >= (1 - AS_GOOD) * score[eligible].max())
    return int(np.argmax(np.where(as_good, closeness, -np.inf)))


def non_dominated(gains: Array) -> Mask:
    """Which rows of `gains` (candidates x objectives, more is better) no other row beats in all."""
    front = np.ones(len(gains), dtype=bool)
    for index, row in enumerate(gains):
        front[index] = not np.any(np.all(gains >= row, axis=1) & np.any(gains > row, axis=1))
    return front


def _limits(bound: Bound) -> tuple[float, float]:
    response = RESPONSES[bound.metric]
    low = -np.inf if bound.low is None else response.modelled_value(bound.low)
    high = np.inf if bound.high is None else response.modelled_value(bound.high)
    return low, high


def _probability(bound: Bound, belief: Belief) -> Array:
    low, high = _limits(bound)
    return np.clip(_cdf(high - belief.mean, belief.sd) - _cdf(low - belief.mean, belief.sd), 0.0, 1.0)


def _keepable(bound: Bound, belief: Belief, error: float) -> Array:
    """The probability that a measurement of this error variance leaves the mean so far within the bound that
    it is kept with KEEPING_FEASIBILITY (a bound by itself)."""
    low, high = _limits(bound)
    left = belief.sd * np.sqrt(error / np.maximum(belief.sd**2 + error, _SURE**2))
    moves = np.sqrt(np.maximum(belief.sd**2 - left**2, 0.0))
    margin = _Z_KEEPING * left
    return np.clip(
        _cdf(high - margin - belief.mean, moves) - _cdf(low + margin - belief.mean, moves), 0.0, 1.0
    )


def _kept(bound: Bound, belief: Belief) -> Array:
    response = RESPONSES[bound.metric]
    return np.array([bound.keeps(response.natural(mean)) for mean in belief.mean])


def _incumbent_kept(bound: Bound, belief: Belief) -> bool:
    return bound.keeps(RESPONSES[bound.metric].natural(belief.incumbent))


def _cdf(margin: Array, sd: Array) -> Array:
    """Normal CDF of margin / sd; with no spread, whether the margin is not negative."""
    return np.where(sd > _SURE, ndtr(margin / np.maximum(sd, _SURE)), (margin >= 0).astype(np.float64))
