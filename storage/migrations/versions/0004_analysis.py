"""What the analysis remembers: series, anomalies, trends, baselines and changes against them."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "CREATE TABLE analysis_progress (name text PRIMARY KEY, until timestamptz NOT NULL)",
    # A state is written anew with every window: room for it on its page spares the index.
    """
    CREATE TABLE series_states (
        service text NOT NULL,
        window_name text NOT NULL,
        metric text NOT NULL,
        state bytea NOT NULL,
        until timestamptz NOT NULL,
        seen_at timestamptz NOT NULL,
        PRIMARY KEY (service, window_name, metric)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE anomalies (
        id text PRIMARY KEY,
        service text NOT NULL,
        metric text NOT NULL,
        window_name text NOT NULL,
        config_version text,
        detector text NOT NULL,
        severity text NOT NULL,
        confidence double precision NOT NULL,
        direction text NOT NULL,
        harmful boolean NOT NULL,
        strength double precision NOT NULL,
        windows integer NOT NULL,
        value double precision NOT NULL,
        low double precision NOT NULL,
        high double precision NOT NULL,
        started_at timestamptz NOT NULL,
        last_at timestamptz NOT NULL,
        ended_at timestamptz,
        announced text
    )
    """,
    "CREATE UNIQUE INDEX anomalies_open ON anomalies (service, metric, window_name) WHERE ended_at IS NULL",
    "CREATE INDEX anomalies_started ON anomalies (started_at, id)",
    "CREATE INDEX anomalies_service ON anomalies (service, started_at)",
    """
    CREATE TABLE trends (
        service text NOT NULL,
        metric text NOT NULL,
        window_name text NOT NULL,
        trend jsonb NOT NULL,
        computed_at timestamptz NOT NULL,
        PRIMARY KEY (service, metric, window_name)
    )
    """,
    """
    CREATE TABLE baselines (
        service text NOT NULL,
        kind text NOT NULL,
        metrics jsonb NOT NULL,
        reference jsonb,
        sample_size bigint NOT NULL,
        since timestamptz NOT NULL,
        until timestamptz NOT NULL,
        about text,
        created_at timestamptz NOT NULL,
        created_by text NOT NULL,
        PRIMARY KEY (service, kind)
    )
    """,
    """
    CREATE TABLE baseline_changes (
        service text NOT NULL,
        method text NOT NULL,
        metric text NOT NULL,
        change jsonb NOT NULL,
        computed_at timestamptz NOT NULL,
        PRIMARY KEY (service, method, metric)
    )
    """,
    # What a run found was its standing alone.
    """
    UPDATE optimized_services SET analysis = jsonb_build_object(
        'standing', analysis, 'changes', jsonb_build_array(), 'untested', jsonb_build_array(),
        'trends', jsonb_build_array(), 'anomalies', jsonb_build_array()
    ) WHERE analysis IS NOT NULL
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
