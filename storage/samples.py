"""Rows of `metrics` and `quality`, written by COPY, and when they arrive.

A report's arrival is the database's time at which it is written, `clock`, and no caller's or replica's.
Arrivals below a moment are all there once `settled` has passed it: rollups take the stretches between such
moments, each once. That rests on three things. A transaction holds a lock that names a second no later than
its stamp, and gives it up after it has committed, so that it is either seen to be under way or its reports
are. No stamp is before what is rolled up already, so that a clock that is set back brings no report among
those that were counted. And the clock is not set back by more than `rollups.MARGIN` within the one
transaction that counts a stretch; if it is, the roller's next run mends it as far as it sees it
(`Roller.run`), and a rebuild for certain.
"""

import struct
from collections.abc import Callable, Collection, Iterable
from datetime import date, datetime, timedelta
from itertools import chain
from operator import itemgetter
from sys import getsizeof
from typing import Any

import asyncpg
import msgspec

from domain.metrics import is_error
from domain.policy import CandidateModel
from domain.pricing import price
from domain.reports import MetricReport, QualityEvaluation
from storage.database import Database, unreachable_as_database_error

Row = tuple[Any, ...]
PriceOverride = Callable[[str, str, str], CandidateModel | None]
"""A policy's own prices, by service, provider and model."""

METRIC_COLUMNS = (
    "received_at",
    "ts",
    "service",
    "endpoint",
    "provider",
    "model",
    "config_version",
    "request_id",
    "latency_ms",
    "tokens_input",
    "tokens_output",
    "tokens_total",
    "cost_usd",
    "status_code",
    "error_type",
    "retry_count",
    "tags",
)
QUALITY_COLUMNS = (
    "received_at",
    "ts",
    "service",
    "request_id",
    "config_version",
    "overall_score",
    "dimension_scores",
    "evaluation_method",
    "tags",
)
COLUMNS = {"metrics": METRIC_COLUMNS, "quality": QUALITY_COLUMNS}

_POSTGRES_EPOCH = date(2000, 1, 1)
_POSTGRES_EPOCH_US = 946_684_800_000_000
DAY_US = 86_400_000_000
NEXT_ARRIVAL = "GREATEST(clock_timestamp(), requests_until, scores_until)"
"""The arrival of what would be written now, of `rollup_progress`."""
_LOCKS = 0x61727276
"""Of the advisory locks of stamps; their other half is a second since 1970."""
# Per value and row, so that it should be no function of Python's.
_INT64 = struct.Struct("!q")
_encode = msgspec.json.Encoder().encode
_ROW_BYTES = 800
# Of either table's rows; -3 is a call's kind of error.
_LONG = itemgetter(-1, -3)


def metric_rows(reports: Iterable[MetricReport], override: PriceOverride) -> list[Row]:
    """Rows without their arrival. A call without a cost is priced; where no price is known it has none.

    Nor has an answer of no tokens at all, whose usage the caller did not know.
    """
    return [
        (
            report.timestamp * 1000 - _POSTGRES_EPOCH_US,
            report.service,
            report.endpoint,
            report.provider,
            report.model,
            report.config_version,
            report.request_id,
            report.latency_ms,
            report.tokens_input,
            report.tokens_output,
            report.tokens_total,
            _cost(report, override) if report.cost_usd is None else report.cost_usd,
            report.status_code,
            report.error_type,
            report.retry_count,
            _encode(report.tags).decode() if report.tags else None,
        )
        for report in reports
    ]


def quality_rows(evaluations: Iterable[QualityEvaluation]) -> list[Row]:
    """Rows without their arrival."""
    return [
        (
            evaluation.timestamp * 1000 - _POSTGRES_EPOCH_US,
            evaluation.service,
            evaluation.request_id,
            evaluation.version,
            evaluation.overall_score,
            _json(evaluation.dimension_scores),
            evaluation.evaluation_method,
            _json(evaluation.tags),
        )
        for evaluation in evaluations
    ]


def bytes_of(rows: Collection[Row]) -> int:
    """About how much memory rows hold; long ones do by their tags and scores by dimension."""
    return len(rows) * _ROW_BYTES + sum(map(getsizeof, chain.from_iterable(map(_LONG, rows))))


async def connect_for_copy(database: Database) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection on which a `timestamptz` is whole microseconds since 2000, as PostgreSQL keeps it.

    Raises:
        DatabaseError: PostgreSQL is out of reach.
    """
    connection = await database.connect(name="llm-optimizer intake")
    try:
        with unreachable_as_database_error():
            await connection.set_type_codec(
                "timestamptz",
                schema="pg_catalog",
                encoder=_INT64.pack,
                decoder=lambda encoded: _INT64.unpack(encoded)[0],
                format="binary",
            )
    except BaseException:
        connection.terminate()
        raise
    return connection


async def copy_rows(
    connection: "asyncpg.Connection[asyncpg.Record]", table: str, rows: Iterable[Row], received_at: int
) -> None:
    """Append rows that arrive now, in the caller's transaction."""
    arriving = map((received_at,).__add__, rows)
    await connection.copy_records_to_table(table, records=arriving, columns=COLUMNS[table])


async def clock(connection: "asyncpg.Connection[asyncpg.Record]") -> int:
    """The arrival of what the caller's transaction goes on to write, as `copy_rows` takes it."""
    row = await connection.fetchrow(
        f"""
        SELECT pg_advisory_xact_lock_shared($1 + floor(extract(epoch FROM clock_timestamp()))::bigint),
               {NEXT_ARRIVAL} AS now
        FROM rollup_progress
        """,
        _LOCKS << 32,
    )
    now: int = row["now"]
    return now


async def settled(connection: "asyncpg.Connection[asyncpg.Record]", wait: timedelta) -> datetime:
    """A moment at least `wait` ago before which nothing more can arrive."""
    moment: datetime = await connection.fetchval(
        """
        SELECT LEAST(statement_timestamp() - $1::interval, to_timestamp(min(objid::bigint))) FROM pg_locks
        WHERE locktype = 'advisory' AND classid = $2 AND objsubid = 1
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """,
        *(wait, _LOCKS),
    )
    return moment


def start_of(day: date) -> int:
    """Midnight UTC as `clock` counts."""
    return (day - _POSTGRES_EPOCH).days * DAY_US


def _json(value: dict[str, Any] | None) -> str | None:
    return _encode(value).decode() if value else None


def _cost(report: MetricReport, override: PriceOverride) -> float | None:
    used = report.tokens_input or report.tokens_output
    if not used and not is_error(report.status_code, report.error_type):
        return None
    return price(
        report.provider,
        report.model,
        report.tokens_input,
        report.tokens_output,
        override(report.service, report.provider, report.model),
        report.timestamp,
    )
