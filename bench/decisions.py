"""What decisions are worth, and whether they keep the bounds: `python -m bench.decisions`.

The loop is the product's: what was observed, `decide`, a canary of 300 requests beside the incumbent, its
measurements into the history, promotion by `recommend` where it names something, again. Compared on equal
budgets and promoted by the same rule: random, Thompson sampling over models, Optuna's TPE with constraints.
Captured is the true gain of what serves, as a share of the greatest that any configuration has which keeps
every hard constraint; what serves in breach of one has captured nothing. Prints a table and one JSON line,
and exits with 1 where a gate is missed.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean, median

import numpy as np

from bench import pictures
from bench.decision_loop import FIRST_REQUESTS, NOW, POLICIES, Conditions, Run, measured, problem_of, run
from bench.gates import Gate, concluded
from bench.listed import listed
from bench.policies import Random
from bench.recorded import recorded
from bench.synthetic import LEVELS, Base, synthetic
from bench.worlds import WORTH_TRYING, World
from domain.decision.decide import decide
from domain.decision.strategy import StructuredPriorStrategy

AFTER = (5, 10, 20)
RECORDED = Path(__file__).parent.parent.parent / "shared" / "traces" / "gsm8k_outcomes.csv"
GROUPS = ("listed-9", "synthetic-8", "synthetic-2", "settings-2", "recorded-2")
"""Nine models at list prices, eight made-up ones, and two: whose model and maxTokens alone may be chosen,
whose every setting may, and whose answers were recorded."""


def worlds_of(group: str, seed: int, base: Base, options: argparse.Namespace) -> list[World]:
    """The tasks of a group for one seed."""
    kind, slack = group.partition("-")[0], options.slack
    if kind == "listed":
        return [
            listed(seed, base, scored=scored, slack=slack, models=options.listed_models, number=number)
            for scored in (True, False)
            for number in range(8)
        ]
    if group == "recorded-2":
        return list(recorded(options.recorded, seed, slack)) if options.recorded.exists() else []
    count = options.models if group == "synthetic-8" else 2
    # Two models differ so much from pair to pair that more pairs are needed.
    return [
        synthetic(seed, level, base, models=count, slack=slack, number=number, heat=group != "synthetic-2")
        for level in LEVELS
        for number in range(8 if group == "synthetic-2" else 4 if count == 2 else 2)
    ]


def _task(
    options: argparse.Namespace, base: Base, conditions: Conditions, task: tuple[str, int]
) -> tuple[str, list[Run]]:
    group, seed = task
    runs = []
    for number, world in enumerate(worlds_of(group, seed, base, options)):
        runs += [run(world, name, 1000 * seed + number, conditions) for name in options.policies]
    return group, runs


def summary(runs: Sequence[Run]) -> dict[str, float]:
    """The figures of a policy over its runs; tasks in which nothing can be gained count for breaches only."""
    worth = [each for each in runs if each.oracle >= WORTH_TRYING]
    proposals, accepted = sum(r.proposals for r in runs), sum(r.accepted for r in runs)
    after = {
        f"captured{n}": mean(r.captured[n - 1] for r in worth) for n in AFTER if n <= len(runs[0].captured)
    }
    within = [0.05 <= below <= 0.95 for r in runs for each in r.foretold for below in each.below.values()]
    kept = {"within90": round(mean(within), 3)} if within else {}
    return (
        {key: round(value, 3) for key, value in after.items()}
        | kept
        | {
            "tasks": len(worth),
            "proposals": proposals,
            "breachingProposals": round(sum(r.breaching for r in runs) / max(proposals, 1), 3),
            "accepted": accepted,
            "acceptedBreaching": sum(r.accepted_breaching for r in runs),
        }
    )


def decision_seconds(observations: int, seed: int = 1, repeats: int = 7) -> float:
    """The median time of a decision over nine models with so many past configurations."""
    world = listed(seed, Base(), scored=True)
    rng = np.random.default_rng(seed)
    first = measured(world, world.incumbent, FIRST_REQUESTS, NOW, 1.0, rng)
    chooser = Random(world, first, seed)
    problem = problem_of(world, world.incumbent, [first], NOW)
    tried = [chooser.propose(problem) for _ in range(observations - 1)]
    seen = [measured(world, config, 100, NOW, 1.0, rng) for config in tried if config is not None]
    problem = problem.model_copy(update={"history": [first, *seen]})
    strategy, taken = StructuredPriorStrategy(), []
    for _ in range(repeats):
        started = time.perf_counter()
        decide(problem, strategy)
        taken.append(time.perf_counter() - started)
    return median(taken)


def gates_of(found: dict[str, dict[str, dict[str, float]]]) -> list[Gate]:
    """What section 3 of the design asks, as far as it was measured.

    It asks 0.90 of two models. With every setting to choose as well next to nothing is within the bounds of
    about one task in twenty, so that less is asked there.
    """
    gates = []
    floors = {
        "listed-9": 0.55,
        "synthetic-8": 0.50,
        "synthetic-2": 0.90,
        "settings-2": 0.85,
        "recorded-2": 0.90,
    }
    for group, by_policy in found.items():
        product, tpe = by_policy.get("product"), by_policy.get("tpe")
        if product is None:
            continue
        if "captured20" in product and group in floors:
            gates.append(Gate(f"{group}: captured after 20", product["captured20"], floors[group]))
        if tpe is not None:
            gates += _against_tpe(group, product, tpe)
    products = [by_policy["product"] for by_policy in found.values() if "product" in by_policy]
    whole = sum(p["accepted"] for p in products)
    share = sum(p["acceptedBreaching"] for p in products) / max(whole, 1)
    return [*gates, Gate("accepted breaches", round(share, 4), 0.02, ceiling=True)]


def _against_tpe(group: str, product: dict[str, float], tpe: dict[str, float]) -> list[Gate]:
    breaches = Gate(
        f"{group}: breaching proposals, product less TPE",
        round(product["breachingProposals"] - tpe["breachingProposals"], 3),
        0.0,
        ceiling=True,
    )
    # With two models a random choice captures most already: there TPE is to be beaten at all, and at once.
    wanted = {10: 1.5} if group == "listed-9" else {10: 1.0} if group == "synthetic-8" else {5: 1.0, 10: 1.0}
    found = [breaches]
    for n, factor in wanted.items():
        if f"captured{n}" in product:
            ratio = min(product[f"captured{n}"] / max(tpe[f"captured{n}"], 1e-9), 99.0)
            found.append(Gate(f"{group}: captured after {n} by TPE's", round(ratio, 2), factor))
    return found


def _print(group: str, name: str, figures: dict[str, float]) -> None:
    captured = "/".join(f"{figures.get(f'captured{n}', float('nan')):.2f}" for n in AFTER)
    print(
        f"{group:<12} {name:<9} {captured:>15} {figures['tasks']:>5}   "
        f"{figures['breachingProposals']:>6.2f} of {figures['proposals']:<5} "
        f"{figures['acceptedBreaching']:>3} of {figures['accepted']}",
        flush=True,
    )


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="a world each (1 2 3)")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--policies", nargs="+", choices=list(POLICIES), default=list(POLICIES))
    parser.add_argument("--budget", type=int, default=20, help="canaries (20)")
    parser.add_argument("--cost", type=float, default=Base().cost, help="USD per request at first (0.01)")
    parser.add_argument("--latency", type=float, default=Base().latency, help="p95 in ms at first (6000)")
    parser.add_argument("--quality", type=float, default=Base().quality, help="quality at first (80)")
    parser.add_argument("--models", type=int, default=8, help="models of a synthetic service (8)")
    parser.add_argument("--listed-models", type=int, default=9, help="models at list prices, up to 9 (9)")
    parser.add_argument("--slack", type=float, default=4.0, help="points of quality that may be lost (4)")
    parser.add_argument("--share", type=float, default=0.1, help="of the traffic, that a canary has (0.1)")
    parser.add_argument("--judged", type=float, default=1.0, help="share of answers scored (1)")
    parser.add_argument("--fixed", action="store_true", help="name what to promote, and never promote it")
    parser.add_argument("--recorded", type=Path, default=RECORDED, help="recorded outcomes, CSV")
    parser.add_argument("--workers", type=int, default=1, help="processes (1)")
    parser.add_argument("--draw", type=Path, help="a folder for the pictures of docs/decisions.md")
    parser.add_argument("--no-times", action="store_true", help="leave out the times of decisions")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> dict[str, list[Run]]:
    """Every run by group; a group without tasks is left out."""
    base = Base(options.cost, options.latency, options.quality)
    conditions = Conditions(options.budget, options.share, options.judged, not options.fixed)
    tasks = [(group, seed) for group in options.groups for seed in options.seeds]
    by_group: dict[str, list[Run]] = {group: [] for group in options.groups}
    with ProcessPoolExecutor(options.workers) as pool:
        for group, runs in pool.map(partial(_task, options, base, conditions), tasks):
            by_group[group] += runs
    return {group: runs for group, runs in by_group.items() if runs}


def main() -> int:
    options = parsed()
    print(f"{'tasks':<12} {'':<9} {'after 5/10/20':>15} {'':>5}   {'in breach: tried':<16} kept")
    runs = measure(options)
    found = {
        group: {name: summary([r for r in each if r.policy == name]) for name in options.policies}
        for group, each in runs.items()
    }
    if options.draw is not None:
        pictures.draw(options.draw, runs)
    for group, by_policy in found.items():
        for name, figures in by_policy.items():
            _print(group, name, figures)
    if "recorded-2" in options.groups:
        print(
            "recorded-2: recorded answers and tokens; latency and truncation are modelled from the tokens"
            if "recorded-2" in found
            else f"recorded-2: left out, {options.recorded} is not there"
        )
    gates = gates_of(found)
    if not options.no_times:
        gates += [
            Gate(f"seconds of a decision at {n:,}", round(decision_seconds(n), 3), most, ceiling=True)
            for n, most in ((50, 0.25), (5000, 1.0))
        ]
    return concluded("decisions", gates, seeds=options.seeds, figures=found)


if __name__ == "__main__":
    sys.exit(main())
