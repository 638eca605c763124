"""Prices against hand sums, and against the library's own sum over its whole list."""

from datetime import UTC, datetime

import pytest
from genai_prices import Usage
from genai_prices.data import providers

from domain import pricing
from domain.policy import CandidateModel

NOW = int(datetime(2026, 1, 15, 9, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("provider", "model", "tokens_in", "tokens_out", "usd"),
    [
        ("openai", "gpt-4-1106-preview", 1000, 500, 1000 * 10e-6 + 500 * 30e-6),
        ("mistral", "mixtral-8x7b-instruct-v0.1", 1000, 500, 1500 * 0.7e-6),
        ("anthropic", "claude-sonnet-4", 150, 500, 150 * 3e-6 + 500 * 15e-6),
        ("openai", "gpt-4o-mini", 0, 0, 0.0),
        ("openai", "text-embedding-3-large", 1000, 0, 0.13e-3),
        ("perplexity", "sonar", 1000, 500, 1500e-6 + 0.012),
    ],
)
def test_hand_sums(provider: str, model: str, tokens_in: int, tokens_out: int, usd: float) -> None:
    assert pricing.price(provider, model, tokens_in, tokens_out, at=NOW) == pytest.approx(usd, rel=1e-12)


def test_a_tier_holds_for_the_whole_call() -> None:
    below = pricing.price("google", "gemini-2.5-pro", 200_000, 1000, at=NOW)
    above = pricing.price("google", "gemini-2.5-pro", 200_001, 1000, at=NOW)
    assert below == pytest.approx(200_000 * 1.25e-6 + 1000 * 10e-6)
    assert above == pytest.approx(200_001 * 2.5e-6 + 1000 * 15e-6)


def test_equals_the_library_over_its_whole_list() -> None:
    """Every listed model, at three sizes and three times, where the list has token prices at all."""
    times = [datetime(2025, 1, 10, 17, 30, tzinfo=UTC), datetime(2025, 6, 1, 3, tzinfo=UTC)]
    compared = 0
    for provider in providers:
        for info in provider.models:
            found = provider.find_model(info.id, all_providers=providers)
            if found is None:
                continue
            for when in times:
                for tokens_in, tokens_out in [(1000, 500), (150_000, 20), (300_000, 4000)]:
                    ours = pricing.price(
                        provider.id, info.id, tokens_in, tokens_out, at=int(when.timestamp() * 1000)
                    )
                    if ours is None:
                        continue
                    theirs = found.calc_price(
                        Usage(input_tokens=tokens_in, output_tokens=tokens_out),
                        provider,
                        genai_request_timestamp=when,
                    ).total_price
                    assert ours == pytest.approx(float(theirs), rel=1e-9), (provider.id, info.id)
                    compared += 1
    assert compared > 10_000


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("nobody", "gpt-4o-mini"),
        ("openai", "gpt-of-the-future-12"),
        ("github-copilot", "gpt-4.1"),
        ("openai", "tts-1-hd"),
        ("", ""),
    ],
)
def test_unknown_is_none_and_never_zero(provider: str, model: str) -> None:
    assert pricing.price(provider, model, 1000, 500, at=NOW) is None


def test_listed_as_free_is_zero() -> None:
    assert pricing.price("openrouter", "deepseek-chat:free", 1000, 500, at=NOW) == 0.0


def test_a_price_over_time_is_that_of_the_call() -> None:
    """deepseek-chat is cheaper from 16:30 to 00:30 UTC in the list."""
    day = datetime(2025, 1, 10, 12, tzinfo=UTC)
    peak = pricing.price("deepseek", "deepseek-chat", 1000, 500, at=int(day.timestamp() * 1000))
    off_peak = pricing.price(
        "deepseek", "deepseek-chat", 1000, 500, at=int(day.replace(hour=18).timestamp() * 1000)
    )
    assert peak is not None
    assert off_peak is not None
    assert off_peak < peak
    assert pricing.price("deepseek", "deepseek-chat", 1000, 500) == peak


def test_names_are_forgiving() -> None:
    assert pricing.price("x_ai", "grok-4", 1000, 500) == pricing.price("x-ai", "grok-4", 1000, 500)
    assert pricing.price("mistral", "mistral/mixtral-8x7b-instruct-v0.1", 10, 0) == pytest.approx(7e-6)


def test_overrides_win_and_may_be_partial() -> None:
    whole = CandidateModel(provider="own", model="llama", price_per_m_tok_in=1.0, price_per_m_tok_out=2.0)
    assert pricing.price("own", "llama", 1000, 500, whole) == pytest.approx(0.002)
    part = CandidateModel(provider="openai", model="gpt-4-1106-preview", price_per_m_tok_in=5.0)
    assert pricing.price("openai", "gpt-4-1106-preview", 1000, 500, part) == pytest.approx(0.005 + 0.015)
    unknown = CandidateModel(provider="own", model="llama", price_per_m_tok_in=1.0)
    assert pricing.price("own", "llama", 1000, 500, unknown) is None


def test_output_limit_is_the_policys_else_the_context_window() -> None:
    own = CandidateModel(provider="openai", model="gpt-4-1106-preview", max_output_tokens=4096)
    assert pricing.output_limit("openai", "gpt-4-1106-preview", own) == 4096
    assert pricing.output_limit("openai", "gpt-4-1106-preview") == 128_000
    assert pricing.output_limit("own", "llama") is None
