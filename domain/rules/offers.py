"""The models that a service may choose from and their prices: what changed, once it has stopped changing."""

from collections.abc import Mapping
from dataclasses import dataclass

from domain.analytics import DAY_MS, HOUR_MS
from domain.policy import SearchSpace
from domain.pricing import token_prices

SETTLED_MS = 2 * 60_000
"""How long a change must have stood: many changes in a short time make one run."""

Offers = Mapping[str, list[float] | None]
"""By `provider/model`: USD per million tokens in, per million out, and per request; None: unknown."""


@dataclass(frozen=True, slots=True)
class Noticed:
    """What is known of a service's offers, and what was seen since (ms) that differs from it."""

    known: Offers
    seen: Offers | None = None
    since: int | None = None


def offers(space: SearchSpace, now: int) -> Offers:
    """The candidate models with their prices on the day of `now` (ms), at noon UTC.

    A price that differs by the hour of the day is thereby no price that changes.
    """
    noon = now // DAY_MS * DAY_MS + 12 * HOUR_MS
    found: dict[str, list[float] | None] = {}
    for model in space.models:
        prices = token_prices(model.provider, model.model, model, noon)
        found[model.key] = (
            None
            if prices is None
            else [round(1e6 * prices.input, 6), round(1e6 * prices.output, 6), round(prices.request, 9)]
        )
    return dict(sorted(found.items()))


def notice(before: Noticed | None, present: Offers, now: int) -> Noticed:
    """What is known after a look that found `present`. The first look knows, and sees nothing new."""
    if before is None:
        return Noticed(present)
    if present == before.known:
        return Noticed(before.known)
    if present == before.seen:
        return before
    return Noticed(before.known, present, now)


def news(noticed: Noticed, now: int) -> str | None:
    """What changed, in words, once it has stood for long enough; None where that is nothing to act on.

    That a model is no longer offered is nothing: there is less to choose from than before.
    """
    if noticed.seen is None or noticed.since is None or now - noticed.since < SETTLED_MS:
        return None
    before, after = noticed.known, noticed.seen
    new = [f"new model {key} at {_told(after[key])}" for key in after.keys() - before.keys()]
    changed = [
        f"price of {key} from {_told(before[key])} to {_told(after[key])}"
        for key in after.keys() & before.keys()
        if after[key] != before[key]
    ]
    return "; ".join(sorted(new) + sorted(changed)) or None


def is_settled(noticed: Noticed, now: int) -> bool:
    """Whether what was seen has stood for long enough to be what is known."""
    return noticed.since is not None and now - noticed.since >= SETTLED_MS


def _told(prices: list[float] | None) -> str:
    return "an unknown price" if prices is None else f"${prices[0]:g}/${prices[1]:g} per million tokens"
