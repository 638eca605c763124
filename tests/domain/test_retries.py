"""Delays between attempts, by hand-made tables."""

import pytest

from domain.retries import delay_ms, retry_after_ms
from domain.webhooks import RetryPolicy

NOW = 1_760_000_000_000  # Thu, 09 Oct 2025 08:53:20 GMT


def delays(policy: RetryPolicy, count: int) -> list[int]:
    return [delay_ms(policy, failures, chance=0) for failures in range(1, count + 1)]


def test_exponential_doubles_up_to_the_longest() -> None:
    policy = RetryPolicy(initial_delay_ms=100, max_delay_ms=1_000)
    assert delays(policy, 6) == [100, 200, 400, 800, 1_000, 1_000]
    assert delay_ms(policy, 10**6, chance=0) == 1_000


def test_linear_grows_by_the_first_up_to_the_longest() -> None:
    policy = RetryPolicy(backoff="linear", initial_delay_ms=100, max_delay_ms=350)
    assert delays(policy, 5) == [100, 200, 300, 350, 350]


def test_chance_takes_up_to_a_fifth_off() -> None:
    policy = RetryPolicy(initial_delay_ms=1_000, max_delay_ms=1_000)
    assert [delay_ms(policy, 1, chance=chance) for chance in (0, 0.5, 0.999999)] == [1_000, 900, 800]
    assert delay_ms(RetryPolicy(initial_delay_ms=1), 1, chance=0.999) == 1


def test_the_default_goes_on_for_hours() -> None:
    policy = RetryPolicy()
    total = sum(delays(policy, policy.max_retries))
    assert 4 * 3_600_000 < total < 5 * 3_600_000


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("7", 7_000),
        (" 120 ", 120_000),
        ("99999999999999999999", 3_600_000),
        ("Thu, 09 Oct 2025 08:53:30 GMT", 10_000),
        ("Thu, 09 Oct 2025 10:53:30 +0200", 10_000),
        ("Thu, 09 Oct 2025 10:53:30 +0159", 70_000),
        ("Fri, 09 Oct 2026 08:53:30 GMT", 3_600_000),
        ("Thu, 09 Oct 2025 08:53:20 GMT", None),
        ("0", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("²", None),
    ],
)
def test_retry_after(header: str, wait: int | None) -> None:
    assert retry_after_ms(header, NOW) == wait
