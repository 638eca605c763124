"""What the gate and the decision read of the reports."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.analysis.windows import Windows, windows_of
from domain.analytics import DAY_MS, MINUTE_MS
from domain.conditions import WINDOW_MS, Window
from domain.config import LLMConfig
from domain.reports import MAX_AHEAD_MS
from domain.scope import parse_scope
from domain.times import moment
from domain.totals import Amount, Totals
from storage import rollup_reader
from storage.rollup_reader import Question, Span
from storage.rollup_sql import request_of_score
from storage.tables import ScopeState, Service, db_clock

RATE_SECONDS = 30.0

FAILED = "(m.status_code >= 400 OR m.error_type IS NOT NULL)"


@dataclass(frozen=True, slots=True)
class Arm:
    """A side of a rollout: its version, and the model by which a report without a version may be told."""

    version: str
    config: LLMConfig


@dataclass(slots=True)
class Samples:
    """Values of some requests: latency (ms) of successes, cost (USD) where known, quality."""

    n: int = 0
    errors: int = 0
    latency_ms: list[float] = field(default_factory=list)
    cost_usd: list[float] = field(default_factory=list)
    quality: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Whose reports count for a scope.

    `services` None: every one but `excluded_services`. `endpoint` None: every one but `excluded_endpoints`
    (as scopes, `<service>:<endpoint>`), which have a configuration of their own.
    """

    services: list[str] | None
    endpoint: str | None
    excluded_services: list[str]
    excluded_endpoints: list[str]

    @staticmethod
    def where(service: str = "m.service", endpoint: str = "m.endpoint") -> str:
        """The condition on a report, given how its service and endpoint are called in the query.

        A score of no known endpoint counts for whichever is asked for.
        """
        return f"""
            (CAST(:services AS text[]) IS NULL OR {service} = ANY(:services))
            AND {service} <> ALL(:excluded_services)
            AND (CAST(:endpoint AS text) IS NULL OR COALESCE({endpoint}, :endpoint) = :endpoint)
            AND {service} || ':' || COALESCE({endpoint}, '') <> ALL(:excluded_endpoints)
        """

    @property
    def parameters(self) -> dict[str, Any]:
        """What the condition's names stand for."""
        return {
            "services": self.services,
            "endpoint": self.endpoint,
            "excluded_services": self.excluded_services,
            "excluded_endpoints": self.excluded_endpoints,
        }


async def coverage(session: AsyncSession, scope: str) -> Coverage:
    """Whose reports count for a scope: not those of a narrower scope with a configuration of its own."""
    named = parse_scope(scope)
    query = select(ScopeState.scope).where(ScopeState.active_version.is_not(None))
    owned = [parse_scope(name) for name in (await session.execute(query)).scalars()]
    if named.endpoint is not None:
        return Coverage([named.service or ""], named.endpoint, [], [])
    endpoints = [str(other) for other in owned if other.endpoint is not None]
    if named.service is not None:
        return Coverage([named.service], None, [], endpoints)
    services = [other.service for other in owned if other.service and other.endpoint is None]
    return Coverage(None, None, services, endpoints)


async def coverage_of(session: AsyncSession, services: Sequence[str]) -> Coverage:
    """Whose reports count for any of some services: not those of endpoints that have a configuration."""
    query = select(ScopeState.scope).where(
        ScopeState.active_version.is_not(None), ScopeState.scope.contains(":")
    )
    return Coverage(list(services), None, [], list((await session.execute(query)).scalars()))


_ARM = """
    CASE
        WHEN {row}.config_version = :canary THEN 1
        WHEN {row}.config_version = :control THEN 0
        WHEN {row}.config_version IS NULL AND :told_apart THEN
            CASE
                WHEN {model}.provider = :canary_provider AND {model}.model = :canary_model THEN 1
                WHEN {model}.provider = :control_provider AND {model}.model = :control_model THEN 0
            END
    END
"""


