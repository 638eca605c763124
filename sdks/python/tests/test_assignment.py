"""The hash is the one that every implementation shares; the share is what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_auto_optimizer._assignment import bucket, takes_canary

VECTORS = Path(__file__).parents[3] / "tests" / "vectors" / "assignment.json"


@pytest.mark.parametrize(
    "vector", json.loads(VECTORS.read_text(encoding="utf-8"))["vectors"], ids=lambda v: str(v["hash"])
)
def test_vectors(vector: dict[str, object]) -> None:
    salt, unit = str(vector["salt"]), str(vector["unit"])
    assert bucket(salt, unit) == vector["bucket"]


def test_a_larger_share_keeps_those_who_have_the_canary() -> None:
    units = [f"user-{n}" for n in range(2_000)]
    before: set[str] = set()
    for share in (0, 5, 25, 50, 95, 100):
        now = {unit for unit in units if takes_canary("dep-1", unit, share)}
        assert before <= now
        assert abs(len(now) / len(units) - share / 100) < 0.04
        before = now
    assert len(before) == len(units)


def test_without_a_unit_each_call_is_drawn() -> None:
    drawn = sum(takes_canary("dep-1", None, 25) for _ in range(4_000))
    assert 0.2 < drawn / 4_000 < 0.3
    assert not any(takes_canary("dep-1", None, 0) for _ in range(1_000))
    assert all(takes_canary("dep-1", None, 100) for _ in range(1_000))
