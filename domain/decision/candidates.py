"""The configurations that are weighed: those observed, a grid over the search space, points between."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, exp, floor, log, log2

from domain.config import LLMConfig
from domain.decision.availability import unavailable
from domain.decision.constraints import allows_model, candidate_entry
from domain.decision.history import Observation
from domain.decision.pooling import PoolKey, pool_key
from domain.decision.problem import DecisionProblem, Rejection
from domain.decision.providers import max_temperature, takes_top_k
from domain.decision.wording import changes
from domain.policy import CandidateModel, IntRange, Range, SearchSpace
from domain.pricing import output_limit

TEMPERATURES = (0.0, 0.2, 0.4, 0.7, 1.0)
MOST_LIMITS = 20
"""How many values of maxTokens are weighed, a quarter octave apart where that reaches over the range: between
the floor on quality and the ceiling on latency there is often no more."""

TOP_KS = (10, 20, 40, 80)
MOST_TRIALS = 6
REJECTED_FOR_MS = 86_400_000
"""How long the gate's verdict alone keeps a configuration out; after that its measurements speak."""

_SOBOL_POWER = 6


@dataclass(frozen=True, slots=True)
class Candidates:
    """What may be proposed, and in words what was left out and why."""

    configs: list[LLMConfig]
    left_out: list[str]


def candidates(problem: DecisionProblem, pooled: Sequence[Observation]) -> Candidates:
    """Every configuration that the search space and the hard constraints on models let be proposed.

    topK is varied where the provider takes it and the search space has a range for it, by itself or at the
    points between. A model that cannot be called is left out. What belongs to a provider or
    a model alone (`parameters`, `modelVersion`) is dropped when it changes.
    """
    models, gone = _models(problem), unavailable(problem)
    allowed = [model for model in _allowed(problem) if model.key not in gone]
    recent = [r for r in problem.rejections if problem.now - r.at < REJECTED_FOR_MS]
    rejected = {pool_key(r.config): r for r in recent}
    often = {pool_key(o.config) for o in pooled if o.trials >= MOST_TRIALS}
    found: dict[PoolKey, LLMConfig] = {}
    for config in _all(problem, allowed, pooled):
        if _within(config, problem):
            found.setdefault(pool_key(config), config)
    found.pop(pool_key(problem.incumbent), None)
    not_allowed = [m.key for m in models if m not in allowed and m.key not in gone]
    missing = [f"{m.key} is left out: {gone[m.key]}" for m in models if m.key in gone]
    taken_back = [rejection for key, rejection in rejected.items() if key in found]
    tried_often = sum(key in often for key in found)
    return Candidates(
        configs=[c for key, c in found.items() if key not in rejected and key not in often],
        left_out=missing + _left_out(problem.incumbent, not_allowed, taken_back, tried_often),
    )


def observed_candidates(problem: DecisionProblem, pooled: Sequence[Observation]) -> Candidates:
    """Every configuration that was observed and may be kept: within the search space and what the hard
    constraints allow, and never taken back by the gate."""
    rejected = {pool_key(rejection.config) for rejection in problem.rejections}
    gone = unavailable(problem)
    models = [model for model in _allowed(problem) if model.key not in gone]
    found = {pool_key(c): c for c in _observed(problem, models, pooled) if _within(c, problem)}
    found.pop(pool_key(problem.incumbent), None)
    seen = {pool_key(observation.config) for observation in pooled} - rejected
    return Candidates(configs=[config for key, config in found.items() if key in seen], left_out=[])


def _left_out(
    incumbent: LLMConfig, not_allowed: list[str], taken_back: list[Rejection], tried_often: int
) -> list[str]:
    reasons = []
    if not_allowed:
        reasons.append(f"the constraints do not allow {', '.join(not_allowed)}")
    for rejection in taken_back:
        change = changes(incumbent, rejection.config)
        reasons.append(f"{change} was taken back within the last day ({rejection.reason})")
    if tried_often:
        reasons.append(f"{tried_often} configurations have been tried {MOST_TRIALS} times or more")
    return reasons


