"""Reads requests and scores of any window by any labels, from the coarsest rollups that tell.

Whole days come from the days' rows, what is left of them from the hours', then from the minutes', and only
what no whole minute holds from the reports themselves. A level holds what arrived before its mark in
`rollup_progress`; what arrived later is read from the level below, last of all from the reports. So every
report counts exactly once, as soon as it is committed and however late it came. It is one statement, and thus
sees one moment.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import repeat
from typing import Any

from sqlalchemy import (
    ARRAY,
    Row,
    TextualSelect,
    bindparam,
    case,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncSession

from domain.analytics import DAY_MS, HOUR_MS, MINUTE_MS, TAG_PREFIX
from domain.metrics import METRICS
from domain.reports import EARLIEST_MS, MAX_AHEAD_MS
from domain.sketches import Sketch
from domain.totals import PERCENTILES, Amount, Totals
from storage import rollup_sql
from storage.rollup_sql import AMOUNTS, COUNTS, REQUEST_SUMS, SCORE_SUMS, WHOLE
from storage.tables import Millis

CLOCKS_APART_MS = 5 * 60_000
"""By how much the clock that judged a report's timestamp may differ from that of its arrival."""
EARLY_MS = MAX_AHEAD_MS + CLOCKS_APART_MS
"""How long before its own timestamp a report may have arrived."""
CELLS_AT_ONCE = 500
FEW_MINUTES = 2
# A row's arrival is that of its hour, or of its day.
_ARRIVED = "{} >= date_bin('1 day', :arrived, to_timestamp(0))"


# Sketches are large: sorted on disk they would take longer than all the rest. Rollups of late are in memory,
# where an index on the service beats reading a stretch of time of all services.
SETTINGS = text("SELECT set_config('work_mem', '64MB', true), set_config('random_page_cost', '1.1', true)")


@dataclass(frozen=True, slots=True)
class _Level:
    """Rollups of buckets of `length` ms; `until` is their mark in `rollup_progress`."""

    table: str
    length: int
    until: str

    def floor(self, at: int) -> int:
        return at // self.length * self.length


_DAYS = _Level("rollup_days", DAY_MS, "days_until")
_HOURS = _Level("rollup_hours", HOUR_MS, "hours_until")
_MINUTES = _Level("rollup_minutes", MINUTE_MS, "requests_until")
_LEVELS = (_DAYS, _HOURS, _MINUTES)
_AMOUNTS = {
    name: amount
    for name in METRICS
    for amount in (name.partition(".")[0], name.replace(".", "_"))
    if amount in AMOUNTS
}
_COUNTED = {"cost": "cost_n", "quality": "quality_n"}
"""The column that tells how many have an amount; the others belong to every success."""
_MARKS = ("days_until", "hours_until", "requests_until", "scores_until")


