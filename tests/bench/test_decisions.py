"""The worlds of the benchmark of decisions, and short runs; `python -m bench.decisions` runs it in full."""

from pathlib import Path

import numpy as np
import pytest

from bench.decision_loop import POLICIES, Conditions, Run, run
from bench.decisions import RECORDED, gates_of, parsed, summary, worlds_of
from bench.listed import listed
from bench.recorded import MODELS, recorded
from bench.synthetic import LEVELS, SPACE, Base, synthetic
from bench.worlds import Requests, World, plain_config
from domain.config import LLMConfig
from domain.policy import CandidateModel, Constraint, Objective

BASE = Base(cost=0.02, latency=4000.0, quality=75.0)


def test_a_world_starts_where_it_was_told_to() -> None:
    world = synthetic(4, LEVELS[1], BASE)
    truth = world.truth(world.incumbent)
    assert truth["cost.avg"] == pytest.approx(0.02)
    assert truth["latency.p95"] == pytest.approx(4000)
    assert truth["quality.avg"] == pytest.approx(75, abs=1)
    assert not world.breaches(world.incumbent)
    assert len({entry.price_per_m_tok_in for entry in world.models}) == 8


@pytest.mark.parametrize("number", range(4))
def test_measurements_agree_with_the_truth(number: int) -> None:
    """Right-or-wrong scores, too, whose mean over a few thousand answers would be half a point off."""
    world = listed(2, BASE, scored=False, number=number)
    measured = world.serve(world.incumbent, 300_000, np.random.default_rng(5)).metrics()
    truth = world.truth(world.incumbent)
    assert measured["cost.avg"] == pytest.approx(truth["cost.avg"], rel=0.005)
    assert measured["latency.p95"] == pytest.approx(truth["latency.p95"], rel=0.02)
    assert measured["quality.avg"] == pytest.approx(truth["quality.avg"], abs=0.35)
    assert measured["errors.rate"] == pytest.approx(truth["errors.rate"], abs=0.001)


def test_the_gain_is_the_weighed_change_by_hand() -> None:
    world = synthetic(4, LEVELS[0], BASE)
    world.objectives = [Objective(metric="cost.avg", goal="minimize", weight=2)]
    other = plain_config(next(m for m in world.models if m.key != world.incumbent.model_key))
    dearer = world.truth(other)["cost.avg"] / world.truth(world.incumbent)["cost.avg"]
    assert world.gain(other) == pytest.approx(-np.log(dearer))
    assert world.gain(world.incumbent) == 0.0


class _Narrow(World):
    """Costs as much as it may answer, and answers well enough from 637 tokens on, up to temperature 0.83."""

    def __init__(self) -> None:
        self.models = [CandidateModel(provider="lab", model="m0")]
        self.space = SPACE.model_copy(update={"models": self.models, "top_p": None})
        self.incumbent = plain_config(self.models[0])
        self.objectives = [Objective(metric="cost.avg", goal="minimize", weight=1)]
        self.constraints = [Constraint(type="hard", metric="quality.avg", min=80)]

    def truth(self, config: LLMConfig) -> dict[str, float]:
        quality = 80.0 + min(0, config.max_tokens - 637) + min(0.0, 0.83 - config.temperature)
        cost = config.max_tokens / 1024 * (2 - config.temperature)
        return {"cost.avg": cost, "latency.p95": 1.0, "quality.avg": quality}

    def serve(self, config: LLMConfig, n: int, rng: np.random.Generator) -> Requests:
        raise NotImplementedError

    def population(self, config: LLMConfig) -> Requests:
        raise NotImplementedError


def test_the_oracle_finds_what_lies_between_the_points_of_its_grid() -> None:
    best = np.log((2 - 0.7) / (637 / 1024 * (2 - 0.83)))
    assert _Narrow().oracle == pytest.approx(best, abs=0.03)


def test_where_nothing_keeps_the_bounds_there_is_nothing_to_gain() -> None:
    world = _Narrow()
    world.constraints = [Constraint(type="hard", metric="quality.avg", min=81)]
    assert world.oracle == 0.0


def _rows(path: Path) -> Path:
    """Answers of 50 and 100 tokens: the cheap model is right on three of four, the dear one on all."""
    lines = [f"40,{50},{int(i % 4 > 0)},{100},1" for i in range(120)]
    path.write_text("\n".join(["prompt,cheap,cheapRight,dear,dearRight", *lines]))
    return path


def test_recorded_answers_are_counted_as_they_are(tmp_path: Path) -> None:
    worlds = recorded(_rows(tmp_path / "rows.csv"), 1, 4.0)
    assert len(worlds) == 8
    cheap, dear = (plain_config(model) for model in MODELS)
    world = worlds[-2]
    assert world.truth(dear)["quality.avg"] == 100
    assert world.truth(cheap)["quality.avg"] == pytest.approx(75, abs=12)
    assert world.truth(dear)["cost.avg"] == pytest.approx(140 * 24.7e-6)
    cut = dear.model_copy(update={"max_tokens": 99})
    assert world.truth(cut)["quality.avg"] == 0


def _worlds(group: str, *arguments: str) -> list[World]:
    options = parsed(["--groups", group, *arguments])
    return worlds_of(group, 1, BASE, options)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_runs_and_the_same_seed_gives_the_same(name: str) -> None:
    (world, *_) = _worlds("synthetic-2")
    short = Conditions(budget=3)
    assert run(world, name, 3, short) == run(world, name, 3, short)


def test_the_product_adopts_the_far_cheaper_model_within_the_floor(tmp_path: Path) -> None:
    path = RECORDED if RECORDED.exists() else _rows(tmp_path / "rows.csv")
    worlds = recorded(path, 1, 6.0)
    found = [run(world, "product", 1, Conditions(budget=4)) for world in worlds[:3:2]]
    assert min(each.captured[-1] for each in found) > 0.9
    assert not any(each.accepted_breaching for each in found)


def test_figures_and_gates() -> None:
    good = Run("w", "product", (0.0,) * 4 + (0.5,) * 5 + (1.0,) * 11, 10, 1, 2, 0, 1.0)
    nothing = good.__class__("w", "product", (0.0,) * 20, 10, 5, 2, 1, 0.01)
    figures = summary([good, nothing])
    assert (figures["captured5"], figures["captured10"], figures["captured20"]) == (0.5, 1.0, 1.0)
    assert (figures["tasks"], figures["breachingProposals"], figures["acceptedBreaching"]) == (1, 0.3, 1)
    tpe = {**figures, "captured10": 0.9, "breachingProposals": 0.2}
    met = {
        gate.name: gate.to_json()["met"] for gate in gates_of({"listed-9": {"product": figures, "tpe": tpe}})
    }
    assert met == {
        "listed-9: captured after 20": True,
        "listed-9: breaching proposals, product less TPE": False,
        "listed-9: captured after 10 by TPE's": False,
        "accepted breaches": False,
    }
