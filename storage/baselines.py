"""Baselines, computed from the rollups."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.analytics import DAY_MS
from domain.baseline import Baseline
from domain.errors import InvalidRequest
from domain.scope import GLOBAL
from domain.totals import Totals
from storage import analytics, rollup_reader
from storage.database import deadline
from storage.rollup_reader import Question, Span
from storage.tables import Millis, Rollout, ScopeState, Service, db_clock

MAX_SERVICES = 50


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A time over which a service is measured, and what is said of it."""

    service: str
    kind: str
    since: int
    until: int
    words: str

    @property
    def question(self) -> Question:
        return Question(
            Span(self.since, self.until),
            where="r.service = :service",
            parameters={"service": self.service},
            sketches=("latency",),
        )

    def baseline(self, totals: Totals) -> Baseline:
        seconds = (self.until - self.since) / 1000
        span = f"the reports from {_clock(self.since)} to {_clock(self.until)} UTC"
        return Baseline.model_validate(
            {
                "name": f"{self.service}/{self.kind}",
                "description": f"{self.words}: {span}.",
                "createdAt": self.until,
                "metrics": totals.of_requests(seconds) | totals.of_scores(),
                "sampleSize": totals.n,
            }
        )


async def compute(session: AsyncSession, services: Sequence[str] | None) -> list[Baseline]:
    """The baselines of some known services, or of all, by name.

    Raises:
        InvalidRequest: these are too many to be computed at once.
        TimedOut: it takes too long.
    """
    names = await _names(session, services)
    async with deadline(session, analytics.QUERY_SECONDS):
        found = []
        for stretch in await _stretches(session, names):
            totals = await rollup_reader.total(session, stretch.question)
            if totals.n:
                found.append(stretch.baseline(totals))
        return found


async def _names(session: AsyncSession, services: Sequence[str] | None) -> list[str]:
    query = select(Service.name).order_by(Service.name).limit(MAX_SERVICES + 1)
    if services:
        query = query.where(Service.name.in_(services))
    names = list((await session.execute(query)).scalars())
    if len(names) > MAX_SERVICES:
        raise InvalidRequest(f"services: baselines of more than {MAX_SERVICES} services; name fewer")
    return names


async def _stretches(session: AsyncSession, names: Sequence[str]) -> list[_Stretch]:
    now = (await session.execute(select(db_clock()))).scalar_one()
    changes = await _changes(session, names)
    found = []
    for service, first in (await _first_minutes(session, names)).items():
        initial = "As it was at first, as far as reports are kept"
        found.append(_Stretch(service, "initial", first, min(first + DAY_MS, now), initial))
        version, changed_at = changes.get(service, ("", first))
        if changed_at > first:
            words = f"Before {version} began to be served"
            found.append(_Stretch(service, "pre-change", max(first, changed_at - DAY_MS), changed_at, words))
        found.append(_Stretch(service, "rolling", max(first, now - DAY_MS), now, "As it has been lately"))
    return found


async def _first_minutes(session: AsyncSession, names: Sequence[str]) -> dict[str, int]:
    """The minute of each service's first report that is still kept."""
    query = text("""
        SELECT s.name, LEAST(
            (SELECT min(bucket) FROM rollup_minutes WHERE service = s.name AND n > 0),
            (SELECT date_bin('1 minute', min(ts), to_timestamp(0)) FROM metrics
             WHERE service = s.name AND received_at >= (SELECT requests_until FROM rollup_progress))
        ) AS first
        FROM unnest(CAST(:names AS text[])) AS s(name)
    """).columns(first=Millis)
    rows = await session.execute(query, {"names": list(names)})
    return {row.name: row.first for row in rows if row.first is not None}


async def _changes(session: AsyncSession, names: Sequence[str]) -> dict[str, tuple[str, int]]:
    """The version that each service serves, its own or the global one, and when it began to be served.

    That is when its rollout started, if it came by one: from then on a part of the requests was its own.
    """
    query = (
        select(ScopeState, Rollout.started_at)
        .outerjoin(
            Rollout,
            (Rollout.to_version == ScopeState.active_version)
            & (Rollout.started_at <= ScopeState.applied_at)
            & (Rollout.ended_at.is_(None) | (Rollout.ended_at >= ScopeState.applied_at)),
        )
        .where(ScopeState.scope.in_((*names, GLOBAL)), ScopeState.active_version.is_not(None))
    )
    served = {
        state.scope: (state.active_version or "", started_at or state.applied_at)
        for state, started_at in await session.execute(query)
    }
    inherited = served.get(GLOBAL)
    found = {name: served.get(name, inherited) for name in names}
    return {name: (change[0], change[1]) for name, change in found.items() if change and change[1]}


def _clock(at: int) -> str:
    return f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M}"
