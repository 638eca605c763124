"""What telemetry was taken already, so that it may be sent again: spans by id, series by their state.

Both are written in the intake's own transaction, with the reports that were made of them.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.spans import SpanMark, innermost
from domain.telemetry import SeriesState
from storage.database import Database, unreachable_as_database_error
from storage.samples import Row

if TYPE_CHECKING:
    from asyncpg import Connection, Record

SPAN_HOURS = 24
"""So long a span is known, and its service as one that sends spans."""
SERIES_DAYS = 30
"""So long a series without a new point is known."""
_ID_BYTES = 8

_KNOWN = """
    SELECT trace, span, part, ancestors, response, began, ended FROM taken_spans
    WHERE trace = ANY($1) AND part = 0 AND response = ANY($2)
"""
_TAKE_SPANS = """
    INSERT INTO taken_spans (trace, span, part, ancestors, response, began, ended)
    SELECT * FROM unnest(
        $1::bytea[], $2::bytea[], $3::int[], $4::bytea[], $5::text[], $6::bigint[], $7::bigint[]
    )
    ON CONFLICT DO NOTHING RETURNING trace, span, part
"""
# Seldom, since it keeps other writers of the same service waiting.
_NOTE_SERVICES = """
    INSERT INTO span_services (service)
    SELECT name FROM unnest($1::text[]) AS name
    WHERE NOT EXISTS (
        SELECT FROM span_services WHERE service = name AND last_at > now() - interval '10 minutes'
    )
    ON CONFLICT (service) DO UPDATE SET last_at = now()
"""
_TAKE_SERIES = """
    INSERT INTO taken_series AS known (series, at, before, count, sum, buckets)
    SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[], $5::float8[], $6::bytea[])
    ON CONFLICT (series) DO UPDATE
    SET at = excluded.at, before = excluded.before, count = excluded.count, sum = excluded.sum,
        buckets = excluded.buckets, taken_at = now()
    WHERE known.at = excluded.before
    RETURNING series
"""


_AGES = {
    "taken_spans": f"taken_at <= now() - interval '{SPAN_HOURS} hours'",
    "taken_series": f"taken_at <= now() - interval '{SERIES_DAYS} days'",
    "span_services": f"last_at <= now() - interval '{SPAN_HOURS} hours'",
}


@dataclass(frozen=True, slots=True)
class NewSpans:
    """Keeps of a batch the rows whose spans are new; `marks` are the rows', one each."""

    marks: Sequence[SpanMark]

    async def of(
        self, connection: "Connection[Record]", rows: Sequence[Row], services: Iterable[str]
    ) -> list[Row]:
        """The rows to write, their spans being taken with them."""
        calls = [mark for mark in self.marks if mark.part == 0]
        answered = [mark for mark in calls if mark.response is not None]
        known = await connection.fetch(
            _KNOWN, list({mark.trace for mark in answered}), list({mark.response for mark in answered})
        )
        calls = innermost(calls, [_mark(row) for row in known])
        wanted = {mark.key: mark for mark in (*calls, *(mark for mark in self.marks if mark.part))}
        # In one order everywhere, lest two writers wait for each other.
        ordered = [wanted[key] for key in sorted(wanted)]
        taken = await connection.fetch(_TAKE_SPANS, *_columns(ordered))
        await connection.execute(_NOTE_SERVICES, sorted(services))
        new = {(row["trace"], row["span"], row["part"]) for row in taken}
        kept: list[Row] = []
        for mark, row in zip(self.marks, rows, strict=True):
            if mark.key in new:
                new.remove(mark.key)
                kept.append(row)
        return kept


@dataclass(frozen=True, slots=True)
class SeriesStep:
    """A series goes on from the state of `before` (ns; None: it is new) to another one.

    The batch's rows from `first` to before `last` were made of it.
    """

    series: bytes
    before: int | None
    state: SeriesState
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class NewSteps:
    """Keeps of a batch the rows of the steps that nobody has made meanwhile."""

    steps: Sequence[SeriesStep]

    async def of(
        self, connection: "Connection[Record]", rows: Sequence[Row], services: Iterable[str]
    ) -> list[Row]:
        """The rows to write, the series' states being moved on with them."""
        ordered = sorted(self.steps, key=lambda step: step.series)
        taken = await connection.fetch(
            _TAKE_SERIES,
            [step.series for step in ordered],
            [step.state.at for step in ordered],
            [step.before for step in ordered],
            [step.state.count for step in ordered],
            [step.state.sum for step in ordered],
            [_packed(step.state.buckets) for step in ordered],
        )
        made = {row["series"] for row in taken}
        late = {
            index for step in ordered if step.series not in made for index in range(step.first, step.last)
        }
        return [row for index, row in enumerate(rows) if index not in late]


@dataclass(frozen=True, slots=True)
class Standing:
    """Which services send spans, and the states of the series that are known."""

    with_spans: frozenset[str]
    states: dict[bytes, SeriesState]


async def standing(database: Database, services: Iterable[str], series: Iterable[bytes]) -> Standing:
    """What there is to know of services and series before a batch of points is read.

    Raises:
        DatabaseError: PostgreSQL is out of reach.
    """
    with unreachable_as_database_error():
        async with (await database.pool()).acquire() as connection:
            names = await connection.fetch(
                "SELECT service FROM span_services WHERE service = ANY($1) "
                f"AND last_at > now() - interval '{SPAN_HOURS} hours'",
                list(services),
            )
            rows = await connection.fetch(
                "SELECT series, at, count, sum, buckets FROM taken_series WHERE series = ANY($1)",
                list(series),
            )
    states = {
        row["series"]: SeriesState(row["at"], row["count"], row["sum"], _unpacked(row["buckets"]))
        for row in rows
    }
    return Standing(frozenset(row["service"] for row in names), states)


async def purge(session: AsyncSession) -> None:
    """Forget spans and series that nobody will send again."""
    for table, age in _AGES.items():
        await session.execute(text(f"DELETE FROM {table} WHERE {age}"))


def _columns(marks: Sequence[SpanMark]) -> list[list[object]]:
    return [
        [mark.trace for mark in marks],
        [mark.span for mark in marks],
        [mark.part for mark in marks],
        [b"".join(mark.ancestors) for mark in marks],
        [mark.response for mark in marks],
        [mark.began for mark in marks],
        [mark.ended for mark in marks],
    ]


def _mark(row: "Record") -> SpanMark:
    ids: bytes = row["ancestors"]
    return SpanMark(
        trace=row["trace"],
        span=row["span"],
        part=row["part"],
        ancestors=tuple(ids[start : start + _ID_BYTES] for start in range(0, len(ids), _ID_BYTES)),
        response=row["response"],
        began=row["began"],
        ended=row["ended"],
    )


def _packed(buckets: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(buckets)}q", *buckets)


def _unpacked(buckets: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(buckets) // 8}q", buckets)
