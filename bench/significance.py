"""How often the tests of significance find what is not there, and what is: `python -m bench.significance`.

Windows of five minutes with AR(1) noise, without and with a daily cycle. For each autocorrelation, the part
of the runs in which each test has p < .05: of the project's own, and of what one would take instead: the
plain t-test and Mann-Whitney's on the windows before and since, Mann-Kendall's as it is and as Hamed & Rao
inflate it (pymannkendall) on the same deseasonalised points as the project's. Then the same with a shift or a
rise in the data. Then the rollout gate's mean and count tests where both arms share the noise, at any of 60
looks, beside a z-test on the pooled sums. Then the time of each test.

Prints tables and one JSON line, and exits with 1 where a gate is missed.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pymannkendall
from scipy import stats

from bench.gates import Gate, concluded
from bench.noise import Base, World, ar1, world
from domain.analysis.changes import Change, golden, judged, pre_change, rolling, same_hour
from domain.analysis.seasonal import DailyProfile, deseasonalised
from domain.analysis.trends import Trend, trend
from domain.gate.counts import Count, evidence, mixture, ratio_step
from domain.gate.means import HARM_RHO, Moments, PairSums

RHOS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)
HIGHEST_GATED = 0.8
ALPHA = 0.05
FALSE_POSITIVES = 0.08
GATE_LOOKS = 60
GATE_REQUESTS = 600
ERRORS_GRID = (1.5, 2, 3, 5, 10, 20, 50)
OWN = ("same-hour", "pre-change", "rolling", "golden", "trend")
PLAIN = ("t", "Mann-Whitney", "Mann-Kendall", "Hamed-Rao")
PLAIN_EVERY = 5
SHORT_HISTORY = 4
SHIFT, RISE = 1.5, 3.0
POWER_RHOS = (0.0, 0.6, 0.8)
ARMS = ("gate mean", "gate count", "pooled z mean", "pooled z count")


class Setting(NamedTuple):
    """What a cell of the tables is measured on."""

    rho: float
    cycle: bool
    n: int = 60
    days: int = 14
    shift: float = 0.0
    rise: float = 0.0

    def in_words(self) -> str:
        """A row's name."""
        effect = f", shift {self.shift:g}" if self.shift else f", rise {self.rise:g}" if self.rise else ""
        return f"rho {self.rho:g}{', cycle' if self.cycle else ''}, n {self.n}{effect}"


def p_values(given: World, *, plain: bool, base: Base) -> dict[str, float]:
    """Every test's p in one world; 1 where it cannot be told.

    Golden's reference is the true level, known for certain, and what it judges is without its cycle.
    """
    profile = DailyProfile.of(given.history)
    now = deseasonalised(given.now, profile)
    found: dict[str, Change | Trend | None] = {
        "same-hour": same_hour("x", float(given.now.values.mean()), given.same_hours),
        "pre-change": pre_change("x", given.before, given.now, profile),
        "rolling": rolling("x", given.day_before, given.now),
        "golden": golden("x", now, base.level, 0.0, len(given.history)),
        "trend": trend("x", now.times, now.values),
    }
    told = {name: 1.0 if judgement is None else judgement.p for name, judgement in found.items()}
    if plain:
        before, after = given.before.values, given.now.values
        told["t"] = float(stats.ttest_ind(before, after).pvalue)
        told["Mann-Whitney"] = float(stats.mannwhitneyu(before, after).pvalue)
        told["Mann-Kendall"] = float(pymannkendall.original_test(now.values).p)
        # Its variance comes out negative at times, and then it tells nothing.
        with np.errstate(invalid="ignore"):
            told["Hamed-Rao"] = float(pymannkendall.hamed_rao_modification_test(now.values).p)
    return told


def rates(setting: Setting, runs: int, seed: int, base: Base) -> dict[str, float]:
    """The part of the runs in which each test has p < .05; of the plain ones, in every fifth run.

    One seed gives the same noise to every setting.
    """
    within = base if setting.cycle else base._replace(amplitude=0.0)
    found: dict[str, list[bool]] = {name: [] for name in (*OWN, *PLAIN)}
    for run in range(runs):
        given = world(
            np.random.default_rng([seed, run]),
            n=setting.n,
            rho=setting.rho,
            days=setting.days,
            base=within,
            shift=setting.shift,
            rise=setting.rise,
        )
        for name, p in p_values(given, plain=run % PLAIN_EVERY == 0, base=base).items():
            found[name].append(p < ALPHA)
    return {name: float(np.mean(hits)) for name, hits in found.items()}


