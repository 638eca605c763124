"""Which spans and series were taken, and which services send spans."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE taken_spans (
        trace bytea NOT NULL,
        span bytea NOT NULL,
        part integer NOT NULL,
        ancestors bytea NOT NULL,
        response text,
        began bigint NOT NULL,
        ended bigint NOT NULL,
        taken_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (trace, span, part)
    )
    """,
    """
    CREATE TABLE taken_series (
        series bytea PRIMARY KEY,
        at bigint NOT NULL,
        before bigint,
        count bigint NOT NULL,
        sum double precision NOT NULL,
        buckets bytea NOT NULL,
        taken_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX taken_spans_taken_at ON taken_spans USING brin (taken_at)",
    "CREATE TABLE span_services (service text PRIMARY KEY, last_at timestamptz NOT NULL DEFAULT now())",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
