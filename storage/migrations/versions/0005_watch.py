"""What rules and triggers did, what was noticed of models and prices, and how a rule decided a run."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_STATEMENTS = (
    # Whatever fires once per reference (a run, a rollout) is kept once.
    """
    CREATE TABLE firings (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        service text NOT NULL,
        key text NOT NULL,
        action text NOT NULL,
        fired_at timestamptz NOT NULL DEFAULT now(),
        words text NOT NULL,
        reference text,
        UNIQUE (service, key, reference)
    )
    """,
    "CREATE INDEX firings_latest ON firings (service, key, fired_at)",
    "CREATE INDEX firings_age ON firings (fired_at)",
    """
    CREATE TABLE noticed_offers (
        service text PRIMARY KEY,
        known jsonb NOT NULL,
        seen jsonb,
        since timestamptz
    )
    """,
    "ALTER TABLE optimized_services ADD COLUMN ruling jsonb",
    "CREATE INDEX rollouts_scope ON rollouts (scope, ended_at)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
