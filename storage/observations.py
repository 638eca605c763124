"""What the gate and the decision read of the reports."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.config import LLMConfig
from domain.scope import parse_scope
from storage.tables import ScopeState

LATEST = 20_000
"""How many of a configuration's latest reports a decision rests on, at most."""

RATE_SECONDS = 30.0

FAILED = "(m.status_code >= 400 OR m.error_type IS NOT NULL)"


@dataclass(frozen=True, slots=True)
class Arm:
    """A side of a rollout: its version, and the model by which a report without a version may be told."""

    version: str
    config: LLMConfig


@dataclass(slots=True)
class Samples:
    """Values of some requests: latency (ms) and tokens of successes, cost (USD) where known, quality."""

    n: int = 0
    errors: int = 0
    latency_ms: list[float] = field(default_factory=list)
    cost_usd: list[float] = field(default_factory=list)
    quality: list[float] = field(default_factory=list)
    tokens_input: list[int] = field(default_factory=list)
    tokens_output: list[int] = field(default_factory=list)


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
        """The condition on a report, given how its service and endpoint are called in the query."""
        return f"""
            (CAST(:services AS text[]) IS NULL OR {service} = ANY(:services))
            AND {service} <> ALL(:excluded_services)
            AND (CAST(:endpoint AS text) IS NULL OR {endpoint} = :endpoint)
            AND {service} || ':' || {endpoint} <> ALL(:excluded_endpoints)
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

# `service || ''` keeps the planner, which knows nothing of a new day's partition, from searching all of a
# service's reports for each score: by the request's id it finds one row.
REQUEST_OF_SCORE = """
    LEFT JOIN LATERAL (
        SELECT r.config_version, r.provider, r.model, r.endpoint, r.tags FROM metrics r
        WHERE r.request_id = q.request_id AND r.service || '' = q.service
          AND r.received_at > q.received_at - interval '1 day'
          AND r.received_at < q.received_at + interval '1 day'
        LIMIT 1
    ) m ON q.request_id IS NOT NULL
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
        "since": _time(since),
        "until": _time(until),
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
            FROM quality q {REQUEST_OF_SCORE}
            WHERE q.received_at >= :since AND q.received_at < :until
        ) scored
        WHERE {covered.where("scored.service", "COALESCE(scored.endpoint, :endpoint, '')")}
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
    """Reports of a service that share version, provider and model; `version` None where they name none."""

    version: str | None
    provider: str
    model: str
    n: int
    last_at: int
    samples: Samples


async def history(session: AsyncSession, service: str, *, since: int, limit: int = LATEST) -> list[Group]:
    """What a service reported since a time (ms), by version and model: the latest `limit` of each."""
    covered = await coverage(session, service)
    parameters = covered.parameters | {"since": _time(since)}
    groups = text(f"""
        SELECT m.config_version AS version, m.provider, m.model, count(*) AS n,
               max(m.received_at) AS last_at
        FROM metrics m
        WHERE m.received_at >= :since AND {covered.where()}
        GROUP BY 1, 2, 3 ORDER BY 5 DESC
    """)
    found = (await session.execute(groups, parameters)).all()
    return [await _group(session, covered, row, parameters | {"limit": limit}) for row in found]


async def _group(
    session: AsyncSession, covered: Coverage, row: Row[Any], parameters: dict[str, Any]
) -> Group:
    parameters |= {"version": row.version, "provider": row.provider, "model": row.model}
    of_group = """
        m.config_version IS NOT DISTINCT FROM CAST(:version AS text)
        AND m.provider = :provider AND m.model = :model
    """
    requests = text(f"""
        SELECT count(*) AS n, count(*) FILTER (WHERE {FAILED}) AS errors,
               array_agg(m.latency_ms) FILTER (WHERE NOT {FAILED}) AS latency_ms,
               array_agg(m.cost_usd) FILTER (WHERE m.cost_usd IS NOT NULL) AS cost_usd,
               array_agg(m.tokens_input) FILTER (WHERE NOT {FAILED}) AS tokens_input,
               array_agg(m.tokens_output) FILTER (WHERE NOT {FAILED}) AS tokens_output
        FROM (
            SELECT m.* FROM metrics m
            WHERE m.received_at >= :since AND {covered.where()} AND {of_group}
            ORDER BY m.received_at DESC LIMIT :limit
        ) m
    """)
    got = (await session.execute(requests, parameters)).one()
    scores = text(f"""
        SELECT array_agg(scored.overall_score) AS quality FROM (
            SELECT q.overall_score FROM quality q {REQUEST_OF_SCORE}
            WHERE q.service = ANY(:services) AND q.received_at >= :since
              AND COALESCE(q.config_version, m.config_version) IS NOT DISTINCT FROM CAST(:version AS text)
              AND (CAST(:version AS text) IS NOT NULL OR m.provider = :provider AND m.model = :model)
            ORDER BY q.received_at DESC LIMIT :limit
        ) scored
    """)
    quality = (await session.execute(scores, parameters)).scalar_one()
    return Group(
        version=row.version,
        provider=row.provider,
        model=row.model,
        n=row.n,
        last_at=round(row.last_at.timestamp() * 1000),
        samples=Samples(
            n=got.n,
            errors=got.errors,
            latency_ms=got.latency_ms or [],
            cost_usd=got.cost_usd or [],
            quality=quality or [],
            tokens_input=got.tokens_input or [],
            tokens_output=got.tokens_output or [],
        ),
    )


async def traffic(
    session: AsyncSession, service: str, windows_ms: Sequence[int]
) -> list[tuple[int, int, float | None]]:
    """For each window up to now: its length (ms), the requests in it, and what they cost (USD), if known."""
    covered = await coverage(session, service)
    query = text(f"""
        SELECT count(*) AS n, sum(m.cost_usd) AS cost FROM metrics m
        WHERE m.received_at >= clock_timestamp() - make_interval(secs => :window) AND {covered.where()}
    """)
    found = []
    for window in windows_ms:
        row = (await session.execute(query, covered.parameters | {"window": window / 1000})).one()
        found.append((window, row.n, row.cost))
    return found


def _time(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
