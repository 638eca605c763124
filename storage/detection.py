"""Detection goes on: windows that are complete are read in their order, and what is found is kept and told.

A batch of windows, what each series remembers of them, their anomalies and the events are one transaction, so
that neither a restart nor a second worker reads a window twice. A window counts once its end is `MARGIN_MS`
past; what comes later still is left out.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, func, literal, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from domain.analysis.anomaly import Anomaly
from domain.analysis.watched import (
    IDLE_MS,
    SILENCE_MS,
    Point,
    SeriesMemory,
    Told,
    WatchedWindow,
    step,
)
from domain.analytics import DAY_MS, HOUR_MS, MINUTE_MS
from domain.conditions import SEVERITIES, WINDOW_MS
from domain.ids import new_id
from domain.metrics import WATCHED
from domain.times import moment
from storage import progress, series
from storage.baseline_refresh import served_since
from storage.events import emit
from storage.series import ServicePoints
from storage.tables import AnomalyEpisode, Millis, SeriesState, db_clock

MARGIN_MS = 2 * MINUTE_MS
"""How late a report may come and still count."""
WARM_UP_MS: dict[WatchedWindow, int] = {"1m": 6 * HOUR_MS, "5m": 3 * DAY_MS, "1h": 14 * DAY_MS}
"""So much of the past is read at first."""
STALE_MS = HOUR_MS
"""Of windows that are older, anomalies are kept without an event: by then it is no news."""
BATCH_STEPS = 40_000
MOST_WINDOWS = 720
ANOMALIES_KEPT_DAYS = 90
STATES_KEPT_DAYS = 30

Key = tuple[str, str]
"""A service and a metric."""


@dataclass(frozen=True, slots=True)
class Advance:
    """What a batch came to; `behind` is how many complete windows are still to be read."""

    window: WatchedWindow
    until: int
    steps: int
    opened: int
    announced: int
    behind: int


@dataclass(slots=True)
class _Series:
    """A series over a batch: what it remembers and what there is to tell, up to where it was read."""

    memory: SeriesMemory
    seen_at: int
    until: int = 0
    told: list[Told] = field(default_factory=list)
    steps: int = 0


@dataclass(frozen=True, slots=True)
class _Batch:
    """The windows of a batch, [since, until), and what was kept of every series before it."""

    window: WatchedWindow
    since: int
    until: int
    points: ServicePoints
    kept: Mapping[Key, tuple[bytes, int]]


async def advance(session: AsyncSession, window: WatchedWindow, end: int | None = None) -> Advance | None:
    """Read the next windows of all services, in a transaction of the caller's; None where none is complete.

    Whoever else is at it is waited for. Windows that end after `end` (ms) are left for later.
    """
    await progress.lock(session, "detection")
    now = (await session.execute(select(db_clock()))).scalar_one()
    length = WINDOW_MS[window]
    last = min(now - MARGIN_MS, now if end is None else end) // length * length
    since = await progress.until(session, window)
    if since is None:
        since = await _begin(session, window, last)
    kept = await _kept(session, window)
    count = min(max(BATCH_STEPS // max(len(kept), len(WATCHED)), 1), MOST_WINDOWS)
    until = min(last, since + count * length)
    if until <= since:
        return None
    points = await series.read(session, None, length, since, until)
    read = await asyncio.to_thread(_read, _Batch(window, since, until, points, kept))
    await _keep(session, window, read)
    opened, announced = await _tell(session, window, read, now - STALE_MS)
    await _end_silent(session, window, until)
    await progress.advance(session, window, until)
    steps = sum(found.steps for found in read.values())
    return Advance(window, until, steps, opened, announced, (last - until) // length)


async def _begin(session: AsyncSession, window: WatchedWindow, last: int) -> int:
    """Where to begin: with the first report, but not longer ago than it takes to know a series.

    Series that are known already were read while the clock was ahead. They go on from now.
    """
    known = await session.execute(
        update(SeriesState)
        .where(SeriesState.window == window)
        .values(
            until=func.least(SeriesState.until, literal(last, Millis)),
            seen_at=func.least(SeriesState.seen_at, literal(last, Millis)),
        )
        .returning(SeriesState.service)
    )
    if known.first() is not None:
        await progress.advance(session, window, last)
        return last
    length = WINDOW_MS[window]
    first = await progress.first_report(session)
    if first is None:
        return last
    return min(max(first, last - WARM_UP_MS[window]) // length * length, last)


async def _kept(session: AsyncSession, window: WatchedWindow) -> dict[Key, tuple[bytes, int]]:
    """What every series remembers, and where it last had a request."""
    query = select(SeriesState.service, SeriesState.metric, SeriesState.state, SeriesState.seen_at)
    rows = await session.execute(query.where(SeriesState.window == window))
    return {(row.service, row.metric): (row.state, row.seen_at) for row in rows}


def _read(batch: _Batch) -> dict[Key, _Series]:
    """Every series that has a window in the batch, read to its end."""
    found: dict[Key, _Series] = {}
    for key, points in _all_points(batch):
        stored = batch.kept.get(key)
        memory = SeriesMemory() if stored is None else SeriesMemory.of_bytes(stored[0])
        read = _Series(memory, seen_at=batch.since if stored is None else stored[1])
        length = WINDOW_MS[batch.window]
        for point in points:
            if point.requests:
                read.seen_at = point.at + length
            if point.at - read.seen_at < IDLE_MS:
                read.told.extend(step(key[1], batch.window, memory, point))
                read.steps += 1
                read.until = point.at + length
        if read.steps:
            found[key] = read
    return found


def _all_points(batch: _Batch) -> Iterable[tuple[Key, Iterable[Point]]]:
    """The points that were read. Of services that are known, minutes without requests are points too."""
    length = WINDOW_MS[batch.window]
    rate = "requests.rate"
    for service, metrics in batch.points.items():
        for metric, points in metrics.items():
            if metric != rate:
                yield (service, metric), points
    rated = {service for service, metric in batch.kept if metric == rate}
    for service in sorted(rated | batch.points.keys()):
        had = {point.at: point for point in batch.points.get(service, {}).get(rate, ())}
        first = batch.since if service in rated else min(had, default=batch.until)
        yield (
            (service, rate),
            (had.get(at) or Point(at, 0.0, 0, 0) for at in range(first, batch.until, length)),
        )


async def _keep(session: AsyncSession, window: WatchedWindow, read: Mapping[Key, _Series]) -> None:
    if not read:
        return
    states = await asyncio.to_thread(lambda: [found.memory.to_bytes() for found in read.values()])
    await session.execute(
        text("""
            INSERT INTO series_states (service, window_name, metric, state, until, seen_at)
            SELECT service, :window, metric, state, until, seen_at FROM unnest(
                CAST(:services AS text[]), CAST(:metrics AS text[]), CAST(:states AS bytea[]),
                CAST(:until AS timestamptz[]), CAST(:seen AS timestamptz[])
            ) AS s(service, metric, state, until, seen_at)
            ON CONFLICT (service, window_name, metric)
            DO UPDATE SET state = EXCLUDED.state, until = EXCLUDED.until, seen_at = EXCLUDED.seen_at
        """),
        {
            "window": window,
            "services": [service for service, _ in read],
            "metrics": [metric for _, metric in read],
            "states": states,
            "until": [moment(found.until) for found in read.values()],
            "seen": [moment(found.seen_at) for found in read.values()],
        },
    )


async def _tell(
    session: AsyncSession, window: WatchedWindow, read: Mapping[Key, _Series], stale: int
) -> tuple[int, int]:
    """Keep the episodes and add the events; gives how many were opened, and announced."""
    touched = {key: found for key, found in read.items() if found.told or found.memory.alarms.open}
    if not touched:
        return 0, 0
    query = select(AnomalyEpisode).where(
        AnomalyEpisode.window == window,
        AnomalyEpisode.ended_at.is_(None),
        AnomalyEpisode.service.in_({service for service, _ in touched}),
    )
    opened = {(row.service, row.metric): row for row in (await session.execute(query)).scalars()}
    versions = await served_since(session, sorted({service for service, _ in touched}))
    count = 0
    changed: list[AnomalyEpisode] = []
    for key, found in touched.items():
        row = opened.get(key)
        for told in found.told:
            if row is None and told.kind == "ended":
                continue  # It was ended when its series fell silent.
            if row is None:
                row = _new(session, window, key[0], versions)
                count += 1
            _set(row, told.anomaly)
            changed.append(row)
            if told.kind == "ended":
                # A series has one open at a time: this one is to be written before the next.
                await session.flush()
                row = None
        if found.memory.alarms.open is not None and row is not None:
            _set(row, found.memory.alarms.open)
            changed.append(row)
    await session.flush()
    return count, await _announce(session, changed, stale)


def _new(
    session: AsyncSession, window: WatchedWindow, service: str, versions: Mapping[str, tuple[str, int]]
) -> AnomalyEpisode:
    row = AnomalyEpisode(id=new_id("ano"), service=service, window=window)
    row.config_version = versions[service][0] if service in versions else None
    session.add(row)
    return row


def _set(row: AnomalyEpisode, anomaly: Anomaly) -> None:
    for name in Anomaly.model_fields:
        setattr(row, name, getattr(anomaly, name))


async def _announce(session: AsyncSession, changed: Iterable[AnomalyEpisode], stale: int) -> int:
    """Add an event for what is news: an anomaly, or a graver one, that no other window has told of yet."""
    length = {window: WINDOW_MS[window] for window in WARM_UP_MS}
    fresh = [
        row
        for row in dict.fromkeys(changed)
        if row.last_at + length[_window(row)] > stale and _rank(row.severity) > _rank(row.announced)
    ]
    if not fresh:
        return 0
    query = select(AnomalyEpisode).where(
        AnomalyEpisode.announced.is_not(None),
        AnomalyEpisode.service.in_({row.service for row in fresh}),
        AnomalyEpisode.last_at >= min(row.started_at for row in fresh) - HOUR_MS,
    )
    told: dict[Key, list[AnomalyEpisode]] = defaultdict(list)
    for row in (await session.execute(query)).scalars():
        told[row.service, row.metric].append(row)
    count = 0
    for row in sorted(fresh, key=lambda row: (row.started_at, row.service, row.metric)):
        siblings = [
            other
            for other in told[row.service, row.metric]
            if other.direction == row.direction
            and other.last_at + length[_window(other)] >= row.started_at
            and row.last_at + length[_window(row)] >= other.started_at
        ]
        if _rank(row.severity) > max((_rank(other.announced) for other in siblings), default=-1):
            emit(session, "anomaly.detected", row.service, _event(row))
            row.announced = row.severity
            told[row.service, row.metric].append(row)
            count += 1
    await session.flush()
    return count


def _event(row: AnomalyEpisode) -> dict[str, Any]:
    return {
        "metric": row.metric,
        "value": row.value,
        "expectedRange": {"min": row.low, "max": row.high},
        "severity": row.severity,
        "confidence": row.confidence,
        "detectorType": row.detector,
    }


async def _end_silent(session: AsyncSession, window: WatchedWindow, until: int) -> None:
    """End the anomalies of series that had no window for long."""
    silent = select(SeriesState.service, SeriesState.metric, SeriesState.until).where(
        SeriesState.window == window, SeriesState.until < until - SILENCE_MS
    )
    series_of = silent.subquery()
    await session.execute(
        update(AnomalyEpisode)
        .where(
            AnomalyEpisode.window == window,
            AnomalyEpisode.ended_at.is_(None),
            AnomalyEpisode.service == series_of.c.service,
            AnomalyEpisode.metric == series_of.c.metric,
        )
        .values(ended_at=series_of.c.until)
        .execution_options(synchronize_session=False)
    )


async def purge(session: AsyncSession) -> None:
    """Forget the anomalies that ended long ago, and the series of services that fell silent long ago."""
    before = db_clock(-ANOMALIES_KEPT_DAYS * 86_400.0)
    await session.execute(delete(AnomalyEpisode).where(AnomalyEpisode.ended_at < before))
    idle = db_clock(-STATES_KEPT_DAYS * 86_400.0)
    await session.execute(delete(SeriesState).where(SeriesState.seen_at < idle))


def _window(row: AnomalyEpisode) -> WatchedWindow:
    return row.window  # type: ignore[return-value]  # what detection itself wrote


def _rank(severity: str | None) -> int:
    return -1 if severity is None else SEVERITIES.index(severity)
