"""How often the gate rolls back what it should and what it should not: `python -m bench.gate`.

Whole rollouts in simulation, 20 requests/s, 5, 25, 50 and 95 % for 300 s each with a check every 30 s and up
to three extensions a step, all through the code that the rollout workflow runs. Prints a table and one JSON
line, and exits with 1 if a scenario misses what is asked of it.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import median
from typing import Literal, NamedTuple

import numpy as np

from bench.gate_traffic import CHECK_SECONDS, SCENARIOS, Scenario, bucket
from domain.gate import GateSettings, GateState, judge, observe

SHARES = (5.0, 25.0, 50.0, 95.0)
STEP_CHECKS = 10
MAX_EXTENSIONS = 3


class Outcome(NamedTuple):
    """How a rollout ended, after how long, and how many requests the canary had served by then."""

    status: Literal["rolled back", "completed", "held"]
    seconds: int
    canary_requests: int


class Figures(NamedTuple):
    """A scenario over all its runs; the medians are over the runs that were rolled back."""

    name: str
    runs: int
    rolled_back: float
    completed: float
    held: float
    median_seconds: float | None
    median_bad_requests: float | None

    @classmethod
    def of(cls, name: str, outcomes: list[Outcome]) -> "Figures":
        rolled_back = [outcome for outcome in outcomes if outcome.status == "rolled back"]
        completed = sum(outcome.status == "completed" for outcome in outcomes)
        n = len(outcomes)
        return cls(
            name=name,
            runs=n,
            rolled_back=len(rolled_back) / n,
            completed=completed / n,
            held=(n - completed - len(rolled_back)) / n,
            median_seconds=median(o.seconds for o in rolled_back) if rolled_back else None,
            median_bad_requests=median(o.canary_requests for o in rolled_back) if rolled_back else None,
        )


def simulate(scenario: Scenario, seed: Iterable[int]) -> Outcome:
    """One rollout from 5 % to its end."""
    rng = np.random.default_rng(list(seed))
    settings, state, number = GateSettings(), GateState(), 0
    conditions = scenario.world.conditions(rng)
    for share in SHARES:
        for extension in range(MAX_EXTENSIONS + 1):
            for check in range(1, STEP_CHECKS + 1):
                number += 1
                now = next(conditions)
                state = observe(state, bucket(number, share, now, scenario.canary, rng), settings)
                judgement = judge(
                    state,
                    settings,
                    step_end=check == STEP_CHECKS,
                    before_full=share == SHARES[-2],
                    extension=extension,
                    max_extensions=MAX_EXTENSIONS,
                )
                if judgement.verdict == "unhealthy":
                    return Outcome("rolled back", number * CHECK_SECONDS, state.canary_requests)
            if judgement.verdict == "healthy":
                break
        else:
            return Outcome("held", number * CHECK_SECONDS, state.canary_requests)
    return Outcome("completed", number * CHECK_SECONDS, state.canary_requests)


def _run(seed: int, task: tuple[int, int]) -> Outcome:
    index, run = task
    return simulate(SCENARIOS[index], (seed, index, run))


def measure(runs: int, seed: int, workers: int) -> list[Figures]:
    """Every scenario, `runs` times; the same seed gives the same figures, whatever the workers."""
    figures = []
    with ProcessPoolExecutor(workers) as pool:
        for index, scenario in enumerate(SCENARIOS):
            tasks = [(index, run) for run in range(runs)]
            outcomes = list(pool.map(partial(_run, seed), tasks, chunksize=10))
            figures.append(Figures.of(scenario.name, outcomes))
            print(_row(figures[-1]), flush=True)
    return figures


def verdicts(figures: Iterable[Figures]) -> list[dict[str, object]]:
    """What is asked of each scenario, and whether it was reached."""
    asked = []
    for scenario, found in zip(SCENARIOS, figures, strict=True):
        if scenario.at_most is not None:
            bound, passed = f"<= {scenario.at_most}", found.rolled_back <= scenario.at_most
        elif scenario.at_least is not None:
            bound, passed = f">= {scenario.at_least}", found.rolled_back >= scenario.at_least
        else:
            continue
        asked.append(
            {"scenario": scenario.name, "rolledBack": found.rolled_back, "asked": bound, "passed": passed}
        )
    return asked


def _row(figures: Figures) -> str:
    detection = "-"
    if figures.median_seconds is not None and figures.median_bad_requests is not None:
        detection = f"{figures.median_seconds:.0f} / {figures.median_bad_requests:.0f}"
    return (
        f"{figures.name:<16} {figures.rolled_back:>11.3f} {figures.completed:>9.3f} "
        f"{figures.held:>6.3f}   {detection:>14}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=300, help="rollouts per scenario (300)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="processes (1)")
    options = parser.parse_args()
    print(f"{'scenario':<16} {'rolled back':>11} {'completed':>9} {'held':>6}   {'median s / bad':>14}")
    figures = measure(options.runs, options.seed, options.workers)
    gates = verdicts(figures)
    print(json.dumps({"seed": options.seed, "figures": [f._asdict() for f in figures], "gates": gates}))
    return 0 if all(gate["passed"] for gate in gates) else 1


if __name__ == "__main__":
    sys.exit(main())
