"""Rows of `metrics` and `quality`, written by COPY."""

import struct
from collections.abc import Callable, Iterable
from datetime import date
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
INTAKE = "llm-optimizer intake"
"""How connections that write reports are called in `pg_stat_activity`."""
# Per value and row, so that it should be no function of Python's.
_INT64 = struct.Struct("!q")
_encode = msgspec.json.Encoder().encode


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


async def connect_for_copy(database: Database) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection on which a `timestamptz` is whole microseconds since 2000, as PostgreSQL keeps it.

    Raises:
        DatabaseError: PostgreSQL is out of reach.
    """
    connection = await database.connect(name=INTAKE)
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
    """The database's present time as `copy_rows` takes it, but never before what is rolled up already.

    So no report is passed over after the clock was set back.
    """
    now: int = await connection.fetchval(
        "SELECT GREATEST(clock_timestamp(), requests_until, scores_until) FROM rollup_progress"
    )
    return now


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
