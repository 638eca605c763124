"""Makes rollups of reports: by minute as they arrive, by hour and by day once all of their arrivals are in.

Reports are taken in the order of arrival, each exactly once: a stretch of arrivals and the mark that it is
done are one transaction, and no report arrives before a mark (`samples` tells why). A row keeps the hour (a
day's row: the day) of its reports' arrival beside the bucket of their own time: what comes late adds rows,
and changes none that a coarser level was made from.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import asyncpg

from domain.sketches import Sketch
from storage import rollup_sql, samples
from storage.partitions import ensure_day, today
from storage.rollup_sql import KEY, REQUEST_SUMS, SCORE_SUMS, SKETCHES, SUMS

COLUMNS = ("arrived", "bucket", *KEY, "last_ts", *SUMS, *SKETCHES)
MARGIN = timedelta(seconds=1)
SCORES_WAIT = timedelta(seconds=60)
"""A score waits so long for its request, whose labels it takes."""
MOST_ROWS = 200_000
FEW_ROWS = 50_000
SHORTEST = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
PATIENCE = MINUTE
"""A clock that was set back by less is waited for."""
CLOCKS_APART = timedelta(minutes=5)
"""How far the clocks of database and worker may differ for both to be believed."""

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Row = tuple[Any, ...]

log = logging.getLogger(__name__)

_LOCK = 0x726F6C6C757073
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEYS = slice(0, 2 + len(KEY))
_LAST = 2 + len(KEY)
_SUMS = slice(_LAST + 1, _LAST + 1 + len(SUMS))
_SKETCHES = slice(_LAST + 1 + len(SUMS), None)


@dataclass(frozen=True, slots=True)
class _Source:
    """Reports of one kind, and the mark of how far they are rolled up."""

    table: str
    sums: dict[str, str]
    mark: str
    wait: timedelta

    def rows(self, since: datetime) -> str:
        """Those that arrived in [$1, $2), `since` being the former."""
        condition = "received_at >= $1 AND received_at < $2"
        if self.table == "metrics":
            return rollup_sql.requests(condition)
        return rollup_sql.scores(condition, f"timestamptz '{since - DAY:%Y-%m-%d %H:%M}+00'")


_SOURCES = (
    _Source("metrics", REQUEST_SUMS, "requests_until", MARGIN),
    _Source("quality", SCORE_SUMS, "scores_until", SCORES_WAIT),
)


@dataclass(frozen=True, slots=True)
class _Coarse:
    """A level made from a finer one, once the marks `below` have passed the stretch."""

    table: str
    length: timedelta
    mark: str
    finer: str
    below: tuple[str, ...]


_COARSER = (
    _Coarse("rollup_hours", HOUR, "hours_until", "rollup_minutes", ("requests_until", "scores_until")),
    _Coarse("rollup_days", DAY, "days_until", "rollup_hours", ("hours_until",)),
)


class Roller:
    """Rolls up what has arrived. Any number may run; they take turns."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stretch = {source.table: MINUTE for source in _SOURCES}

    async def run(self) -> int:
        """Catch up with the arrivals, and the hours and days that they complete; gives how many reports.

        Marks follow the database's clock, reports or none. Where they are ahead of it, it was set back:
        rollups begin again at its present time, else all would arrive at the mark until then. What arrived
        meanwhile keeps its arrival, and is read one by one till that has come. A clock that differs from the
        worker's as well is not believed, for behind it there may be a year of rollups.
        """
        await self._turn_back()
        rolled = 0
        for source in _SOURCES:
            goal = await samples.settled(self._connection, source.wait)
            while (count := await self._advance(source, goal)) is not None:
                rolled += count
        for coarse in _COARSER:
            while await self._close(coarse):
                pass
        return rolled

    async def _turn_back(self) -> None:
        async with self._connection.transaction():
            await self._connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            now: datetime | None = await self._connection.fetchval(
                """
                SELECT clock_timestamp() FROM rollup_progress
                WHERE GREATEST(requests_until, scores_until) > clock_timestamp() + $1::interval
                """,
                PATIENCE,
            )
            if now is None:
                return
            if abs(now - datetime.now(UTC)) > CLOCKS_APART:
                log.warning("PostgreSQL's clock is behind its reports, and not this worker's: %s", now)
                return
            log.warning("PostgreSQL's clock was set back: reports since an hour ago are rolled up anew")
            # An hour more, for what a stretch passed over that was counted while the clock was set.
            await rebuild(self._connection, now - HOUR)

    async def _advance(self, source: _Source, goal: datetime) -> int | None:
        """Roll up the next stretch of arrivals up to a goal; gives how many reports, None without one."""
        async with self._connection.transaction():
            await self._connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            if await samples.settled(self._connection, source.wait) < goal:
                # The clock was set back since.
                return None
            since = await self._since(source, goal)
            until = min(goal, since + self._stretch[source.table], _floor(since, HOUR) + HOUR)
            if since >= until:
                return None
            count = await self._roll(source, since, until)
            await self._connection.execute(f"UPDATE rollup_progress SET {source.mark} = $1", until)
        self._pace(source.table, count)
        return count

    def _pace(self, table: str, count: int) -> None:
        """Take on no more at once than memory and locks bear, and no less than a long pause asks for."""
        if count > MOST_ROWS:
            self._stretch[table] = max(self._stretch[table] / 2, SHORTEST)
        elif count < FEW_ROWS:
            self._stretch[table] = min(self._stretch[table] * 2, HOUR)

    async def _since(self, source: _Source, goal: datetime) -> datetime:
        """Up to where the source is rolled up: at first, where its arrivals begin."""
        (mark,) = await self._marks(source.mark)
        if mark is None:
            first: datetime | None = await self._connection.fetchval(
                f"SELECT min(received_at) FROM {source.table}"
            )
            mark = goal if first is None else min(first, goal)
            await self._connection.execute(f"UPDATE rollup_progress SET {source.mark} = $1", mark)
        return mark

    async def _marks(self, *names: str) -> list[datetime | None]:
        finite = ", ".join(f"CASE WHEN isfinite({name}) THEN {name} END" for name in names)
        return list(await self._connection.fetchrow(f"SELECT {finite} FROM rollup_progress") or ())

    async def _roll(self, source: _Source, since: datetime, until: datetime) -> int:
        """Add a stretch of arrivals, all of one hour, to the minutes; gives how many reports it has."""
        arrived = _floor(since, HOUR)
        minute = _bucket(MINUTE, "r.ts")
        new = await self._connection.fetch(
            f"""
            SELECT $3::timestamptz, {minute}, {_keys("r.")}, {rollup_sql.summed(source.sums, SUMS, SKETCHES)}
            FROM {source.rows(since)} GROUP BY 2, {_keys("r.")}
            """,
            *(since, until, arrived),
        )
        if not new:
            return 0
        await ensure_day(self._connection, "rollup_minutes", arrived.date())
        before = await self._connection.fetch(
            "DELETE FROM rollup_minutes WHERE arrived = $1 AND bucket = ANY($2) "
            f"RETURNING {', '.join(COLUMNS)}",
            *(arrived, list({row[1] for row in new})),
        )
        await self._write("rollup_minutes", merged([*new, *before]))
        return sum(row["n"] + row["quality_n"] for row in new)

    async def _close(self, coarse: _Coarse) -> bool:
        """Make the rows of the next stretch whose arrivals are all in; whether there was one."""
        async with self._connection.transaction():
            await self._connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            since, *below = await self._marks(coarse.mark, *coarse.below)
            done = min((mark for mark in below if mark is not None), default=None)
            if done is None or None in below:
                return False
            if since is None:
                first = await self._connection.fetchval(f"SELECT min(arrived) FROM {coarse.finer}")
                since = _floor(first or done, coarse.length)
            until = since + coarse.length
            if until > done:
                return False
            rows = await self._connection.fetch(
                f"""
                SELECT $1::timestamptz, {_bucket(coarse.length, "bucket")}, {_keys()}, max(last_ts),
                       {", ".join(f"sum({name})" for name in SUMS)},
                       {", ".join(f"string_agg({name}, ''::bytea)" for name in SKETCHES)}
                FROM {coarse.finer} WHERE arrived >= $1 AND arrived < $2 GROUP BY 2, {_keys()}
                """,
                *(since, until),
            )
            await self._write(coarse.table, merged(rows))
            await self._connection.execute(f"UPDATE rollup_progress SET {coarse.mark} = $1", until)
        return True

    async def _write(self, table: str, rows: Iterable[Row]) -> None:
        await self._connection.copy_records_to_table(table, records=rows, columns=COLUMNS)


