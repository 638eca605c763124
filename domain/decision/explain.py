"""A decision in plain words, with the numbers."""

import numpy as np

from domain.config import LLMConfig
from domain.decision import wording
from domain.decision.acquisition import LEAST_PROMISE
from domain.decision.bounds import LEAST_FEASIBILITY, PER_REQUEST, Bound
from domain.decision.pooling import pool_key
from domain.decision.problem import Skip
from domain.decision.responses import RESPONSES, Z90
from domain.decision.weighing import Weighing
from domain.plan import Prediction

_BINDS_BELOW = 0.99


def rationale(weighing: Weighing, index: int) -> str:
    """Why a candidate is proposed: each metric's change, the odds, what binds, what it rests on."""
    config, appraisal = weighing.configs[index], weighing.appraisal
    metrics = "; ".join(
        f"{metric} {wording.value(metric, weighing.incumbent_value(metric))} -> "
        f"{_spread(metric, prediction)} ({_percent(weighing, metric, prediction)})"
        for metric, prediction in weighing.predictions(index).items()
    )
    gain = f"{appraisal.gain[index]:+.2f} ± {Z90 * appraisal.gain_sd[index]:.2f}"
    odds = f"that is a gain of {gain}, {100 * appraisal.better[index]:.0f} % likely to be above 0"
    sentences = [
        f"{_change(weighing, index)}.",
        f"Predicted, 90 % interval in brackets: {metrics}.",
        f"Weighed by the objectives {odds}{_breached_now(weighing)}.",
        _binding(weighing, index),
        _grounds(weighing, config),
        _widened(weighing),
    ]
    return " ".join(sentence for sentence in sentences if sentence) + _left_out(weighing)


def tradeoffs(weighing: Weighing, index: int, chosen: int) -> str:
    """An alternative against the recommendation, metric by metric."""
    parts = []
    mine, theirs = weighing.predictions(index), weighing.predictions(chosen)
    for metric in mine:
        if metric in weighing.weights or any(bound.metric == metric for bound in weighing.bounds):
            there = wording.value(metric, theirs[metric].mean)
            parts.append(f"{metric} {wording.value(metric, mine[metric].mean)} against {there}")
    likely = f"{100 * weighing.appraisal.feasibility[index]:.0f} % likely to keep the constraints"
    return f"{_change(weighing, index)}: {', '.join(parts)}; {likely}"


def nothing_found(weighing: Weighing) -> Skip:
    """Why no candidate passes: none is feasible, or none gains enough."""
    appraisal = weighing.appraisal
    if not weighing.tries.any():
        return Skip(reasoning=_infeasible(weighing))
    best = int(np.argmax(np.where(weighing.tries, appraisal.promise, -np.inf)))
    return Skip(
        reasoning=f"Of {len(weighing.configs)} configurations none is expected to gain enough: the best, "
        f"{_change(weighing, best)}, has an expected improvement of "
        f"{appraisal.promise[best]:.3f}, of which at least {LEAST_PROMISE:g} is asked "
        f"(gain {appraisal.gain[best]:+.3f} ± {Z90 * appraisal.gain_sd[best]:.3f}).{_left_out(weighing)}"
    )


def _infeasible(weighing: Weighing) -> str:
    appraisal = weighing.appraisal
    best = int(np.argmax(appraisal.feasibility + appraisal.keeps))
    shortfalls = [*_unkept_bounds(weighing, best), *_worsened(weighing, best)]
    asks = "keep every hard constraint"
    if weighing.problem.mode == "pareto":
        asks += " and make no objective worse"
    return (
        f"Of {len(weighing.configs)} configurations none is predicted to {asks}. The nearest, "
        f"{_change(weighing, best)}, falls short: {'; '.join(shortfalls)}.{_left_out(weighing)}"
    )


def _unkept_bounds(weighing: Weighing, index: int) -> list[str]:
    """The hard bounds that a mean is past, else those that are too unlikely, else all that bind."""
    probabilities = weighing.appraisal.by_bound[:, index]
    means = {metric: prediction.mean for metric, prediction in weighing.predictions(index).items()}
    past = [row for row, bound in enumerate(weighing.hard) if not bound.keeps(means[bound.metric])]
    rows = past or [row for row, p in enumerate(probabilities) if p < LEAST_FEASIBILITY]
    if not rows and weighing.problem.mode != "pareto":
        rows = [row for row, p in enumerate(probabilities) if p < _BINDS_BELOW]
    return [_unkept(weighing, index, row) for row in rows]


