"""Assignment against the vectors that every implementation, in every language, passes."""

import json
from pathlib import Path
from typing import Any

import mmh3
import pytest

from domain.assignment import BUCKETS, assigned_to_canary, bucket_of

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "assignment.json").read_text(encoding="utf-8")
)["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['salt'][-4:]}:{vector['unit'][:20]}")
def test_every_vector(vector: dict[str, Any]) -> None:
    assert mmh3.hash(f"{vector['salt']}:{vector['unit']}".encode(), signed=False) == vector["hash"]
    assert bucket_of(vector["salt"], vector["unit"]) == vector["bucket"]


def test_a_unit_is_in_from_just_above_its_bucket() -> None:
    vector = next(vector for vector in VECTORS if vector["bucket"] > 0)
    salt, unit, bucket = vector["salt"], vector["unit"], vector["bucket"]
    assert not assigned_to_canary(salt, unit, bucket / 100)
    assert assigned_to_canary(salt, unit, (bucket + 1) / 100)


def test_nobody_at_0_and_everybody_at_100() -> None:
    units = [f"unit-{n}" for n in range(1000)]
    assert not any(assigned_to_canary("salt", unit, 0) for unit in units)
    assert all(assigned_to_canary("salt", unit, 100) for unit in units)


def test_raising_the_share_keeps_those_who_have_it_and_meets_it() -> None:
    units = [f"unit-{n}" for n in range(20_000)]
    held: set[str] = set()
    for percent in (5.0, 25.0, 50.0, 95.0):
        now = {unit for unit in units if assigned_to_canary("dep_1", unit, percent)}
        assert held <= now
        # Four standard deviations of a binomial draw.
        assert len(now) / len(units) == pytest.approx(percent / 100, abs=0.015)
        held = now


def test_each_rollout_draws_anew() -> None:
    units = [f"unit-{n}" for n in range(20_000)]
    first = {unit for unit in units if assigned_to_canary("dep_1", unit, 50)}
    both = {unit for unit in first if assigned_to_canary("dep_2", unit, 50)}
    assert len(both) / len(first) == pytest.approx(0.5, abs=0.02)
    assert BUCKETS == 10_000
