"""What a call costs, by the list prices that `genai-prices` ships; nothing is fetched.

Unknown is `None`, never 0: a price of 0 is said only of what is listed as free. A listing is compiled once
per (provider, model) into plain numbers, because the library's own sum takes some 100 µs and every reported
call without a cost is priced here.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from genai_prices.data import providers
from genai_prices.data_snapshot import find_provider_by_id
from genai_prices.types import (
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from domain.policy import CandidateModel
from domain.times import moment

_PER_MILLION = 1e-6
_NEWEST = datetime(9999, 1, 1, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TokenPrices:
    """USD per input token, per output token, and per request beside them."""

    input: float
    output: float
    request: float = 0.0

    def of(self, tokens_input: float, tokens_output: float) -> float:
        """The cost of one call in USD."""
        return tokens_input * self.input + tokens_output * self.output + self.request


@dataclass(frozen=True, slots=True)
class _Rate:
    """USD per token; above each threshold of input tokens another rate holds for all of the call's tokens."""

    base: float
    tiers: tuple[tuple[int, float], ...] = ()

    def at(self, tokens_input: float) -> float:
        for start, rate in reversed(self.tiers):
            if tokens_input > start:
                return rate
        return self.base


@dataclass(frozen=True, slots=True)
class _PriceList:
    """One set of prices; a rate that is not listed is None."""

    input: _Rate | None
    output: _Rate | None
    request: float


@dataclass(frozen=True, slots=True)
class _Listing:
    """A model's price lists, a later one taking precedence over those before it while it is in force."""

    lists: tuple[tuple[StartDateConstraint | TimeOfDateConstraint | None, _PriceList], ...]
    context_window: int | None

    def in_force(self, at: int | None) -> _PriceList:
        if len(self.lists) == 1:
            return self.lists[0][1]
        when = _NEWEST if at is None else moment(at)
        for constraint, prices in reversed(self.lists):
            if constraint is None or constraint.active(when):
                return prices
        return self.lists[0][1]


def price(
    provider: str,
    model: str,
    tokens_input: float,
    tokens_output: float,
    overrides: CandidateModel | None = None,
    at: int | None = None,
) -> float | None:
    """The cost of one call in USD, or None where no price is known.

    `overrides` gives a policy's own prices, which win over the list. `at` (ms since the epoch) tells which of
    a model's prices over time holds; without it the newest does, at noon UTC where the hour matters.
    """
    prices = token_prices(provider, model, overrides, at, tokens_input)
    return None if prices is None else prices.of(tokens_input, tokens_output)


def token_prices(
    provider: str,
    model: str,
    overrides: CandidateModel | None = None,
    at: int | None = None,
    tokens_input: float = 0,
) -> TokenPrices | None:
    """What holds for a call of `tokens_input` tokens, or None where the list does not say.

    A model listed with input prices alone (an embedding) puts out no tokens that are charged.
    """
    given_in = overrides.price_per_m_tok_in if overrides else None
    given_out = overrides.price_per_m_tok_out if overrides else None
    if given_in is not None and given_out is not None:
        return TokenPrices(given_in * _PER_MILLION, given_out * _PER_MILLION)
    listing = _listing(provider, model)
    if listing is None:
        return None
    listed = listing.in_force(at)
    if listed.input is None:
        return None
    listed_out = 0.0 if listed.output is None else listed.output.at(tokens_input)
    return TokenPrices(
        listed.input.at(tokens_input) if given_in is None else given_in * _PER_MILLION,
        listed_out if given_out is None else given_out * _PER_MILLION,
        listed.request,
    )


def output_limit(provider: str, model: str, overrides: CandidateModel | None = None) -> int | None:
    """The most tokens that a model can put out, where it is known.

    The policy's own figure, else the model's context window, which no output can exceed.
    """
    if overrides is not None and overrides.max_output_tokens is not None:
        return overrides.max_output_tokens
    listing = _listing(provider, model)
    return None if listing is None else listing.context_window


@lru_cache(maxsize=4096)
def _listing(provider: str, model: str) -> _Listing | None:
    """The compiled listing. Bounded, because clients choose the names that they report."""
    info = _find(provider, model)
    if info is None:
        return None
    if isinstance(info.prices, ModelPrice):
        return _Listing(((None, _compile(info, info.prices)),), info.context_window)
    lists = tuple((entry.constraint, _compile(info, entry.prices)) for entry in info.prices)
    return _Listing(lists, info.context_window) if lists else None


def _find(provider: str, model: str) -> ModelInfo | None:
    """The library's entry. `_` may stand for `-` in the provider, and the model be led by its provider."""
    for name in (provider, provider.replace("_", "-")):
        listed = find_provider_by_id(providers, name)
        if listed is None:
            continue
        for reference in (model, model.removeprefix(f"{provider}/")):
            if info := listed.find_model(reference, all_providers=providers):
                return info
    return None


def _compile(info: ModelInfo, listed: ModelPrice) -> _PriceList:
    free = info.id.endswith(":free") and not vars(listed)
    request = listed.requests_kcount
    return _PriceList(
        _Rate(0.0) if free else _rate(listed.input_mtok),
        _Rate(0.0) if free else _rate(listed.output_mtok),
        0.0 if request is None or isinstance(request, TieredPrices) else float(request) / 1000,
    )


def _rate(listed: object) -> _Rate | None:
    if listed is None:
        return None
    if isinstance(listed, TieredPrices):
        tiers = tuple((tier.start, float(tier.price) * _PER_MILLION) for tier in listed.tiers)
        return _Rate(float(listed.base) * _PER_MILLION, tiers)
    return _Rate(float(str(listed)) * _PER_MILLION)
