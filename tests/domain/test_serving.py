"""Inheritance, the share, and what happens once nobody watches."""

import pytest

from domain.scope import parse_scope
from domain.serving import Canary, Served, ServingTable, overrides, takes_canary

GLOBAL, CHAT, CHAT_NEW, EP = (
    Served(name, {"model": name}, 1, "ada") for name in ("g@1", "chat@1", "chat@2", "e@1")
)
CANARY = Canary("dep_1", 25.0, 10_000, CHAT, CHAT_NEW)


@pytest.mark.parametrize(
    ("active", "scope", "owner", "served"),
    [
        ({"global": GLOBAL}, "global", "global", GLOBAL),
        ({"global": GLOBAL}, "chat", "global", GLOBAL),
        ({"global": GLOBAL, "chat": CHAT}, "chat", "chat", CHAT),
        ({"global": GLOBAL, "chat": CHAT}, "other", "global", GLOBAL),
        ({"global": GLOBAL, "chat": CHAT}, "chat:/api", "chat", CHAT),
        ({"chat": CHAT, "chat:/api": EP}, "chat:/api", "chat:/api", EP),
        ({"chat": CHAT, "chat:/api": EP}, "chat:/other", "chat", CHAT),
    ],
)
def test_the_nearest_scope_with_a_configuration_is_served(
    active: dict[str, Served], scope: str, owner: str, served: Served
) -> None:
    resolved = ServingTable(active, {}).resolve(parse_scope(scope))
    assert resolved is not None
    assert (resolved.owner, resolved.control, resolved.canary) == (owner, served, None)


def test_there_may_be_nothing_to_inherit() -> None:
    assert ServingTable({"chat": CHAT}, {}).resolve(parse_scope("other")) is None


def test_a_service_that_inherits_has_its_canary_beside_the_global_control() -> None:
    canary = Canary("dep_1", 25.0, 10_000, GLOBAL, CHAT)
    table = ServingTable({"global": GLOBAL}, {"chat": canary})
    for scope in ("chat", "chat:/api"):
        resolved = table.resolve(parse_scope(scope))
        assert resolved is not None
        assert (resolved.owner, resolved.control, resolved.canary) == ("chat", GLOBAL, canary)
    elsewhere = table.resolve(parse_scope("other"))
    assert elsewhere is not None
    assert elsewhere.canary is None


def test_a_canary_is_served_until_its_watch_lapses() -> None:
    resolved = ServingTable({"chat": CHAT}, {"chat": CANARY}).resolve(parse_scope("chat"))
    assert resolved is not None
    assert resolved.canary_at(9_999) is CANARY
    assert resolved.canary_at(10_000) is None


def test_a_unit_keeps_its_arm_and_draws_follow_the_share() -> None:
    units = [f"user-{number}" for number in range(4_000)]
    first = [takes_canary(CANARY, unit) for unit in units]
    assert first == [takes_canary(CANARY, unit) for unit in units]
    assert 0.22 < sum(first) / len(first) < 0.28
    drawn = sum(takes_canary(CANARY, None) for _ in range(4_000)) / 4_000
    assert 0.2 < drawn < 0.3


def test_overrides_name_what_differs() -> None:
    assert overrides({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == {"b": 2, "c": None}