def gate_rates(rho: float, runs: int, seed: int, base: Base) -> dict[str, float]:
    """How often the gate's own tests reach 20 at any look, and pooled z-tests p < .05 at the last, in A/A.

    Both arms have the same moving level, which spreads twice as far as requests do around it, and the same
    moving error rate, 2 % in the median; the canary's share rises from 5 to 50 %.
    """
    hits = dict.fromkeys(ARMS, 0)
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        levels = base.level + base.sd * ar1(rng, GATE_LOOKS, rho)
        errors = 0.02 * np.exp(0.67 * ar1(rng, GATE_LOOKS, rho))
        for name, crossed in _rollout(rng, levels, np.minimum(errors, 1.0), base.sd / 2).items():
            hits[name] += crossed
    return {name: count / runs for name, count in hits.items()}


def _rollout(
    rng: np.random.Generator, levels: np.ndarray, errors: np.ndarray, spread: float
) -> dict[str, bool]:
    pair, ln_l = PairSums(), np.zeros(len(ERRORS_GRID))
    mean_e = count_e = 0.0
    arms: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    failed = [0, 0]
    for look, (level, rate) in enumerate(zip(levels, errors, strict=True)):
        canary = round(GATE_REQUESTS * (0.05, 0.25, 0.5)[look * 3 // levels.size])
        sizes = (GATE_REQUESTS - canary, canary)
        values = [rng.normal(level, spread, size) for size in sizes]
        counts = [Count(int(rng.binomial(size, rate)), size) for size in sizes]
        pair = pair.add(Moments.of(values[0]), Moments.of(values[1]))
        mean_e = max(mean_e, evidence(pair.excess(1.0, 0.0, spread).ln_evidence(HARM_RHO)))
        ln_l = ln_l + ratio_step(counts[1], counts[0], 1.0, ERRORS_GRID)
        count_e = max(count_e, mixture(ln_l.tolist()))
        for arm in (0, 1):
            arms[arm].append(values[arm])
            failed[arm] += counts[arm].events
    control, served = (np.concatenate(arm) for arm in arms)
    means = stats.ttest_ind(served, control, equal_var=False, alternative="greater")
    rate = (failed[0] + failed[1]) / (served.size + control.size)
    difference = failed[1] / served.size - failed[0] / control.size
    z = difference / np.sqrt(rate * (1 - rate) * (1 / served.size + 1 / control.size)) if rate else 0.0
    return {
        "gate mean": mean_e >= 1 / ALPHA,
        "gate count": count_e >= 1 / ALPHA,
        "pooled z mean": bool(means.pvalue < ALPHA),
        "pooled z count": bool(stats.norm.sf(z) < ALPHA),
    }


def timed(rounds: int, seed: int, base: Base) -> dict[str, float]:
    """Median milliseconds of CPU of a call: 120 points a side, after 14 days; ten changes judged."""
    given = world(np.random.default_rng(seed), n=120, rho=0.6, days=14, base=base)
    profile = DailyProfile.of(given.history)
    now = deseasonalised(given.now, profile)
    level = float(given.now.values.mean())
    change = same_hour("x", level, given.same_hours)
    calls: dict[str, Callable[[], object]] = {
        "trend": partial(trend, "x", now.times, now.values),
        "same-hour": partial(same_hour, "x", level, given.same_hours),
        "pre-change": partial(pre_change, "x", given.before, given.now, profile),
        "rolling": partial(rolling, "x", given.day_before, given.now),
        "golden": partial(golden, "x", now, base.level, base.sd / 100, 1000),
        "judged": partial(judged, [change] * 10 if change else []),
        "profile": partial(DailyProfile.of, given.history),
    }
    return {name: round(_median_ms(call, rounds), 4) for name, call in calls.items()}


def _median_ms(call: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    return float(np.median(taken)) * 1000


def gates(
    false: dict[Setting, dict[str, float]],
    shared: dict[float, dict[str, float]],
    milliseconds: dict[str, float],
) -> list[Gate]:
    """What is asked: the worst false positives of each test at rho <= .8 and of the gate's, and the times."""
    found = []
    for name in OWN:
        worst = max(rate[name] for setting, rate in false.items() if setting.rho <= HIGHEST_GATED)
        found.append(Gate(f"{name}: false positives", worst, FALSE_POSITIVES, stretch=0.06, ceiling=True))
    for name in ARMS[:2]:
        worst = max(rate[name] for rate in shared.values())
        found.append(Gate(f"{name}: false positives", worst, ALPHA, ceiling=True))
    found.append(Gate("trend ms", milliseconds["trend"], 1.0, ceiling=True))
    for name in OWN[:-1]:
        found.append(Gate(f"{name} ms", milliseconds[name], 0.3, ceiling=True))
    return found


def _table(title: str, rows: Iterable[tuple[str, dict[str, float]]]) -> None:
    for number, (name, found) in enumerate(rows):
        if number == 0:
            print(f"\n{title}\n{'':<30}" + " ".join(f"{column:>14}" for column in found))
        print(f"{name:<30}" + " ".join(f"{value:>14.3f}" for value in found.values()), flush=True)


def settings() -> tuple[list[Setting], list[Setting], list[Setting]]:
    """Without an effect; without one and with few days of history; with a shift or a rise."""
    cycles = (False, True)
    false = [Setting(rho, cycle) for cycle in cycles for rho in RHOS]
    false += [Setting(rho, True, n=120) for rho in POWER_RHOS]
    short = [Setting(rho, cycle, days=SHORT_HISTORY) for cycle in cycles for rho in POWER_RHOS]
    real = [Setting(rho, cycle, shift=SHIFT) for cycle in cycles for rho in POWER_RHOS]
    real += [Setting(rho, cycle, rise=RISE) for cycle in cycles for rho in POWER_RHOS]
    return false, short, real


def main() -> int:
    """Measure all of it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--runs", type=int, default=1000, help="series per row (1000), a quarter where there is an effect"
    )
    parser.add_argument("--gate-runs", type=int, default=300, help="rollouts per row (300)")
    parser.add_argument("--seed", type=int, default=1)
    for name, value in Base()._asdict().items():
        parser.add_argument(f"--{name}", type=float, default=value, help=f"of the series ({value:g})")
    options = parser.parse_args()
    base = Base(options.level, options.sd, options.amplitude)
    without, with_few_days, with_effect = settings()
    false = _measured("False positives", without, options.runs, options.seed, base)
    title = f"False positives, {SHORT_HISTORY} days of history"
    short = _measured(title, with_few_days, options.runs, options.seed, base)
    real = _measured("Found", with_effect, max(options.runs // 4, 1), options.seed, base)
    shared = {rho: gate_rates(rho, options.gate_runs, options.seed, base) for rho in RHOS}
    _table(
        "Rollouts without a difference, both arms sharing the noise",
        ((f"rho {k}", v) for k, v in shared.items()),
    )
    milliseconds = timed(300, options.seed, base)
    _table("Milliseconds", [("", milliseconds)])
    print()
    return concluded(
        "significance",
        gates(false, shared, milliseconds),
        seed=options.seed,
        runs=options.runs,
        base=base._asdict(),
        falsePositives=_listed(false),
        shortHistory=_listed(short),
        power=_listed(real),
        gateFalsePositives=[{"rho": rho, **found} for rho, found in shared.items()],
        milliseconds=milliseconds,
    )


def _measured(
    title: str, rows: Iterable[Setting], runs: int, seed: int, base: Base
) -> dict[Setting, dict[str, float]]:
    found: dict[Setting, dict[str, float]] = {}

    def measured() -> Iterable[tuple[str, dict[str, float]]]:
        for setting in rows:
            found[setting] = rates(setting, runs, seed, base)
            yield setting.in_words(), found[setting]

    _table(title, measured())
    return found


def _listed(found: dict[Setting, dict[str, float]]) -> list[dict[str, Any]]:
    return [setting._asdict() | rate for setting, rate in found.items()]


if __name__ == "__main__":
    sys.exit(main())
