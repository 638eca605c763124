"""Holds rules against what was recorded of a service."""

import asyncio
from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.conditions import Rule
from domain.errors import InvalidRequest
from domain.rules.needs import needs
from domain.rules.past import Course, Past
from domain.rules.rehearsal import DryRunRequest, DryRunResponse, course, rehearse
from domain.totals import Totals
from storage import analytics, observations, rollouts, rollup_reader, rule_findings
from storage.database import deadline
from storage.rollup_reader import Question, Span
from storage.rule_findings import PastFindings
from storage.tables import Millis


async def dry_run(
    session: AsyncSession, service: str, rules: Sequence[Rule], request: DryRunRequest
) -> DryRunResponse:
    """When each rule would have fired in the past that a request names, up to now.

    What began before the first report that is still kept is not known.

    Raises:
        InvalidRequest: that past has not begun, or it is too much.
        TimedOut: it takes too long.
    """
    now = await rollouts.clock(session)
    end = min(request.end, now)
    if request.start >= now:
        raise InvalidRequest("start: the future has not been recorded yet")
    laid = course(rules, request.start, end, request.step_ms)
    past, known = await recorded(session, service, rules, laid)
    return DryRunResponse(
        start=laid.moments[0],
        end=laid.moments[-1],
        step_ms=request.step_ms,
        moments=len(laid.moments),
        rules=await asyncio.to_thread(rehearse, rules, laid, past, known),
    )


async def recorded(
    session: AsyncSession, service: str, rules: Sequence[Rule], laid: Course
) -> tuple[Past, PastFindings]:
    """What was reported and found of a service, as far as some rules ask, over a course laid out for them.

    Raises:
        TimedOut: it takes too long.
    """
    async with deadline(session, analytics.QUERY_SECONDS):
        totals = await _cells(session, service, rules, laid)
        first = await _first_minute(session, service)
    known = await rule_findings.past(session, service, laid.moments[0], laid.moments[-1] + 1)
    return Past(laid, totals, first), known


async def _cells(
    session: AsyncSession, service: str, rules: Sequence[Rule], laid: Course
) -> dict[int, Totals]:
    """What was reported, by cell; cells in which nothing was are left out."""
    if not laid.cells:
        return {}
    metrics = sorted(needs(rule.condition for rule in rules).metrics)
    covered = await observations.coverage(session, service)
    question = Question(
        Span(laid.origin, laid.origin + laid.cells * laid.length, laid.length, laid.origin),
        where=covered.where("r.service", "r.endpoint"),
        parameters=covered.parameters,
        amounts=rollup_reader.amounts_for(metrics),
        sketches=rollup_reader.sketches_for(metrics),
    )
    return {
        (cell.at - laid.origin) // laid.length: cell.totals
        async for cell in rollup_reader.read(session, question)
    }


async def _first_minute(session: AsyncSession, service: str) -> int | None:
    """The minute (ms) of a service's first report that is still kept, if there is one."""
    query = text("""
        SELECT LEAST(
            (SELECT min(bucket) FROM rollup_minutes WHERE service = :service),
            (SELECT date_bin('1 minute', min(ts), to_timestamp(0)) FROM metrics
             WHERE service = :service AND received_at >= (SELECT requests_until FROM rollup_progress))
        ) AS first
    """).columns(first=Millis)
    first: int | None = (await session.execute(query, {"service": service})).scalar_one()
    return first
