"""What differs between two configurations."""

import json
from collections.abc import Iterator
from typing import Any

from domain.config import LLMConfig


def differences(old: LLMConfig, new: LLMConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each field that differs, in the order of `LLMConfig`, with `from` and `to` as far as it is there.

    Names are those of the JSON. Parameters are told one by one as `parameters.<name>`, sorted by name.
    """
    before, after = old.to_json(), new.to_json()
    for field in LLMConfig.model_fields.values():
        name = field.alias or ""
        if name == "parameters":
            yield from _of_parameters(before.get(name, {}), after.get(name, {}))
        elif sides := _sides(before, after, name):
            yield name, sides


def _of_parameters(before: dict[str, Any], after: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in sorted(before.keys() | after.keys()):
        if sides := _sides(before, after, name):
            yield f"parameters.{name}", sides


def _sides(before: dict[str, Any], after: dict[str, Any], name: str) -> dict[str, Any]:
    """What the field is on each side that has it; empty where both have the same."""
    sides = {side: fields[name] for side, fields in (("from", before), ("to", after)) if name in fields}
    # As JSON, in which true is not 1.
    same = len({json.dumps(value, sort_keys=True) for value in sides.values()}) == 1
    return {} if not sides or (same and len(sides) == 2) else sides