def _all(
    problem: DecisionProblem, models: list[CandidateModel], pooled: Sequence[Observation]
) -> Iterable[LLMConfig]:
    """Observed ones first: of near-equal configurations that which was measured is meant."""
    yield from _observed(problem, models, pooled)
    space, incumbent = problem.search_space, problem.incumbent
    temperatures = _levels(space.temperature, incumbent.temperature, TEMPERATURES)
    limits = _levels(_as_range(space), incumbent.max_tokens, _limits(space.max_tokens))
    top_p = _clip(incumbent.top_p, space.top_p)
    for model, temperature, limit in product(models, temperatures, limits):
        yield derive(problem, model, temperature=temperature, top_p=top_p, max_tokens=round(limit))
    heat, length = (
        _clip(incumbent.temperature, space.temperature),
        _clip(incumbent.max_tokens, _as_range(space)),
    )
    for model, top_k in product(models, _top_ks(space, incumbent)):
        yield derive(problem, model, temperature=heat, top_p=top_p, max_tokens=round(length), top_k=top_k)
    yield from _between(problem, models)


def _observed(
    problem: DecisionProblem, models: list[CandidateModel], pooled: Sequence[Observation]
) -> Iterable[LLMConfig]:
    by_key = {model.key: model for model in models}
    for config in (observation.config for observation in pooled):
        if model := by_key.get(config.model_key):
            again = derive(
                problem,
                model,
                temperature=config.temperature,
                top_p=config.top_p,
                max_tokens=config.max_tokens,
                top_k=config.top_k,
            )
            yield again.model_copy(update={"model_version": config.model_version})


def derive(
    problem: DecisionProblem,
    model: CandidateModel,
    *,
    temperature: float,
    top_p: float,
    max_tokens: int,
    top_k: int | None = None,
) -> LLMConfig:
    """The incumbent with another model and other settings, within what model and provider take.

    Without `top_k` it is the incumbent's, brought into its range.
    """
    incumbent, limits = problem.incumbent, problem.search_space.top_k
    if top_k is None and incumbent.top_k is not None:
        top_k = incumbent.top_k if limits is None else min(max(incumbent.top_k, limits.min), limits.max)
    limit = output_limit(model.provider, model.model, model)
    same_model = model.key == incumbent.model_key
    return incumbent.model_copy(
        update={
            "provider": model.provider,
            "model": model.model,
            "model_version": incumbent.model_version if same_model else None,
            "parameters": incumbent.parameters if model.provider == incumbent.provider else None,
            "temperature": min(temperature, max_temperature(model.provider)),
            "top_p": top_p,
            "top_k": top_k if takes_top_k(model.provider) else None,
            "max_tokens": max_tokens if limit is None else min(max_tokens, limit),
        }
    )


def _between(problem: DecisionProblem, models: list[CandidateModel]) -> Iterable[LLMConfig]:
    """64 points of a Sobol sequence over the models and the ranges given; none where there is no range."""
    space, incumbent = problem.search_space, problem.incumbent
    limits = _as_range(space)
    if not models or not any((space.temperature, space.top_p, limits, space.top_k)):
        return
    # A second's import, for the sake of one sequence: not before it is wanted.
    from scipy.stats import qmc

    for choice, temperature, top_p, tokens, top_k in (
        qmc.Sobol(5, scramble=False).random_base2(_SOBOL_POWER).tolist()
    ):
        yield derive(
            problem,
            models[int(choice * len(models))],
            temperature=_at(temperature, space.temperature, incumbent.temperature),
            top_p=_at(top_p, space.top_p, incumbent.top_p),
            max_tokens=round(_at(tokens, limits, incumbent.max_tokens, geometric=True)),
            top_k=None if space.top_k is None else _top_k_at(top_k, space.top_k),
        )