async def rebuild(connection: Connection, since: datetime) -> None:
    """Forget the rollups of what arrived in an hour or later; they are made again from the reports.

    Meanwhile questions are answered from the reports themselves.
    """
    hour, midnight = _floor(since, HOUR), _floor(since, DAY)
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute("DELETE FROM rollup_minutes WHERE arrived >= $1", hour)
        await connection.execute("DELETE FROM rollup_hours WHERE arrived >= $1", hour)
        await connection.execute("DELETE FROM rollup_days WHERE arrived >= $1", midnight)
        await connection.execute(
            """
            UPDATE rollup_progress
            SET requests_until = LEAST(requests_until, $1), scores_until = LEAST(scores_until, $1),
                hours_until = LEAST(hours_until, $1), days_until = LEAST(days_until, $2)
            """,
            *(hour, midnight),
        )


async def summarize(connection: Connection) -> None:
    """Have the block indexes of today's reports know what came since, which else waits for a vacuum."""
    await connection.execute(
        """
        SELECT brin_summarize_new_values(inhrelid) FROM pg_inherits
        WHERE inhparent IN ('metrics_times'::regclass, 'quality_times'::regclass)
          AND inhrelid::regclass::text LIKE $1
        """,
        f"%{await today(connection):%Y%m%d}%",
    )


def merged(rows: Iterable[Sequence[Any]]) -> list[Row]:
    """One row, as `COLUMNS` has it, for all that share arrival, bucket and key."""
    groups: dict[Row, list[Sequence[Any]]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[_KEYS])].append(row)
    return [
        (
            *key,
            max((row[_LAST] for row in group if row[_LAST] is not None), default=None),
            *(sum(values) for values in zip(*(row[_SUMS] for row in group), strict=True)),
            *(_joined(pairs) for pairs in zip(*(row[_SKETCHES] for row in group), strict=True)),
        )
        for key, group in groups.items()
    ]


def _joined(pairs: Iterable[bytes | None]) -> bytes | None:
    joined = b"".join(part for part in pairs if part)
    return Sketch.of_bytes(joined).to_bytes() if joined else None


def _keys(prefix: str = "") -> str:
    return ", ".join(f"{prefix}{name}" for name in KEY)


def _bucket(length: timedelta, moment: str) -> str:
    return f"date_bin('{length.total_seconds():.0f} seconds', {moment}, to_timestamp(0))"


def _floor(moment: datetime, length: timedelta) -> datetime:
    return moment - (moment - _EPOCH) % length