@dataclass(frozen=True, slots=True)
class Span:
    """The window [start, end), cut at `origin` + k `period`, or else at `marks` in ascending order (all ms).

    Without either it is one piece.
    """

    start: int
    end: int
    period: int | None = None
    origin: int = 0
    marks: tuple[int, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether it is one piece."""
        return self.period is None and not self.marks

    def cuts(self) -> Iterable[int]:
        """Where a piece ends or begins."""
        yield from (self.start, *self.marks, self.end)
        if self.period is not None:
            first = self.start + (self.origin - self.start) % self.period
            yield from range(first, self.end, self.period)

    def seconds(self, at: int) -> float:
        """The length of the piece that begins at `at`."""
        if self.period is None:
            return (next(cut for cut in (*self.marks, self.end) if cut > at) - at) / 1000
        following = at + self.period - (at - self.origin) % self.period
        return (min(following, self.end) - at) / 1000


@dataclass(frozen=True, slots=True)
class Question:
    """What to read. `by` are columns of `LABELS`, "error", or tags as `tags.<name>`, which only reports have.

    `where` is a condition on `r`, which has all the labels, with its `parameters`. `amounts` and
    `sketches` are those that are needed; the others come out empty. `settled`: only what is
    rolled up, without the reports that came since.
    """

    span: Span
    by: Sequence[str] = ()
    where: str = "true"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    amounts: tuple[str, ...] = tuple(AMOUNTS)
    sketches: tuple[str, ...] = ()
    settled: bool = False

    @property
    def needs_reports(self) -> bool:
        """Whether rollups cannot tell."""
        return any(name.startswith(TAG_PREFIX) for name in self.by)


@dataclass(frozen=True, slots=True)
class Cell:
    """What a group had in the piece that begins at `at` (ms); None for what its reports lack."""

    at: int
    group: tuple[str | None, ...]
    totals: Totals


def amounts_for(metrics: Iterable[str]) -> tuple[str, ...]:
    """The amounts that some metrics follow from, counts aside."""
    return tuple(dict.fromkeys(amount for name in metrics if (amount := _AMOUNTS.get(name))))


def sketches_for(metrics: Iterable[str]) -> tuple[str, ...]:
    """The sketches that some metrics follow from."""
    return ("latency",) if PERCENTILES.keys() & set(metrics) else ()


async def read(session: AsyncSession, question: Question) -> AsyncIterator[Cell]:
    """Every cell that has anything, in no order."""
    async for cells in batches(session, question):
        for cell in cells:
            yield cell


async def batches(session: AsyncSession, question: Question) -> AsyncIterator[list[Cell]]:
    """The same, some hundred cells at once."""
    await session.execute(SETTINGS)
    statement = _Statement(question, await _marks(session))
    stream = await session.stream(
        statement.text, statement.parameters, execution_options={"yield_per": CELLS_AT_ONCE}
    )
    groups = len(question.by)
    async for rows in stream.partitions():
        yield await asyncio.to_thread(_cells, rows, groups, question)


async def total(session: AsyncSession, question: Question) -> Totals:
    """All that a question without period and groups is about."""
    cells = [cell async for cell in read(session, question)]
    return cells[0].totals if cells else Totals()


async def reports_to_read(session: AsyncSession, question: Question) -> float:
    """About how many reports a question has read one by one, of those that are rolled up.

    Nil where these are but the edges of its window.
    """
    span = question.span
    cut = 0 if question.needs_reports else len(_cut(span, _MINUTES))
    if not question.needs_reports and cut <= FEW_MINUTES:
        return 0.0
    share = 1.0 if question.needs_reports else cut * MINUTE_MS / (span.end - span.start)
    whole = Span(_HOURS.floor(span.start), -_HOURS.floor(-span.end))
    hours = Question(whole, where=question.where, parameters=question.parameters, amounts=(), settled=True)
    return share * (await total(session, hours)).n


async def minutes_to_read(session: AsyncSession, question: Question) -> tuple[float, float]:
    """About how many rows of minutes a question reads at most, and how many cells they make, cut at minutes.

    It is told by the hours, as far as they are rolled up: in an hour both are no more than 60 for each row or
    group, and no more than it has reports.
    """
    span = question.span
    whole = Span(_HOURS.floor(span.start), -_HOURS.floor(-span.end))
    groups = ", ".join(("r.bucket", *(f"r.{name}" for name in question.by)))
    hours = text(f"""
        SELECT coalesce(sum(rows), 0)::float8, coalesce(sum(LEAST(60, reports)), 0)::float8 FROM (
            SELECT sum(LEAST(60, r.n + r.quality_n)) AS rows, sum(r.n + r.quality_n) AS reports
            FROM {_HOURS.table} r
            WHERE r.bucket >= :since AND r.bucket < :until AND {_ARRIVED.format("r.arrived")}
              AND ({question.where})
            GROUP BY {groups}
        ) hours
    """).bindparams(*(bindparam(name, type_=Millis) for name in ("since", "until", "arrived")))
    window = {"since": whole.start, "until": whole.end, "arrived": whole.start - EARLY_MS}
    rows, cells = (await session.execute(hours, window | dict(question.parameters))).one()
    share = (span.end - span.start) / (whole.end - whole.start)
    return rows * share, cells * share


class _Statement:
    """The SQL of a question. Names are this module's own; whatever a client wrote is a parameter."""

    def __init__(self, question: Question, marks: dict[str, int]) -> None:
        self._question = question
        self._marks = marks
        self._span = question.span
        self._sums = (*COUNTS, *(column for name in question.amounts for column in AMOUNTS[name]))
        self._labels = [f"d{number}" for number in range(len(question.by))]
        self._partial = (
            {} if question.needs_reports else {level: _cut(question.span, level) for level in _LEVELS}
        )
        reports = () if question.settled else self._reports()
        self.text = self._typed(self._folded([*self._rollups(), *reports]))

    @property
    def parameters(self) -> dict[str, Any]:
        """What the statement's names stand for."""
        span, by = self._span, self._question.by
        tags = [(number, name) for number, name in enumerate(by) if name.startswith(TAG_PREFIX)]
        levels: dict[str, Any] = {}
        for level, partial in self._partial.items():
            first, last = _whole(span, level)
            levels |= {f"{level.table}_from": first, f"{level.table}_to": last, f"{level.table}_cut": partial}
        return {
            "since": span.start,
            "until": span.end,
            "arrived": span.start - EARLY_MS,
            "requests_arrived": span.start - EARLY_MS - DAY_MS,
            "period": timedelta(milliseconds=span.period or 0),
            "origin": span.origin,
            "begins": [span.start, *span.marks],
            **self._marks,
            **levels,
            **{f"tag{number}": name.removeprefix(TAG_PREFIX) for number, name in tags},
            **self._question.parameters,
        }

    def _rollups(self) -> Iterable[str]:
        """Rows of each level: what the coarser one does not hold yet, or only in a bucket that is cut."""
        coarser: _Level | None = None
        for level, partial in self._partial.items():
            whole = _is_whole(self._span, level, partial)
            if whole is None:
                coarser = level
                continue
            if coarser is None:
                yield self._of_level(f"{level.table} r", whole)
            else:
                fresh = _since(coarser.until, "r.arrived")
                yield self._of_level(f"{level.table} r", f"{whole} AND {fresh}")
                if self._partial[coarser]:
                    settled = _before(coarser.until, "r.arrived")
                    rows = _cut_rows(level, coarser, self._question.where)
                    yield self._of_level(rows, f"{whole} AND {settled}")
            coarser = level

    def _of_level(self, source: str, condition: str) -> str:
        labels = "".join(
            f", r.{given} AS {name}" for given, name in zip(self._question.by, self._labels, strict=True)
        )
        values = ", ".join(
            f"r.{name}" for name in ("error", "last_ts", *self._sums, *self._question.sketches)
        )
        return f"""
            SELECT {self._piece("r.bucket")} AS at{labels}, {values} FROM {source}
            WHERE {condition} AND {_ARRIVED.format("r.arrived")} AND ({self._question.where})
        """

    def _reports(self) -> Iterable[str]:
        """The reports that the minutes do not hold yet, and those of minutes that a cut goes through."""
        window = "ts >= :since AND ts < :until AND received_at >= :arrived"
        for source, sums, until in (
            (rollup_sql.requests, REQUEST_SUMS, "requests_until"),
            (_scores, SCORE_SUMS, "scores_until"),
        ):
            if not self._partial:
                yield self._of_reports(source(window), sums)
                continue
            yield self._of_reports(source(f"{window} AND {_since(until, 'received_at')}"), sums)
            if self._partial[_MINUTES]:
                within = f"ts >= cut.moment AND ts < cut.moment + {_seconds(MINUTE_MS)}"
                cut = source(f"{window} AND {within} AND {_before(until, 'received_at')} OFFSET 0")
                yield self._of_reports(f"{_cuts(_MINUTES)} CROSS JOIN LATERAL {cut}", sums)

    def _of_reports(self, source: str, sums: dict[str, str]) -> str:
        names = {number: self._label(given, number) for number, given in enumerate(self._question.by)}
        labels = "".join(f", {sql} AS d{number}" for number, sql in names.items())
        groups = ", ".join(("1", *self._labels, "error"))
        return f"""
            SELECT {self._piece("r.ts")} AS at{labels}, r.error,
                   {rollup_sql.summed(sums, self._sums, self._question.sketches)}
            FROM {source} WHERE {self._question.where} GROUP BY {groups}
        """

    def _label(self, name: str, number: int) -> str:
        return f"r.tags ->> :tag{number}" if name.startswith(TAG_PREFIX) else f"r.{name}"

    def _piece(self, moment: str) -> str:
        if self._span.whole:
            return ":since"
        if self._span.period is None:
            return f"(:begins)[width_bucket({moment}, :begins)]"
        return f"GREATEST(date_bin(:period, {moment}, :origin), :since)"

    def _folded(self, branches: Iterable[str]) -> str:
        groups = ", ".join(("at", *self._labels))
        single = self._span.whole and not self._labels
        # The sum of whole numbers would else be a decimal one.
        kinds = {name: "bigint" if name in WHOLE else "float8" for name in self._sums}
        sums = ", ".join(f"(sum({name}) {_of(name)})::{kind} AS {name}" for name, kind in kinds.items())
        sketches = "".join(
            f", string_agg({name}, ''::bytea) {_of(name)} AS {name}" for name in self._question.sketches
        )
        return f"""
            SELECT {":since AS at" if single else groups}, max(last_ts) AS last_ts, {sums}{sketches},
                   (sum(n) FILTER (WHERE error IS NULL))::bigint AS successes
            FROM ({" UNION ALL ".join(branches)}) pieces
            {"HAVING count(*) > 0" if single else f"GROUP BY {groups}"}
        """

    def _typed(self, sql: str) -> TextualSelect:
        moments = {"since", "until", "arrived", "requests_arrived", "origin"}
        moments |= {f"{name}_now" for name in _MARKS}
        moments |= {f"{level.table}_{end}" for level in _LEVELS for end in ("from", "to")}
        cuts = {"begins", *(f"{level.table}_cut" for level in _LEVELS)}
        named = set(re.findall(r"(?<!:):(\w+)", sql))
        return (
            text(sql)
            .bindparams(*(bindparam(name, type_=Millis) for name in sorted(moments & named)))
            .bindparams(*(bindparam(name, type_=ARRAY(Millis)) for name in sorted(cuts & named)))
            .columns(at=Millis, last_ts=Millis)
        )


def _cut(span: Span, level: _Level) -> list[int]:
    """The buckets that begin or end in the middle of a piece, or of which the window has but a part."""
    return sorted({level.floor(cut) for cut in span.cuts() if cut % level.length})


def _whole(span: Span, level: _Level) -> tuple[int, int]:
    """From where to where the window has whole buckets."""
    return -level.floor(-span.start), level.floor(span.end)


def _is_whole(span: Span, level: _Level, partial: list[int]) -> str | None:
    """The condition on buckets that lie whole in one piece; None where there are none."""
    first, last = _whole(span, level)
    cut_within = sum(first <= at < last for at in partial)
    if last - first <= cut_within * level.length:
        return None
    within = f"r.bucket >= :{level.table}_from AND r.bucket < :{level.table}_to"
    if not cut_within:
        return within
    return f"{within} AND NOT EXISTS (SELECT 1 FROM {_cuts(level)} WHERE cut.moment = r.bucket)"


def _cuts(level: _Level) -> str:
    return f"unnest(:{level.table}_cut) AS cut(moment)"


def _cut_rows(level: _Level, coarser: _Level, where: str) -> str:
    """A level's rows in the coarser buckets that are cut, looked up one bucket after the other.

    `where` stands within, though the question asks it of all rows: OFFSET 0 lets nothing in from without,
    and a service's rows are to be found by its index rather than among those of all services.
    """
    return f"""{_cuts(coarser)} CROSS JOIN LATERAL (
        SELECT * FROM {level.table} r
        WHERE r.bucket >= cut.moment AND r.bucket < cut.moment + {_seconds(coarser.length)}
          AND r.arrived >= cut.moment - {_seconds(DAY_MS)} AND {_ARRIVED.format("r.arrived")}
          AND ({where}) OFFSET 0
    ) r"""


def _scores(condition: str) -> str:
    return rollup_sql.scores(condition, ":requests_arrived")


async def _marks(session: AsyncSession) -> dict[str, int]:
    """The marks as of now, for the planner, who else cannot tell how little is not rolled up yet."""
    columns = [literal_column(name, type_=Millis) for name in _MARKS]
    found = [
        case((func.isfinite(column), column)).label(name)
        for name, column in zip(_MARKS, columns, strict=True)
    ]
    row = (await session.execute(select(*found).select_from(text("rollup_progress")))).one()
    return {f"{name}_now": EARLIEST_MS if at is None else at for name, at in zip(_MARKS, row, strict=True)}


def _since(mark: str, arrival: str) -> str:
    """Arrived since the mark, which meanwhile may have moved on."""
    return f"{arrival} >= :{mark}_now AND {arrival} >= (SELECT {mark} FROM rollup_progress)"


def _before(mark: str, arrival: str) -> str:
    # No condition for an index: together with one on times it would have all of an index read.
    return f"({arrival} < (SELECT {mark} FROM rollup_progress)) IS TRUE"


def _seconds(millis: int) -> str:
    return f"interval '{millis // 1000} seconds'"


def _of(name: str) -> str:
    """Latency and tokens are those of successes; an error's own count makes the rate of errors."""
    return "FILTER (WHERE error IS NULL)" if name.startswith(("latency", "tokens")) else ""


def _cells(rows: Sequence[Row[Any]], groups: int, question: Question) -> list[Cell]:
    """Column by column, which for a quarter of a million rows takes half as long."""
    columns = dict(zip(rows[0]._fields, zip(*rows, strict=True), strict=True))
    requests, successes = columns["n"], _filled(columns["successes"])
    errors = [n - good for n, good in zip(requests, successes, strict=True)]

    def amounts(name: str) -> Iterable[Amount]:
        if name not in question.amounts:
            return repeat(Amount())
        counts = _filled(columns[_COUNTED[name]]) if name in _COUNTED else successes
        sums = (_filled(columns[f"{name}_{kind}"]) for kind in ("sum", "squares"))
        sketches = Sketch.of_many(columns[name]) if name in question.sketches else repeat(None)
        return map(Amount, counts, *sums, sketches)

    extremes = columns["quality_extremes"] if "quality" in question.amounts else repeat(0)
    # `AMOUNTS` come in the order of the fields of `Totals`.
    totals = map(Totals, requests, errors, columns["last_ts"], *map(amounts, AMOUNTS), extremes)
    return list(map(Cell, columns["at"], (tuple(row[1 : 1 + groups]) for row in rows), totals))


def _filled(column: Iterable[Any]) -> list[Any]:
    """Sums, which are NULL of no rows."""
    return [value or 0 for value in column]
