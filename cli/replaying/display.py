"""A replay on the screen: live on a terminal, line by line elsewhere, and the report at its end."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from llm_auto_optimizer import Deployment, Guardrail, Step
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.replaying.progress import Progress, View
from cli.replaying.report import ReplayReport
from cli.replaying.tally import Totals

_COLOURS = {"healthy": "green", "unhealthy": "red", "inconclusive": "yellow"}
_MISSING = "–"
_PAGE_WIDTH = 120


def report_console() -> Console:
    """stdout; wide enough for the tables where it is no terminal and so has no width."""
    return Console() if sys.stdout.isatty() else Console(width=_PAGE_WIDTH)


@contextmanager
def progress_view() -> Iterator[View]:
    """A view on stderr: a live table on a terminal, plain lines elsewhere."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield LineView(console)
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield LiveView(live)


class LiveView:
    """Redraws one table."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def update(self, progress: Progress) -> None:
        parts: list[RenderableType] = [Text(headline(progress, verdicts=False), style="bold")]
        if progress.deployment is not None:
            parts.append(steps_table(progress.deployment["steps"]))
        self._live.update(Group(*parts))


class LineView:
    """Prints a line when something changes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: tuple[object, ...] = ()

    def update(self, progress: Progress) -> None:
        changed = (progress.stage, _status(progress), _verdicts(progress.deployment))
        if changed != self._last:
            self._last = changed
            self._console.print(headline(progress), highlight=False, soft_wrap=True)


def headline(progress: Progress, *, verdicts: bool = True) -> str:
    """Where the replay is, in a line, with or without each step's verdict."""
    parts = [progress.stage, f"{progress.tally.sent:,} requests sent"]
    if progress.optimization is not None and progress.deployment is None:
        optimization = progress.optimization
        parts.append(f"optimization {optimization['status']}, {optimization['currentPhase']}")
    deployment = progress.deployment
    if deployment is not None:
        change = f"{deployment['fromVersion']} -> {deployment['toVersion']}"
        parts.append(f"{change} {deployment['status']} at {deployment['trafficPercent']:.3g} %")
        parts.append(" ".join(_verdicts(deployment)) if verdicts else "")
    return " · ".join(part for part in parts if part)


def steps_table(steps: list[Step]) -> Table:
    """Each step's verdict, and its guardrails: canary against control."""
    table = _table(
        ("step", "verdict", "metric"), ("control", "canary", "difference", "interval", "evidence", "requests")
    )
    for step in steps:
        if "startedAt" in step:
            _add_step(table, step)
    return table


def print_report(report: ReplayReport, console: Console) -> None:
    """The report for people."""
    for title, text in (
        ("Decision", f"{report.decision}: {report.reasoning}"),
        ("Rollout", _outcome(report)),
        ("Canary", f"served {report.canary_requests:,} of {report.requests:,} requests"),
        ("Saving", _saving(report)),
    ):
        if text:
            console.print(Text.assemble((f"{title:10}", "bold"), text))
    if report.steps:
        console.print(steps_table(report.steps))
    console.print(_traffic_table(report))
    console.print(Text("What is modelled, not recorded", style="bold"))
    for note in report.modelled:
        console.print(Text(f"- {note}"))
    console.print(Text("Where to look", style="bold"))
    for name, link in report.links.items():
        console.print(Text(f"- {name}: {link}"), soft_wrap=True)


def _outcome(report: ReplayReport) -> str:
    text = f"{report.status}, {report.from_version} -> {report.to_version}"
    if report.from_version == report.to_version:
        text = f"{report.status}, {report.from_version} stays"
    if report.rollback is not None:
        text += f": {report.rollback['reason']}"
    if report.status == "held":
        text += ": the evidence is not enough; promote or abort it by the API"
    return text if report.ended else f"{text} (the time limit came first)"


def _saving(report: ReplayReport) -> str:
    saving = report.saving
    if saving is None:
        return ""
    return (
        f"{saving.fraction:.1%} of the cost, canary against control at the same time: "
        f"${saving.control_usd:.6f} -> ${saving.canary_usd:.6f} a request, "
        f"${saving.usd_per_month:,.0f} in 30 days at the recorded {saving.requests_per_second:.2g} requests/s"
    )


def _table(names: tuple[str, ...], figures: tuple[str, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in names:
        table.add_column(column)
    for column in figures:
        table.add_column(column, justify="right")
    return table


def _add_step(table: Table, step: Step) -> None:
    verdict = step.get("verdict", "running")
    extended = f" +{step['extensions']}" if step["extensions"] else ""
    cells = (f"{step['percent']:.3g} %{extended}", Text(verdict, style=_COLOURS.get(verdict, "")))
    for guardrail in step["guardrails"]:
        table.add_row(*cells, *_readings(guardrail))
        cells = ("", Text(""))
    if not step["guardrails"]:
        table.add_row(*cells)


def _readings(guardrail: Guardrail) -> list[str]:
    samples = guardrail["samples"]
    low, high = guardrail.get("low"), guardrail.get("high")
    interval = _MISSING if low is None and high is None else f"{_number(low)} .. {_number(high)}"
    return [
        guardrail["metric"],
        _number(guardrail.get("control")),
        _number(guardrail.get("canary")),
        _number(guardrail.get("difference")),
        interval,
        _number(guardrail["evidence"]),
        f"{samples['control']:,} / {samples['canary']:,}",
    ]


def _traffic_table(report: ReplayReport) -> Table:
    table = _table(
        ("served", "version", "model"), ("requests", "USD/request", "ms avg", "ms p95", "errors", "quality")
    )
    table.caption = "Only control and canary ran side by side; before and after are other requests."
    table.caption_justify = "left"
    for name in ("before", "control", "canary", "after"):
        totals: Totals | None = getattr(report, name)
        if totals is not None:
            table.add_row(name, *_totals_cells(totals))
    return table


def _totals_cells(totals: Totals) -> list[str]:
    figures = totals.to_json()
    return [
        totals.version,
        totals.model,
        f"{totals.requests:,}",
        _number(totals.cost_avg),
        f"{figures['latencyAvg']:,.0f}",
        f"{figures['latency']:,.0f}",
        f"{figures['errors']:.1%}",
        f"{figures['quality']:.1f}",
    ]


def _number(value: float | None) -> str:
    return _MISSING if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _status(progress: Progress) -> str | None:
    return None if progress.deployment is None else progress.deployment["status"]


def _verdicts(deployment: Deployment | None) -> tuple[str, ...]:
    if deployment is None:
        return ()
    return tuple(
        f"{step['percent']:.3g} %: {step.get('verdict', 'running')}"
        for step in deployment["steps"]
        if "startedAt" in step
    )
