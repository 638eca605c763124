"""Makes baselines and refreshes them; golden ones are left alone.

What is measured of several services over the same stretch is read at once. A baseline is measured anew only
when it is due: `initial` until its day is full, `rolling` after ten minutes, `same-hour` and `peak`
every hour, `pre-change` once for each change.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import delete, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from domain.analytics import DAY_MS, HOUR_MS, MINUTE_MS
from domain.baseline import BaselineKind
from domain.scope import GLOBAL
from domain.totals import Totals
from storage import baselines, rollup_reader
from storage.rollup_reader import Question, Span
from storage.rollup_sql import AMOUNTS
from storage.tables import BaselineRecord, Millis, Rollout, ScopeState

AT_ONCE = 50
"""How many services are looked at in one transaction."""
ROLLING_MS = 10 * MINUTE_MS
SAME_HOUR_DAYS = 14
PEAK_DAYS = 7

Stretch = tuple[int, int]
"""From when to when (ms), the end not included."""


@dataclass(frozen=True, slots=True)
class _Due:
    """A baseline that is to be measured: over which stretches, none of them before `first`."""

    service: str
    kind: BaselineKind
    first: int
    stretches: Sequence[Stretch]
    about: str | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a service: its first report, what it serves since when, its baselines."""

    name: str
    first: int
    served: tuple[str, int] | None
    kept: Mapping[str, BaselineRecord] = field(default_factory=dict)


async def refresh(session: AsyncSession, names: Sequence[str], now: int) -> int:
    """Measure what is due of some services at `now` (ms); gives how many baselines were measured."""
    known = await _known(session, names)
    due = [baseline for service in known for baseline in _due(service, now)]
    due += await _peaks(session, [service for service in known if _is_peak_due(service, now)], now)
    read = await _read(session, due)
    for baseline in due:
        totals = sum(
            (read.get((stretch, baseline.service), Totals()) for stretch in baseline.stretches), Totals()
        )
        if totals.n:
            await _keep(session, baseline, totals)
    await _forget_overtaken(session, due, read)
    return len(due)


def _due(service: _Known, now: int) -> Iterable[_Due]:
    """What is due but for the peak."""
    minute, hour = now // MINUTE_MS * MINUTE_MS, now // HOUR_MS * HOUR_MS
    initial, rolling = service.kept.get("initial"), service.kept.get("rolling")
    since = service.first if initial is None else initial.since
    if initial is None or (initial.until < since + DAY_MS and initial.until <= now - ROLLING_MS):
        yield _Due(service.name, "initial", since, [(since, min(since + DAY_MS, minute))])
    if rolling is None or rolling.until <= now - ROLLING_MS:
        yield _Due(service.name, "rolling", service.first, [(minute - DAY_MS, minute)])
    same_hour = service.kept.get("same-hour")
    if same_hour is None or same_hour.until != hour - DAY_MS:
        days = (hour - ago * DAY_MS for ago in range(1, SAME_HOUR_DAYS + 1))
        hours = [(end - HOUR_MS, end) for end in days if end - HOUR_MS >= service.first]
        yield _Due(service.name, "same-hour", service.first, hours)
    before = service.kept.get("pre-change")
    if service.served is not None and (before is None or before.about != service.served[0]):
        version, changed_at = service.served
        if changed_at > service.first:
            stretch = (max(service.first, changed_at - DAY_MS), changed_at)
            yield _Due(service.name, "pre-change", service.first, [stretch], about=version)


def _is_peak_due(service: _Known, now: int) -> bool:
    peak = service.kept.get("peak")
    return peak is None or peak.created_at <= now - HOUR_MS


async def _peaks(session: AsyncSession, known: Sequence[_Known], now: int) -> list[_Due]:
    """The busiest whole hours of the last week."""
    first = {service.name: service.first for service in known}
    hour = now // HOUR_MS * HOUR_MS
    question = _question(Span(hour - PEAK_DAYS * DAY_MS, hour, HOUR_MS), list(first), amounts=(), sketches=())
    busiest: dict[str, tuple[int, int]] = {}
    async for cell in rollup_reader.read(session, question):
        service = cell.group[0] or ""
        busiest[service] = max(busiest.get(service, (0, 0)), (cell.totals.n, cell.at))
    return [
        _Due(service, "peak", first[service], [(at, at + HOUR_MS)])
        for service, (n, at) in busiest.items()
        if n
    ]


async def _read(session: AsyncSession, due: Iterable[_Due]) -> dict[tuple[Stretch, str], Totals]:
    """What each service had in each stretch that is asked for."""
    wanted: dict[Stretch, set[str]] = defaultdict(set)
    for baseline in due:
        for stretch in baseline.stretches:
            wanted[stretch].add(baseline.service)
    found = {}
    for stretch, names in sorted(wanted.items()):
        async for cell in rollup_reader.read(session, _question(Span(*stretch), sorted(names))):
            found[stretch, cell.group[0] or ""] = cell.totals
    return found


def _question(
    span: Span,
    names: list[str],
    *,
    amounts: tuple[str, ...] = tuple(AMOUNTS),
    sketches: tuple[str, ...] = ("latency",),
) -> Question:
    return Question(
        span,
        by=("service",),
        where="r.service = ANY(:services)",
        parameters={"services": names},
        amounts=amounts,
        sketches=sketches,
    )


async def _keep(session: AsyncSession, baseline: _Due, totals: Totals) -> None:
    measured = [(max(since, baseline.first), until) for since, until in baseline.stretches]
    await baselines.put(
        session,
        baseline.service,
        baseline.kind,
        totals,
        since=min(since for since, _ in measured),
        until=max(until for _, until in measured),
        seconds=sum(until - since for since, until in measured) / 1000,
        about=baseline.about,
    )


async def _forget_overtaken(
    session: AsyncSession, due: Iterable[_Due], read: Mapping[tuple[Stretch, str], Totals]
) -> None:
    """What was before an earlier change says nothing of a later one, even if nothing was measured then."""
    empty = [
        (baseline.service, baseline.kind)
        for baseline in due
        if baseline.kind == "pre-change"
        and not any((stretch, baseline.service) in read for stretch in baseline.stretches)
    ]
    if empty:
        key = tuple_(BaselineRecord.service, BaselineRecord.kind)
        await session.execute(delete(BaselineRecord).where(key.in_(empty)))


async def _known(session: AsyncSession, names: Sequence[str]) -> list[_Known]:
    kept: dict[str, dict[str, BaselineRecord]] = defaultdict(dict)
    query = select(BaselineRecord).where(BaselineRecord.service.in_(names))
    for record in (await session.execute(query)).scalars():
        kept[record.service][record.kind] = record
    first = await _first_minutes(session, names)
    served = await served_since(session, names)
    return [_Known(name, first[name], served.get(name), kept[name]) for name in names if name in first]


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


async def served_since(session: AsyncSession, names: Sequence[str]) -> dict[str, tuple[str, int]]:
    """The version that each service serves, its own or the global one, and when it began to be served (ms).

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
