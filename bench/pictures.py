"""The pictures of docs/decisions.md, made of the runs of the benchmark and of one decision."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.decision_loop import CANARY_REQUESTS, FIRST_REQUESTS, NOW, Run, measured, problem_of
from bench.listed import listed
from bench.synthetic import Base
from bench.worlds import WORTH_TRYING, World
from domain.config import LLMConfig
from domain.decision.decide import decide
from domain.decision.foresight import foresee
from domain.decision.history import Observation
from domain.decision.problem import Skip
from domain.decision.strategy import StructuredPriorStrategy

NAMES = {"product": "this product", "tpe": "Optuna TPE", "thompson": "Thompson", "random": "random"}
TITLES = {
    "listed-9": "nine models",
    "synthetic-8": "eight models",
    "synthetic-2": "two models",
    "settings-2": "two models, every setting",
    "recorded-2": "two models, recorded",
}
COLOURS = {"product": "#0b6e4f", "tpe": "#c1666b", "thompson": "#8d99ae", "random": "#c9ada7"}
STYLES = {"cost.avg": "-", "latency.p95": "--", "quality.avg": ":", "errors.rate": "-."}
INK, FAINT = "#22333b", "#b8b8b8"
CANARIES = 4
SEED = 13


def draw(folder: Path, runs: Mapping[str, Sequence[Run]]) -> None:
    """Write `decision.svg`, `gain.svg` and `trust.svg` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    # Without a date and with fixed ids the same runs give the same file.
    with mpl.rc_context({"svg.hashsalt": "decisions", "font.size": 9, "svg.fonttype": "none"}):
        for name, figure in (("decision", _decision()), ("gain", _gain(runs)), ("trust", _trust(runs))):
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def _decision() -> Figure:
    """What is believed of nine models before and after a few canaries, beside what is true."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    world = listed(SEED, Base(), scored=False)
    rng = np.random.default_rng(SEED)
    history = [measured(world, world.incumbent, FIRST_REQUESTS, NOW, 1.0, rng)]
    _believed(axes[0], world, history)
    axes[0].set_title("before the first canary")
    strategy = StructuredPriorStrategy()
    for _ in range(CANARIES):
        outcome = decide(problem_of(world, world.incumbent, history), strategy)
        if isinstance(outcome, Skip):
            break
        history.append(measured(world, outcome.recommended_config, CANARY_REQUESTS, NOW, 1.0, rng))
    _believed(axes[1], world, history)
    axes[1].set_title(f"after {len(history) - 1} canaries")
    axes[0].set_ylabel("quality")
    axes[1].legend(loc="lower right", frameon=False)
    return figure


def _believed(axes: Axes, world: World, history: Sequence[Observation]) -> None:
    problem = problem_of(world, world.incumbent, history)
    outcome = decide(problem, StructuredPriorStrategy())
    chosen = None if isinstance(outcome, Skip) else outcome.recommended_config
    floor = next(c.min for c in world.constraints if c.metric == "quality.avg")
    axes.axhline(floor or 0.0, color=COLOURS["tpe"], linewidth=1, linestyle="--")
    axes.annotate("floor", (0.01, floor or 0.0), xycoords=("axes fraction", "data"), color=COLOURS["tpe"])
    tried = {observation.config.model_key for observation in history}
    configs = _one_each(world, history, chosen)
    for number, config in enumerate(configs):
        truth = world.truth(config)
        axes.plot(
            truth["cost.avg"], truth["quality.avg"], "x", color=INK, label="" if number else "the truth"
        )
        believed = foresee(problem, config)
        if believed is None:
            continue
        cost, quality = (believed.predictions[metric] for metric in ("cost.avg", "quality.avg"))
        known = config.model_key in tried
        colour = COLOURS["product"] if known else FAINT
        axes.errorbar(
            cost.mean,
            quality.mean,
            xerr=[[cost.mean - cost.low], [cost.high - cost.mean]],
            yerr=[[quality.mean - quality.low], [quality.high - quality.mean]],
            fmt="o",
            markersize=4,
            color=colour,
            linewidth=1,
        )
        if chosen is not None and config == chosen:
            axes.plot(cost.mean, quality.mean, "o", ms=11, mfc="none", color=INK, label="proposed")
    axes.plot([], [], "o", color=COLOURS["product"], label="predicted, tried (90 %)")
    axes.plot([], [], "o", color=FAINT, label="predicted, never tried")
    axes.set_xscale("log")
    axes.set_xlabel("cost of a request, USD")
    axes.set_ylim(0, 100)


def _one_each(world: World, history: Sequence[Observation], chosen: LLMConfig | None) -> list[LLMConfig]:
    """A configuration of each model: the one proposed, else the last one tried, else at present settings."""
    last = {observation.config.model_key: observation.config for observation in history}
    if chosen is not None:
        last[chosen.model_key] = chosen
    plain = {
        model.key: world.incumbent.model_copy(update={"provider": model.provider, "model": model.model})
        for model in world.models
    }
    return list((plain | last).values())


def _gain(runs: Mapping[str, Sequence[Run]]) -> Figure:
    """The share of the possible gain that serves after each canary, by group and policy."""
    figure = Figure(figsize=(9, 3.1), layout="constrained")
    axes = figure.subplots(1, len(runs), sharey=True, squeeze=False)[0]
    for panel, (group, found) in zip(axes, runs.items(), strict=True):
        for name, label in NAMES.items():
            captured = [r.captured for r in found if r.policy == name and r.oracle >= WORTH_TRYING]
            if captured:
                mean = np.mean(captured, axis=0)
                panel.plot(np.arange(1, len(mean) + 1), mean, color=COLOURS[name], label=label)
        panel.set_title(TITLES[group], fontsize=9)
        panel.set_ylim(0, 1.02)
        panel.set_xlabel("canaries")
    axes[0].set_ylabel("gain captured")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _trust(runs: Mapping[str, Sequence[Run]]) -> Figure:
    """How often intervals held that were to hold so often, and how often plans of a confidence came true."""
    foretold = [each for found in runs.values() for r in found for each in r.foretold]
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
    levels = np.linspace(0.05, 0.99, 40)
    for metric, style in STYLES.items():
        below = np.array([each.below[metric] for each in foretold if metric in each.below])
        if below.size:
            held = [np.mean(np.abs(2 * below - 1) <= level) for level in levels]
            left.plot(levels, held, style, color=COLOURS["product"], label=metric)
    left.set_xlabel("an interval that is to hold so often")
    left.set_ylabel("held")
    left.legend(frameon=False, fontsize=8)
    confidence = np.array([each.confidence for each in foretold])
    true = np.array([each.came_true for each in foretold], dtype=float)
    edges = np.linspace(0, 1, 11)
    for low, high in pairwise(edges.tolist()):
        inside = (confidence >= low) & (confidence < high)
        if inside.sum() >= 10:
            right.plot(
                confidence[inside].mean(),
                true[inside].mean(),
                "o",
                color=COLOURS["product"],
                markersize=3 + inside.sum() ** 0.5 / 2,
            )
    right.set_xlabel("confidence of a plan")
    right.set_ylabel("better, and within the bounds")
    return figure