async def arms(
    session: AsyncSession, covered: Coverage, control: Arm, canary: Arm, *, since: int, until: int
) -> dict[str, tuple[Samples, Samples]]:
    """Control's and canary's reports that arrived in [since, until) (ms), by service.

    A report counts for the arm whose version it names; without one, for the arm whose model it names, if the
    arms differ in it. What belongs to neither is left out.
    """
    parameters = covered.parameters | {
        "control": control.version,
        "canary": canary.version,
        "control_provider": control.config.provider,
        "control_model": control.config.model,
        "canary_provider": canary.config.provider,
        "canary_model": canary.config.model,
        "told_apart": control.config.model_key != canary.config.model_key,
        "since": moment(since),
        "requests_since": moment(since - DAY_MS),
        "until": moment(until),
    }
    found: dict[str, tuple[Samples, Samples]] = {}
    requests = text(f"""
        SELECT m.service, {_ARM.format(row="m", model="m")} AS arm, count(*) AS n,
               count(*) FILTER (WHERE {FAILED}) AS errors,
               array_agg(m.latency_ms) FILTER (WHERE NOT {FAILED}) AS latency_ms,
               array_agg(m.cost_usd) FILTER (WHERE m.cost_usd IS NOT NULL) AS cost_usd
        FROM metrics m
        WHERE m.received_at >= :since AND m.received_at < :until AND {covered.where()}
        GROUP BY 1, 2
    """)
    for row in await session.execute(requests, parameters):
        if row.arm is not None:
            samples = found.setdefault(row.service, (Samples(), Samples()))[row.arm]
            samples.n, samples.errors = row.n, row.errors
            samples.latency_ms, samples.cost_usd = row.latency_ms or [], row.cost_usd or []
    version = "COALESCE(q.config_version, m.config_version) AS config_version"
    scores = text(f"""
        SELECT scored.service, {_ARM.format(row="scored", model="scored")} AS arm,
               array_agg(scored.overall_score) AS quality
        FROM (
            SELECT q.service, q.overall_score, m.provider, m.model, m.endpoint, {version}
            FROM quality q {request_of_score(":requests_since")}
            WHERE q.received_at >= :since AND q.received_at < :until
        ) scored
        WHERE {covered.where("scored.service", "scored.endpoint")}
        GROUP BY 1, 2
    """)
    for row in await session.execute(scores, parameters):
        if row.arm is not None:
            found.setdefault(row.service, (Samples(), Samples()))[row.arm].quality = row.quality
    return dict(sorted(found.items()))


async def request_rate(session: AsyncSession, scope: str, *, step_seconds: float) -> float | None:
    """Requests per second that a scope had over the length of a step, or half a minute; None where none.

    A few reports in a burst say nothing of the rate: they are spread over the shorter of the two.
    """
    covered = await coverage(session, scope)
    query = text(f"""
        SELECT count(*) AS n, extract(epoch FROM clock_timestamp() - min(m.received_at)) AS seconds
        FROM metrics m
        WHERE m.received_at >= clock_timestamp() - make_interval(secs => :window) AND {covered.where()}
    """)
    row = (
        await session.execute(query, covered.parameters | {"window": max(RATE_SECONDS, step_seconds)})
    ).one()
    return row.n / max(float(row.seconds), min(RATE_SECONDS, step_seconds)) if row.n else None


@dataclass(frozen=True, slots=True)
class Group:
    """What a service reported of a version, provider and model; `version` None where none was named."""

    version: str | None
    provider: str
    model: str
    totals: Totals


HISTORY_GROUPS = ("config_version", "provider", "model")
HISTORY_SKETCHES = ("latency", "tokens_output")


async def history(session: AsyncSession, service: str, *, since: int, until: int) -> list[Group]:
    """What a service reported of each version and model in [since, until) (ms), the latest first."""
    question = history_question(await coverage(session, service), Span(since, until))
    return groups_of({cell.group: cell.totals async for cell in rollup_reader.read(session, question)})