def _at(fraction: float, interval: Range | None, fixed: float, *, geometric: bool = False) -> float:
    """A point of an interval, to two decimals; `fixed` where it is not varied."""
    if interval is None:
        return fixed
    if geometric:
        point = interval.min * (interval.max / interval.min) ** fraction
    else:
        point = interval.min + (interval.max - interval.min) * fraction
    return _clip(round(point, 2), interval)


def _limits(interval: IntRange | None) -> list[float]:
    """Powers of two within an interval, and of those between them as many as may be."""
    if interval is None:
        return []
    low, high = log2(interval.min), log2(interval.max)
    for parts in (4, 2, 1):
        found = [2 ** (step / parts) for step in range(ceil(parts * low), floor(parts * high) + 1)]
        if len(found) <= MOST_LIMITS:
            break
    return found


def _top_k_at(fraction: float, interval: IntRange) -> int:
    """A point of an interval, by its logarithm."""
    low, high = 1 + interval.min, 1 + interval.max
    return min(max(round(low * exp(fraction * log(high / low))) - 1, interval.min), interval.max)


def _top_ks(space: SearchSpace, incumbent: LLMConfig) -> list[int]:
    """The grid's values within the interval, else the interval's ends; none where it is not varied."""
    if space.top_k is None:
        return []
    inside = [value for value in TOP_KS if space.top_k.min <= value <= space.top_k.max]
    return [
        value for value in inside or sorted({space.top_k.min, space.top_k.max}) if value != incumbent.top_k
    ]


def _levels(interval: Range | None, present: float, grid: Sequence[float]) -> list[float]:
    """The present value and the grid's, where they lie within the interval; else the interval's ends."""
    if interval is None:
        return [present]
    inside = [value for value in (present, *grid) if interval.min <= value <= interval.max]
    return list(dict.fromkeys(inside)) or sorted({interval.min, interval.max})


def _within(config: LLMConfig, problem: DecisionProblem) -> bool:
    """Whether a configuration is in every range, and as the present one where there is none."""
    space, now = problem.search_space, problem.incumbent
    entry = candidate_entry(space, config)
    limit = output_limit(config.provider, config.model, entry)
    return (
        _in(space.temperature, config.temperature, now.temperature, max_temperature(config.provider))
        and _in(space.top_p, config.top_p, now.top_p)
        and _in(_as_range(space), config.max_tokens, now.max_tokens, limit)
        and _top_k_within(config, problem)
    )


def _top_k_within(config: LLMConfig, problem: DecisionProblem) -> bool:
    """Whether topK is in its range, or as at present; a provider that takes none has none."""
    limits, present = problem.search_space.top_k, problem.incumbent.top_k
    if config.top_k is None:
        return present is None or not takes_top_k(config.provider)
    return config.top_k == present if limits is None else limits.min <= config.top_k <= limits.max


def _in(interval: Range | None, value: float, present: float, limit: float | None = None) -> bool:
    if limit is not None and value > limit:
        return False
    if interval is None:
        return value == (present if limit is None else min(present, limit))
    return interval.min <= value <= interval.max


def _clip(value: float, interval: Range | None) -> float:
    return value if interval is None else min(max(value, interval.min), interval.max)


def _as_range(space: SearchSpace) -> Range | None:
    limits = space.max_tokens
    return None if limits is None else Range(min=limits.min, max=limits.max)


def _models(problem: DecisionProblem) -> list[CandidateModel]:
    return problem.search_space.models or [_present(problem.incumbent)]


def _allowed(problem: DecisionProblem) -> list[CandidateModel]:
    """The models that every hard constraint allows."""
    hard = [constraint for constraint in problem.constraints if constraint.type == "hard"]
    return [m for m in _models(problem) if all(allows_model(c, m.provider, m.model) for c in hard)]


def _present(config: LLMConfig) -> CandidateModel:
    return CandidateModel(provider=config.provider, model=config.model)
