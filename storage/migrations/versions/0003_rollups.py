"""Rollups of the reports, by minute, hour and day, and how far they are made."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Sketches are pairs of a bin and a count; see domain.sketches.
_COLUMNS = """
    arrived timestamptz NOT NULL,
    bucket timestamptz NOT NULL,
    service text NOT NULL,
    endpoint text,
    provider text,
    model text,
    config_version text,
    error text,
    n bigint NOT NULL,
    last_ts timestamptz,
    latency_sum double precision NOT NULL,
    latency_squares double precision NOT NULL,
    cost_n bigint NOT NULL,
    cost_sum double precision NOT NULL,
    cost_squares double precision NOT NULL,
    tokens_input_sum double precision NOT NULL,
    tokens_input_squares double precision NOT NULL,
    tokens_output_sum double precision NOT NULL,
    tokens_output_squares double precision NOT NULL,
    tokens_total_sum double precision NOT NULL,
    tokens_total_squares double precision NOT NULL,
    quality_n bigint NOT NULL,
    quality_sum double precision NOT NULL,
    quality_squares double precision NOT NULL,
    quality_extremes bigint NOT NULL,
    latency bytea,
    cost bytea,
    tokens_input bytea,
    tokens_output bytea
"""

_STATEMENTS = (
    f"CREATE TABLE rollup_minutes ({_COLUMNS}) PARTITION BY RANGE (arrived)",
    f"CREATE TABLE rollup_hours ({_COLUMNS})",
    f"CREATE TABLE rollup_days ({_COLUMNS})",
    *(
        f"CREATE INDEX {table}_{name} ON {table} ({columns})"
        for table in ("rollup_minutes", "rollup_hours", "rollup_days")
        for name, columns in (("bucket", "bucket"), ("service", "service, bucket"), ("arrived", "arrived"))
    ),
    # Up to where the arrivals of each are contained in the level's rows.
    """
    CREATE TABLE rollup_progress (
        id integer PRIMARY KEY CHECK (id = 1),
        requests_until timestamptz NOT NULL DEFAULT '-infinity',
        scores_until timestamptz NOT NULL DEFAULT '-infinity',
        hours_until timestamptz NOT NULL DEFAULT '-infinity',
        days_until timestamptz NOT NULL DEFAULT '-infinity'
    )
    """,
    "INSERT INTO rollup_progress (id) VALUES (1)",
    # A report's minute is looked for by its own timestamp, what is not rolled up yet by its arrival.
    "DROP INDEX metrics_ts",
    *(
        f"CREATE INDEX {table}_times ON {table} USING brin (ts, received_at) "
        "WITH (pages_per_range = 32, autosummarize = on)"
        for table in ("metrics", "quality")
    ),
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
