"""The gate's simulation, few runs of each scenario with one seed; `python -m bench.gate` runs it in full."""

import pytest

from bench.gate import Figures, Outcome, simulate, verdicts
from bench.gate_traffic import SCENARIOS, Scenario

RUNS = 20


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_harm_is_rolled_back_and_nothing_else(scenario: Scenario) -> None:
    outcomes = [simulate(scenario, (7, run)) for run in range(RUNS)]
    harmful = scenario.world == SCENARIOS[0].world and scenario.at_most is None
    assert {outcome.status for outcome in outcomes} == {"rolled back" if harmful else "completed"}


def test_one_seed_gives_one_rollout() -> None:
    assert simulate(SCENARIOS[4], (1, 2)) == simulate(SCENARIOS[4], (1, 2))


def test_figures_count_outcomes_and_gates_compare_them() -> None:
    outcomes = [
        Outcome("rolled back", 60, 40),
        Outcome("rolled back", 120, 80),
        Outcome("completed", 1200, 9000),
        Outcome("held", 1200, 9000),
    ]
    found = Figures.of("A/A", outcomes)
    assert (found.rolled_back, found.completed, found.held) == (0.5, 0.25, 0.25)
    assert (found.median_seconds, found.median_bad_requests) == (90, 60)
    gates = verdicts([found._replace(name=scenario.name) for scenario in SCENARIOS])
    assert [gate["scenario"] for gate in gates] == [
        scenario.name
        for scenario in SCENARIOS
        if scenario.at_most is not None or scenario.at_least is not None
    ]
    assert not any(gate["passed"] for gate in gates)
