"""History pooled by configuration: near-equal ones are one, and old measurements count for less."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import log2, sqrt

from domain.config import LLMConfig
from domain.decision.history import MetricEstimate, Observation, TokenUse
from domain.decision.providers import takes_top_k

PoolKey = tuple[str, str | None, int, int, int, int | None]

MAX_POOLED = 200
HALF_LIFE_MS = 7 * 86_400_000
"""The age at which a measurement counts half, its error variance twice."""

_MAX_HALVINGS = 40.0


def pool_key(config: LLMConfig) -> PoolKey:
    """Configurations of one key are one: temperature within .1, topP within .2, maxTokens a quarter octave,
    topK (where the provider takes it) an octave."""
    return (
        config.model_key,
        config.model_version,
        round(config.temperature / 0.1),
        round(config.top_p / 0.2),
        round(4 * log2(config.max_tokens)),
        round(log2(config.top_k)) if config.top_k and takes_top_k(config.provider) else None,
    )


def pool(history: Sequence[Observation], incumbent: LLMConfig, now: int) -> list[Observation]:
    """At most 200 observations, one per key; the incumbent's, if there is one, first and alone flagged so.

    Beyond that those with the most requests are kept. A pooled observation carries the configuration that
    most of its requests had.
    """
    groups: dict[PoolKey, list[Observation]] = defaultdict(list)
    for observation in history:
        if observation.n > 0:
            groups[pool_key(observation.config)].append(observation)
    present = pool_key(incumbent)
    largest = sorted(groups, key=lambda key: (key != present, -sum(o.n for o in groups[key])))
    return [_merge(groups[key], incumbent if key == present else None, now) for key in largest[:MAX_POOLED]]


def requests_by_model(history: Sequence[Observation]) -> Counter[str]:
    """How many requests of each model were observed, by model key."""
    found: Counter[str] = Counter()
    for observation in history:
        found[observation.config.model_key] += observation.n
    return found


def tokens_of(history: Sequence[Observation], incumbent: LLMConfig) -> TokenUse | None:
    """How many tokens the requests of the present configuration take, if it is known."""
    present = pool_key(incumbent)
    return _tokens([o for o in history if o.n > 0 and pool_key(o.config) == present])


def _tokens(group: Sequence[Observation]) -> TokenUse | None:
    known = [(o.n, o.tokens) for o in group if o.tokens is not None]
    return max(known, key=lambda each: each[0])[1] if known else None


def _merge(group: list[Observation], incumbent: LLMConfig | None, now: int) -> Observation:
    freshness = [_freshness(observation, now) for observation in group]
    names = sorted({name for observation in group for name in observation.metrics})
    # Made of what was validated already: a history of thousands is merged at every decision.
    return Observation.model_construct(
        config=incumbent or max(group, key=lambda o: o.n).config,
        incumbent=incumbent is not None,
        n=sum(observation.n for observation in group),
        metrics={name: _merge_metric(name, group, freshness) for name in names},
        tokens=_tokens(group),
        observed_at=max((o.observed_at for o in group if o.observed_at is not None), default=None),
        trials=sum(observation.trials for observation in group),
    )


def _merge_metric(name: str, group: list[Observation], freshness: list[float]) -> MetricEstimate:
    """The mean weighted by requests and freshness; its error as that of independent parts."""
    parts = [
        (o.metrics[name], o.n, fresh) for o, fresh in zip(group, freshness, strict=True) if name in o.metrics
    ]
    counts = [n if estimate.n is None else estimate.n for estimate, n, _ in parts]
    weights = [max(1, count) * fresh for count, (_, _, fresh) in zip(counts, parts, strict=True)]
    whole = sum(weights)
    mean, variance = 0.0, 0.0
    for (estimate, _, fresh), weight in zip(parts, weights, strict=True):
        mean += estimate.mean * weight / whole
        variance += (estimate.se * weight / whole) ** 2 / fresh
    return MetricEstimate(mean=mean, se=sqrt(variance), n=sum(counts))


def _freshness(observation: Observation, now: int) -> float:
    """1 for what is new (or from a clock ahead of ours), halved by each half-life of age."""
    if observation.observed_at is None:
        return 1.0
    halvings = max(0, now - observation.observed_at) / HALF_LIFE_MS
    return float(2.0 ** -min(halvings, _MAX_HALVINGS))
