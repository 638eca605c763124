"""Costs measured at prices that no longer hold, brought to the prices of now by their tokens."""

from collections import defaultdict
from collections.abc import Sequence
from math import exp, hypot, log

from domain.decision.constraints import candidate_entry
from domain.decision.history import Observation
from domain.policy import SearchSpace
from domain.pricing import TokenPrices, token_prices

SHIFTED = 0.1
"""How far (in ln cost) two measurements of a model must be apart, their tokens considered, for its price to
have changed between them; besides three standard errors."""

_TINY = 1e-12


def repriced(history: Sequence[Observation], search_space: SearchSpace, now: int) -> list[Observation]:
    """The history with each cost as it would be at the prices of `now` (ms).

    Where the price list has prices over time, by their ratio on the tokens observed. Where a model's newest
    measurement shows another cost per token than older ones (a price that changed without the list or the
    policy saying when), the older ones are scaled to it. What was observed without tokens or cost is left as
    it is.
    """
    listed = [_by_list(observation, search_space, now) for observation in history]
    by_model: dict[str, list[int]] = defaultdict(list)
    for index, observation in enumerate(listed):
        if observation.tokens is not None and "cost.avg" in observation.metrics:
            by_model[observation.config.model_key].append(index)
    for indices in by_model.values():
        if len({listed[index].observed_at for index in indices}) > 1:
            _to_the_newest(listed, indices, search_space, now)
    return listed


def _by_list(observation: Observation, space: SearchSpace, now: int) -> Observation:
    at, tokens = observation.observed_at, observation.tokens
    if at is None or tokens is None or "cost.avg" not in observation.metrics:
        return observation
    before, after = _prices(observation, space, at), _prices(observation, space, now)
    if before is None or after is None or before == after:
        return observation
    output = _output(observation)
    return _scaled(observation, _ratio(after.of(tokens.input, output), before.of(tokens.input, output)))


def _to_the_newest(listed: list[Observation], indices: Sequence[int], space: SearchSpace, now: int) -> None:
    """Scales in place what was measured of one model at other costs per token than its newest measurement."""
    newest = max(indices, key=lambda index: (listed[index].observed_at or 0, listed[index].n))
    level, error = _per_token(listed[newest], space, now)
    for index in indices:
        mine, own_error = _per_token(listed[index], space, now)
        apart = level - mine
        older = (listed[index].observed_at or 0) < (listed[newest].observed_at or 0)
        if older and abs(apart) > max(SHIFTED, 3 * hypot(error, own_error)):
            listed[index] = _scaled(listed[index], exp(apart))


def _per_token(observation: Observation, space: SearchSpace, now: int) -> tuple[float, float]:
    """ln of the cost over what the tokens cost at today's prices (any common price, if none is known), and
    its standard error."""
    prices = _prices(observation, space, now) or TokenPrices(1.0, 1.0)
    tokens, cost = observation.tokens, observation.metrics["cost.avg"]
    known = prices.of(tokens.input, _output(observation)) if tokens is not None else 0.0
    return log(max(cost.mean, _TINY) / max(known, _TINY)), cost.se / max(cost.mean, _TINY)


def _prices(observation: Observation, space: SearchSpace, at: int) -> TokenPrices | None:
    config, tokens = observation.config, observation.tokens
    entry = candidate_entry(space, config)
    return token_prices(config.provider, config.model, entry, at, tokens.input if tokens else 0.0)


def _output(observation: Observation) -> float:
    return (
        0.0 if observation.tokens is None else observation.tokens.output_mean(observation.config.max_tokens)
    )


def _ratio(after: float, before: float) -> float:
    return after / before if before > _TINY and after > _TINY else 1.0


def _scaled(observation: Observation, factor: float) -> Observation:
    cost = observation.metrics["cost.avg"]
    moved = cost.model_copy(update={"mean": cost.mean * factor, "se": cost.se * factor})
    return observation.model_copy(update={"metrics": {**observation.metrics, "cost.avg": moved}})