def history_question(covered: Coverage, span: Span) -> Question:
    """What to read of the reports that count for a scope to have its history."""
    return Question(
        span,
        by=HISTORY_GROUPS,
        where=covered.where("r.service", "r.endpoint"),
        parameters=covered.parameters,
        sketches=HISTORY_SKETCHES,
    )


def groups_of(cells: Mapping[tuple[str | None, ...], Totals]) -> list[Group]:
    """What was reported by `HISTORY_GROUPS`, the latest first; scores go with the version that they name."""
    scores = _scores_by_version(cells)
    groups = [
        Group(version, provider or "", model or "", replace(totals, **scores.get(version, {})))
        for (version, provider, model), totals in cells.items()
        if totals.n
    ]
    return sorted(groups, key=lambda group: group.totals.last_at or 0, reverse=True)


def _scores_by_version(cells: Mapping[tuple[str | None, ...], Totals]) -> dict[str | None, dict[str, Any]]:
    """The scores of each named version, whichever model their requests had, or without any request."""
    found: dict[str | None, dict[str, Any]] = {}
    for (version, *_), totals in cells.items():
        if version is not None:
            before = found.get(version, {"quality": Amount(), "extremes": 0})
            found[version] = {
                "quality": before["quality"] + totals.quality,
                "extremes": before["extremes"] + totals.extremes,
            }
    return found


def served(groups: Iterable[Group], window_ms: int) -> tuple[int, int, float | None]:
    """The traffic that a window's history tells, as `traffic` has it."""
    totals = [group.totals for group in groups]
    costs = [each.cost.total for each in totals if each.cost.n]
    return window_ms, sum(each.n for each in totals), sum(costs) if costs else None


async def traffic(
    session: AsyncSession, service: str, windows_ms: Sequence[int]
) -> list[tuple[int, int, float | None]]:
    """For each window up to now: its length (ms), the requests in it, and what they cost (USD), if known."""
    covered = await coverage(session, service)
    now = (await session.execute(select(db_clock()))).scalar_one()
    found = []
    for window in windows_ms:
        question = traffic_question(covered, Span(now - window, now + MAX_AHEAD_MS))
        totals = await rollup_reader.total(session, question)
        found.append((window, totals.n, totals.cost.total if totals.cost.n else None))
    return found


def traffic_question(covered: Coverage, span: Span) -> Question:
    """What to read of the reports that count for a scope to know how many there were, at what cost."""
    where = covered.where("r.service", "r.endpoint")
    return Question(span, where=where, parameters=covered.parameters, amounts=("cost",))


async def windows(session: AsyncSession, service: str) -> Windows:
    """What each window up to the last full minute has of a service and of its versions.

    Each stretch between two windows' beginnings is read once, and belongs to all that are longer.
    """
    covered = await coverage(session, service)
    until = (await session.execute(select(db_clock()))).scalar_one() // MINUTE_MS * MINUTE_MS
    earliest, *later = sorted(until - length for length in WINDOW_MS.values())
    question = Question(
        Span(earliest, until, marks=tuple(later)),
        by=("config_version",),
        where=covered.where("r.service", "r.endpoint"),
        parameters=covered.parameters,
        sketches=("latency",),
    )
    stretches: dict[int, dict[str | None, Totals]] = defaultdict(dict)
    async for cell in rollup_reader.read(session, question):
        (version,) = cell.group
        stretches[cell.at][version] = cell.totals
    found: dict[Window, dict[str | None, Totals]] = {}
    longer: dict[str | None, Totals] = {}
    for window, length in WINDOW_MS.items():
        for version, totals in stretches[until - length].items():
            longer[version] = longer.get(version, Totals()) + totals
        found[window] = dict(longer)
    known = await session.get(Service, service)
    return await asyncio.to_thread(windows_of, until, found, known.created_at if known else None)
