"""Label limits: so many values a day and service, and no word where they are known."""

import itertools
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from domain import label_limits
from domain.label_limits import LabelLimits, Labels

DAY = 86_400_000
NOW = 20_000 * DAY + 5


def labels(service: str = "chat", **change: Any) -> Labels:
    usual = Labels(service, "/api", "openai", "gpt-4o", f"{service}@1", None)
    return usual._replace(**change)


@pytest.fixture
def limits() -> LabelLimits:
    made = LabelLimits()
    made.turn_to(NOW)
    return made


@pytest.mark.parametrize(
    ("field", "name", "limit"),
    [
        ("endpoint", "endpoint", 1_000),
        ("model", "model", 500),
        ("config_version", "configVersion", 2_000),
        ("error_type", "errorType", 200),
    ],
)
def test_a_new_value_past_the_limit_is_refused_by_name_and_a_known_one_is_not(
    limits: LabelLimits, field: str, name: str, limit: int
) -> None:
    limits.turn_to(NOW)
    seen = [labels(**{field: f"value-{number}"}) for number in range(limit)]
    assert [found for found in map(limits.refusal, seen) if found] == []
    reason = f"{name}: more than {limit} different values of service 'chat' today"
    assert limits.refusal(labels(**{field: "one-more"})) == reason
    assert limits.refusal(seen[0]) is None
    # Another combination of what is known is no new value.
    other = "error_type" if field == "endpoint" else "endpoint"
    assert limits.refusal(seen[0]._replace(**{other: "other"})) is None
    assert limits.refusal(labels("search", **{field: "one-more"})) is None


def test_the_same_model_of_another_provider_is_another_value(limits: LabelLimits) -> None:
    for number in range(label_limits.MODELS):
        assert limits.refusal(labels(provider=f"provider-{number}")) is None
    assert limits.refusal(labels(provider="one-more")) is not None


def test_services_are_limited_all_together(limits: LabelLimits) -> None:
    for number in range(label_limits.SERVICES):
        assert limits.refusal(labels(f"service-{number}")) is None
    assert limits.refusal(labels("one-more")) == "service: more than 10000 different values today"
    assert limits.refusal(labels("service-0", endpoint="/other")) is None


def test_what_is_refused_takes_nothing_of_the_other_limits(limits: LabelLimits) -> None:
    for number in range(label_limits.MODELS):
        limits.refusal(labels(model=f"model-{number}"))
    for number in range(label_limits.ENDPOINTS):
        assert limits.refusal(labels(model="one-more", endpoint=f"/{number}")) is not None
    assert limits.refusal(labels(model="model-0", endpoint="/new")) is None


def test_a_new_day_forgets_and_an_earlier_time_does_not(limits: LabelLimits) -> None:
    for number in range(label_limits.ERROR_TYPES):
        limits.refusal(labels(error_type=f"error-{number}"))
    more = labels(error_type="one-more")
    limits.turn_to(NOW - DAY)
    assert limits.refusal(more) is not None
    limits.turn_to(NOW - NOW % DAY + DAY - 1)
    assert limits.refusal(more) is not None
    limits.turn_to(NOW - NOW % DAY + DAY)
    assert labels() not in limits.known
    assert limits.refusal(more) is None


def test_what_is_learned_counts(limits: LabelLimits) -> None:
    seen = [labels(error_type=f"error-{number}") for number in range(label_limits.ERROR_TYPES + 5)]
    limits.learn([*seen, Labels("search", config_version="search@7")], NOW)
    assert limits.refusal(Labels("search", config_version="search@7")) is None
    assert limits.refusal(seen[-1]._replace(endpoint="/other")) is None
    assert limits.refusal(labels(error_type="one-more")) is not None
    assert limits.refusal(labels("search", error_type="one-more")) is None


def test_combinations_are_remembered_within_bounds(
    limits: LabelLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_limits, "REMEMBERED", 10)
    for number in range(label_limits.ERROR_TYPES):
        assert limits.refusal(labels(error_type=f"error-{number}")) is None
        assert len(limits.known) <= 10
    assert limits.refusal(labels(error_type="error-0")) is None
    assert limits.refusal(labels(error_type="one-more")) is not None


def usual(number: int) -> Labels:
    service = f"service-{number // 200}"
    return Labels(service, f"/api/v1/things/{number % 200}", "openai", "gpt-4o", f"{service}@{number % 7}")


def long(number: int) -> Labels:
    kind, version = f"{number % 200:0250d}", f"{number % 1000:0500d}"
    return Labels(f"s{number // 1000}", f"{number:0250d}", "p" * 250, f"{number % 500:0250d}", version, kind)


def short(number: int) -> Labels:
    return Labels(f"s{number}", "e", "p", "m", "v", "t")


def wide(number: int) -> Labels:
    return Labels(f"s{number // 500}", f"{number % 500}", "p", f"{number % 500}", "v", None)


@pytest.mark.parametrize("shape", [usual, long, short, wide])
def test_memory_is_bounded_whatever_the_labels(
    limits: LabelLimits, monkeypatch: pytest.MonkeyPatch, shape: Callable[[int], Labels]
) -> None:
    monkeypatch.setattr(label_limits, "BYTES", 4 * 2**20)
    monkeypatch.setattr(label_limits, "REMEMBERED", 1_000)
    tracemalloc.start()
    numbers = itertools.count()
    while (reason := limits.refusal(shape(next(numbers)))) is None:
        pass
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reason.endswith("the different values of all services are too many today")
    assert 2 * 2**20 < held < 5 * 2**20
    assert limits.refusal(shape(0)) is None
    limits.learn([shape(number) for number in range(next(numbers), next(numbers) + 1_000)], NOW)
    assert limits.refusal(labels("another")) is not None
    limits.turn_to(NOW + DAY)
    assert limits.refusal(labels("another")) is None
