"""Reads what conditions are judged by: windows of metrics from the rollups, and what the analysis found."""

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncSession

from domain.analytics import MINUTE_MS
from domain.conditions import WINDOW_MS, Window
from domain.rules.needs import Needs
from domain.rules.signals import Findings, Snapshot, WindowFacts
from domain.totals import Totals
from storage import observations, rollup_reader, rule_findings
from storage.rollup_reader import Question, Span


async def read(session: AsyncSession, wanted: Mapping[str, Needs], now: int) -> dict[str, Snapshot]:
    """By service, what its conditions need, over windows that end with the last whole minute by `now` (ms).

    One question per length of window, however many services there are. Endpoints with a configuration of
    their own are left out, as in all that is compared of a service.
    """
    end = now // MINUTE_MS * MINUTE_MS
    windows: dict[str, dict[tuple[Window, int], WindowFacts]] = defaultdict(dict)
    for window in WINDOW_MS:
        asking = {name: needs for name, needs in wanted.items() if window in needs.windows}
        if not asking:
            continue
        found = await _totals(session, asking, window, end)
        seconds = WINDOW_MS[window] / 1000
        for service, needs in asking.items():
            for back in range(needs.windows[window]):
                totals = found.get((service, back), Totals())
                windows[service][window, back] = WindowFacts.of(totals, seconds)
    asked = sorted(name for name, needs in wanted.items() if needs.findings)
    known = await rule_findings.present(session, asked) if asked else {}
    return {name: Snapshot(windows[name], known.get(name, Findings())) for name in wanted}


async def _totals(
    session: AsyncSession, asking: Mapping[str, Needs], window: Window, end: int
) -> dict[tuple[str, int], Totals]:
    """Totals by service and how many windows back."""
    length = WINDOW_MS[window]
    count = max(needs.windows[window] for needs in asking.values())
    metrics = sorted({metric for needs in asking.values() for metric in needs.metrics})
    covered = await observations.coverage_of(session, sorted(asking))
    question = Question(
        Span(end - count * length, end, length, end),
        by=("service",),
        where=covered.where("r.service", "r.endpoint"),
        parameters=covered.parameters,
        amounts=rollup_reader.amounts_for(metrics),
        sketches=rollup_reader.sketches_for(metrics),
    )
    return {
        (cell.group[0] or "", (end - cell.at) // length - 1): cell.totals
        async for cell in rollup_reader.read(session, question)
    }
