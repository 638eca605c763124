"""Baselines, computed from the reports by their arrival, as the gate reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ARRAY, bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.analytics import DAY_MS
from domain.baseline import Baseline
from domain.errors import InvalidRequest
from domain.scope import GLOBAL
from storage import analytics
from storage.database import deadline
from storage.metric_sql import OF_REQUESTS, OF_SCORES
from storage.tables import Millis, Rollout, ScopeState, Service, db_clock

MAX_SERVICES = 50

_METRICS = (*OF_REQUESTS, *OF_SCORES)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A time over which a service is measured, and what is said of it."""

    service: str
    kind: str
    since: int
    until: int
    words: str

    def baseline(self, metrics: dict[str, float], sample_size: int) -> Baseline:
        span = f"the reports that arrived from {_clock(self.since)} to {_clock(self.until)} UTC"
        return Baseline.model_validate(
            {
                "name": f"{self.service}/{self.kind}",
                "description": f"{self.words}: {span}.",
                "createdAt": self.until,
                "metrics": metrics,
                "sampleSize": sample_size,
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
        return await _measure(session, await _stretches(session, names))


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
    for service, first in (await _first_arrivals(session, names)).items():
        initial = "As it was at first, as far as reports are kept"
        found.append(_Stretch(service, "initial", first, min(first + DAY_MS, now), initial))
        version, changed_at = changes.get(service, ("", first))
        if changed_at > first:
            words = f"Before {version} began to be served"
            found.append(_Stretch(service, "pre-change", max(first, changed_at - DAY_MS), changed_at, words))
        found.append(_Stretch(service, "rolling", max(first, now - DAY_MS), now, "As it has been lately"))
    return found


async def _first_arrivals(session: AsyncSession, names: Sequence[str]) -> dict[str, int]:
    """When the first report of each service arrived that is still kept."""
    query = text("""
        SELECT s.name, (SELECT min(m.received_at) FROM metrics m WHERE m.service = s.name) AS first
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


async def _measure(session: AsyncSession, stretches: Sequence[_Stretch]) -> list[Baseline]:
    statement = text(_MEASURE).bindparams(
        bindparam("since", type_=ARRAY(Millis)), bindparam("until", type_=ARRAY(Millis))
    )
    parameters: dict[str, Any] = {
        name: [getattr(stretch, name) for stretch in stretches] for name in ("since", "until")
    }
    parameters["services"] = [stretch.service for stretch in stretches]
    baselines = []
    for row in (await session.execute(statement, parameters)).mappings():
        values = {name: row[name] for name in _METRICS if row[name] is not None}
        baselines.append(stretches[row["number"] - 1].baseline(values, row["n"]))
    return baselines


def _values(metrics: dict[str, str]) -> str:
    return ", ".join(f'({sql})::float8 AS "{name}"' for name, sql in metrics.items())


# One stretch after the other, each with its own partitions: joined, all would be read at once.
_MEASURE = f"""
    SELECT w.number, requests.*, scores.*
    FROM unnest(CAST(:services AS text[]), :since, :until)
         WITH ORDINALITY AS w(service, since, until, number)
    CROSS JOIN LATERAL (
        SELECT count(*) AS n, {_values(OF_REQUESTS)}
        FROM (
            SELECT m.*, extract(epoch FROM w.until - w.since) AS seconds FROM metrics m
            WHERE m.service = w.service AND m.received_at >= w.since AND m.received_at < w.until
        ) m
    ) requests
    CROSS JOIN LATERAL (
        SELECT {_values(OF_SCORES)} FROM quality q
        WHERE q.service = w.service AND q.received_at >= w.since AND q.received_at < w.until
    ) scores
    WHERE requests.n > 0
    ORDER BY w.number
"""


def _clock(at: int) -> str:
    return f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M}"