def _unkept(weighing: Weighing, index: int, row: int) -> str:
    bound = weighing.hard[row]
    spread = _spread(bound.metric, weighing.predictions(index)[bound.metric])
    odds = f"{100 * weighing.appraisal.by_bound[row, index]:.0f} % likely to be kept"
    return f"{_bound_text(bound)} is {odds}, {bound.metric} being predicted at {spread}"


def _worsened(weighing: Weighing, index: int) -> list[str]:
    """Objectives that a Pareto policy does not let get worse, and that do."""
    if weighing.problem.mode != "pareto":
        return []
    return [
        f"{metric} is predicted to go from {wording.value(metric, weighing.incumbent_value(metric))} to "
        f"{_spread(metric, prediction)}"
        for metric, prediction in weighing.predictions(index).items()
        if metric in weighing.weights and weighing.improvement(index)[metric] < 0
    ]


def _binding(weighing: Weighing, index: int) -> str:
    probabilities = weighing.appraisal.by_bound[:, index]
    if not probabilities.size or probabilities.min() >= _BINDS_BELOW:
        return "No constraint binds." if weighing.hard else ""
    bound = weighing.hard[int(np.argmin(probabilities))]
    kept = f"{_bound_text(bound)} binds: {100 * probabilities.min():.0f} % likely to be kept"
    if weighing.appraisal.keeps[index]:
        return f"{kept}."
    return f"{kept}, which the canary is to show: its gate has the same bound."


def _grounds(weighing: Weighing, config: LLMConfig) -> str:
    """What the prediction rests on."""
    tried = weighing.observed.get(pool_key(config))
    if tried:
        return f"It has been measured on {tried:,} requests."
    model_seen = any(key[0] == config.model_key for key in weighing.observed)
    if model_seen:
        return "Its model has been measured in other settings."
    scored = weighing.priors.scored
    ratio = weighing.priors.price_ratio(config)
    basis = "public scores" if scored else "list prices" if ratio is not None else "no price or public score"
    price = "" if ratio is None else f" ({ratio:.3g} times the present model's price)"
    unmeasured = "" if "quality.avg" in weighing.incumbent.metrics else ", of no quality ever measured here"
    return f"It has not been tried here; its quality is judged by {basis}{price}{unmeasured}."


def _widened(weighing: Weighing) -> str:
    """By how much intervals were widened, where past predictions proved too sure."""
    wider = [
        f"{metric} {weighing.problem.widening[metric]:.2g} times"
        for metric in weighing.beliefs
        if weighing.problem.widening.get(metric, 1.0) > 1
    ]
    return f"Widened, since past predictions proved too sure: {', '.join(wider)}." if wider else ""


def _breached_now(weighing: Weighing) -> str:
    breached = [b for b in weighing.hard if not b.keeps(weighing.incumbent_value(b.metric))]
    if not breached:
        return ""
    return f"; the present configuration breaches {' and '.join(_bound_text(b) for b in breached)}"


def _left_out(weighing: Weighing) -> str:
    notes = list(weighing.notes)
    if weighing.unpriced:
        notes.append(f"no price is known for {', '.join(weighing.unpriced)}")
    return f" Left out: {'; '.join(notes)}." if notes else ""


def _bound_text(bound: Bound) -> str:
    return wording.constraint_text(bound.constraint)


def _change(weighing: Weighing, index: int) -> str:
    return wording.changes(weighing.problem.incumbent, weighing.configs[index])


def _spread(metric: str, prediction: Prediction) -> str:
    low, high = wording.value(metric, prediction.low), wording.value(metric, prediction.high)
    return f"{wording.value(metric, prediction.mean)} [{low} to {high}]"


def _percent(weighing: Weighing, metric: str, prediction: Prediction) -> str:
    present = weighing.incumbent_value(metric)
    change = (prediction.mean - present) / present if present else 0.0
    return f"{round(100 * change):+d} %"


def unpredictable(metrics: list[str]) -> Skip:
    """Objectives that no configuration decides."""
    known = ", ".join((*RESPONSES, *PER_REQUEST))
    return Skip(
        reasoning=f"The effect of a configuration on {', '.join(metrics)} cannot be predicted; objectives "
        f"may be over {known}."
    )
