"""Baselines as they are kept, and what is measured by hand: the golden one."""

from collections.abc import Mapping, Sequence

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.analysis.comparison import Reference, reference
from domain.analysis.points import Series
from domain.analytics import DAY_MS, HOUR_MS, MAX_WINDOW_MS
from domain.baseline import Baseline, BaselineKind, GoldenRequest
from domain.errors import InvalidRequest, NotFound
from domain.times import told
from domain.totals import Totals
from storage import analytics, rollup_reader, series, services
from storage.database import deadline
from storage.rollup_reader import Question, Span
from storage.tables import BaselineRecord, db_clock

_WORDS: dict[str, str] = {
    "initial": "As it was at first, as far as reports were kept",
    "rolling": "As it was lately",
    "same-hour": "The same hour of the day on the days before",
    "peak": "Its busiest hour of a week",
    "golden": "Set by hand",
}


async def stored(session: AsyncSession, names: Sequence[str] | None) -> list[Baseline]:
    """The baselines of some services, or of all, by name."""
    query = select(BaselineRecord).order_by(BaselineRecord.service, BaselineRecord.kind)
    if names:
        query = query.where(BaselineRecord.service.in_(names))
    return [_told(record) for record in (await session.execute(query)).scalars()]


def _told(record: BaselineRecord) -> Baseline:
    words = _WORDS.get(record.kind, f"Before {record.about} began to be served")
    span = f"the reports from {told(record.since)} to {told(record.until)} UTC"
    by = "" if record.created_by == "schedule" else f", by {record.created_by}"
    return Baseline.model_validate(
        {
            "name": f"{record.service}/{record.kind}",
            "description": f"{words}{by}: {span}.",
            "createdAt": record.created_at,
            "metrics": record.metrics,
            "sampleSize": record.sample_size,
        }
    )


async def put(
    session: AsyncSession,
    service: str,
    kind: BaselineKind,
    totals: Totals,
    *,
    since: int,
    until: int,
    seconds: float,
    by: str = "schedule",
    about: str | None = None,
    reference: Mapping[str, Reference] | None = None,
) -> None:
    """Keep what a service measured in so many seconds of [since, until) (ms) as its baseline of a kind."""
    values = {
        "metrics": totals.of_requests(seconds) | totals.of_scores(),
        "reference": None if reference is None else {name: of.to_json() for name, of in reference.items()},
        "sample_size": totals.n,
        "since": since,
        "until": until,
        "about": about,
        "created_at": func.clock_timestamp(),
        "created_by": by,
    }
    statement = insert(BaselineRecord).values(service=service, kind=kind, **values)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=[BaselineRecord.service, BaselineRecord.kind], set_=values
        )
    )


async def set_golden(session: AsyncSession, request: GoldenRequest, *, by: str) -> Baseline:
    """Measure a stretch of a service, and keep it as its golden baseline in place of the one before.

    Raises:
        NotFound: nobody has heard of the service.
        InvalidRequest: the stretch is not over yet, too long, or had no request.
        TimedOut: it takes too long.
    """
    await services.get(session, request.service)
    now = (await session.execute(select(db_clock()))).scalar_one()
    until = now if request.end is None else request.end
    since = until - DAY_MS if request.start is None else request.start
    if until > now:
        raise InvalidRequest("end: a stretch that is not over yet cannot be measured")
    if not 0 < until - since <= MAX_WINDOW_MS:
        raise InvalidRequest("start: must be before end, by 90 days at most")
    question = Question(
        Span(since, until),
        where="r.service = :service",
        parameters={"service": request.service},
        sketches=("latency",),
    )
    async with deadline(session, analytics.QUERY_SECONDS):
        totals = await rollup_reader.total(session, question)
        kept = await _reference(session, request.service, since, until)
    if not totals.n:
        raise InvalidRequest(
            f"start, end: {request.service} had no request from {told(since)} to {told(until)} UTC"
        )
    await put(
        session,
        request.service,
        "golden",
        totals,
        since=since,
        until=until,
        seconds=(until - since) / 1000,
        by=by,
        reference=kept,
    )
    key = (request.service, "golden")
    record = await session.get_one(BaselineRecord, key, populate_existing=True)
    return _told(record)


async def _reference(session: AsyncSession, service: str, since: int, until: int) -> dict[str, Reference]:
    """What a later test against the stretch goes by: its whole hours, each metric for itself."""
    first, last = -(-since // HOUR_MS) * HOUR_MS, until // HOUR_MS * HOUR_MS
    if last <= first:
        return {}
    hours = (await series.read(session, [service], HOUR_MS, first, last)).get(service, {})
    found = {
        metric: reference(Series.of([point.at for point in points], [point.value for point in points]))
        for metric, points in hours.items()
    }
    return {metric: kept for metric, kept in found.items() if kept is not None}


async def remove_golden(session: AsyncSession, service: str) -> Baseline:
    """Forget a service's golden baseline; gives what it was.

    Raises:
        NotFound: it has none.
    """
    record = await session.get(BaselineRecord, (service, "golden"), with_for_update=True)
    if record is None:
        raise NotFound(f"{service!r} has no golden baseline")
    await session.delete(record)
    return _told(record)
