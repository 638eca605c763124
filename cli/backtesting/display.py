"""A backtest on the screen."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from cli.backtesting.run import Progress
from domain.backtest.report import Backtest, Compared, Kept, Proposal, Skipped, Summary
from domain.decision import wording
from domain.times import told

_COLOURS = {"better": "green", "worse": "red", "rolled_back": "red", "undecided": "yellow", "unknown": "dim"}
_ORDER = ("better", "worse", "rolled_back", "undecided", "unknown")
_PAGE_WIDTH = 120


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on stderr while decisions are made, where that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _done, _whole: None
        return
    with Bar(console=console, transient=True) as bar:
        task = bar.add_task("deciding", total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)


def print_json(report: Backtest) -> None:
    """JSON lines on stdout: what was replayed, each line in the order of time, the summary."""
    for part in (report.heading, *report.lines, report.summary):
        sys.stdout.write(json.dumps(part.to_json(), ensure_ascii=False) + "\n")


def print_tables(report: Backtest) -> None:
    """The report for people, on stdout."""
    console = Console() if sys.stdout.isatty() else Console(width=_PAGE_WIDTH)
    heading = report.heading
    every = wording.duration(1000 * heading.every_seconds)
    span = f"{told(heading.since)} to {told(heading.until)} UTC, a decision every {every}"
    console.print(Text.assemble((heading.service, "bold"), f": {span}"))
    for note in heading.notes:
        console.print(Text(f"- {note}"))
    proposals = [line for line in report.lines if isinstance(line, Proposal)]
    if proposals:
        console.print(_proposals(proposals))
    for number, proposal in enumerate(proposals, start=1):
        _print_outcome(console, number, proposal)
    _print_summary(console, report.summary)


def _proposals(proposals: list[Proposal]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in (
        "",
        "proposed (UTC)",
        "times",
        "in place of",
        "change",
        "confidence",
        "expected",
        "outcome",
    ):
        table.add_column(column, justify="right" if column in ("times", "confidence") else "left")
    for number, proposal in enumerate(proposals, start=1):
        verdict = proposal.outcome.verdict
        table.add_row(
            str(number),
            _span(proposal),
            str(proposal.times),
            proposal.incumbent_version,
            proposal.changes,
            f"{proposal.confidence:.2f}",
            ", ".join(f"{metric} {value:+.0%}" for metric, value in proposal.expected_improvement.items()),
            Text(verdict.replace("_", " "), style=_COLOURS[verdict]),
        )
    return table


def _print_outcome(console: Console, number: int, proposal: Proposal) -> None:
    outcome = proposal.outcome
    if outcome.evidence == "none":
        return
    console.print(
        Text.assemble((f"{number}  {outcome.verdict.replace('_', ' ')}", "bold"), f": {outcome.words}")
    )
    for compared in outcome.metrics:
        console.print(Text(f"   {_compared(compared)}"))
    for kept in outcome.constraints:
        console.print(Text(f"   {_kept(kept)}"))
    if outcome.not_measured:
        console.print(Text(f"   not compared for want of figures: {', '.join(outcome.not_measured)}"))


def _compared(compared: Compared) -> str:
    before = wording.value(compared.metric, compared.incumbent)
    after = wording.value(compared.metric, compared.proposed)
    text = f"{compared.metric}: {before} -> {after}"
    if compared.change is not None:
        text += f", {compared.change:+.1%}"
    if compared.predicted_change is not None:
        text += f"; predicted {compared.predicted_change:+.1%}"
    if compared.interval != "unknown":
        text += ", within its interval" if compared.interval == "held" else ", outside its interval"
    return text


def _kept(kept: Kept) -> str:
    if kept.value is None:
        return f"{kept.constraint}: unknown, {kept.metric} was not measured"
    return f"{kept.constraint}: {kept.standing}, {kept.metric} was {wording.value(kept.metric, kept.value)}"


def _print_summary(console: Console, summary: Summary) -> None:
    console.print(
        Text.assemble(
            ("Decisions ", "bold"),
            f"{summary.decisions:,}: {summary.proposing:,} proposals, merged to {summary.proposals:,}; "
            f"{summary.skipping:,} skips",
        )
    )
    for skip in summary.skips:
        console.print(Text(f"- {skip.times:,} x {skip.reasoning}"))
    if not summary.proposals:
        return
    counts = [f"{summary.outcomes[v]:,} {v.replace('_', ' ')}" for v in _ORDER if v in summary.outcomes]
    breaches = f"; {summary.breaches:,} measured past a hard constraint" if summary.breaches else ""
    console.print(Text.assemble(("Outcomes ", "bold"), ", ".join(counts), breaches))
    calibration = summary.calibration
    if calibration.intervals:
        brier = "" if calibration.brier is None else f"; Brier score {calibration.brier:.2f}"
        console.print(
            Text.assemble(
                ("Calibration ", "bold"),
                f"{calibration.held} of {calibration.intervals} predicted 90 % intervals held{brier} "
                f"over {calibration.judged} judged changes",
            )
        )


def _span(line: Proposal | Skipped) -> str:
    first, last = told(line.since), told(line.until)
    return first if line.times == 1 else f"{first} .. {last}"
