"""What differs between two configurations, field by field."""

from typing import Any

import pytest

from domain.config import LLMConfig
from domain.config_diff import differences

BASE: dict[str, Any] = {
    "provider": "openai",
    "model": "gpt-4o",
    "temperature": 0.5,
    "topP": 1.0,
    "maxTokens": 100,
    "streaming": False,
    "functionCalling": False,
    "visionEnabled": False,
}


def diff(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return list(differences(LLMConfig.model_validate(BASE | before), LLMConfig.model_validate(BASE | after)))


def test_fields_come_in_their_own_order_with_what_they_were_and_are() -> None:
    changed = diff(
        {"topK": 5, "model": "gpt-4o"},
        {"visionEnabled": True, "stopSequences": ["\n"], "temperature": 0.1, "model": "gpt-4o-mini"},
    )
    assert changed == [
        ("model", {"from": "gpt-4o", "to": "gpt-4o-mini"}),
        ("temperature", {"from": 0.5, "to": 0.1}),
        ("topK", {"from": 5}),
        ("stopSequences", {"to": ["\n"]}),
        ("visionEnabled", {"from": False, "to": True}),
    ]


def test_parameters_are_told_one_by_one() -> None:
    before = {"parameters": {"seed": 1, "same": {"a": [1]}, "bias": {"50": 1}, "gone": None}}
    after: dict[str, Any] = {"parameters": {"seed": None, "same": {"a": [1]}, "bias": {"50": 2}, "born": []}}
    assert diff(before, after) == [
        ("parameters.bias", {"from": {"50": 1}, "to": {"50": 2}}),
        ("parameters.born", {"to": []}),
        ("parameters.gone", {"from": None}),
        ("parameters.seed", {"from": 1, "to": None}),
    ]


@pytest.mark.parametrize("same", [{}, {"parameters": {"a": {"b": 1, "c": 2}}}, {"topK": 0}])
def test_equal_configurations_do_not_differ(same: dict[str, Any]) -> None:
    assert diff(same, same) == []


def test_true_is_not_one() -> None:
    assert diff({"parameters": {"n": 1}}, {"parameters": {"n": True}}) == [
        ("parameters.n", {"from": 1, "to": True})
    ]
