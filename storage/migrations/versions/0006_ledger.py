"""The ledger of predictions and measurements, with what earlier rollouts left in its place."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE ledger_rollouts (
        deployment_id text PRIMARY KEY REFERENCES rollouts ON DELETE CASCADE,
        service text NOT NULL,
        scope text NOT NULL,
        confidence double precision,
        utility double precision,
        utility_se double precision,
        came_true boolean,
        stopped boolean NOT NULL DEFAULT false,
        outcome text,
        opened_at timestamptz NOT NULL DEFAULT now(),
        settled_at timestamptz
    )
    """,
    """
    CREATE TABLE ledger_metrics (
        deployment_id text NOT NULL REFERENCES ledger_rollouts ON DELETE CASCADE,
        metric text NOT NULL,
        predicted jsonb,
        incumbent double precision,
        widening double precision NOT NULL DEFAULT 1,
        measured jsonb,
        PRIMARY KEY (deployment_id, metric)
    )
    """,
    "CREATE INDEX ledger_rollouts_opened ON ledger_rollouts (opened_at)",
    "CREATE INDEX ledger_rollouts_service ON ledger_rollouts (service, opened_at)",
    """
    INSERT INTO ledger_rollouts (deployment_id, service, scope, stopped, outcome, opened_at, settled_at)
    SELECT id, split_part(scope, ':', 1), scope,
           coalesce(jsonb_array_length(rollback -> 'triggers') > 0, false),
           CASE WHEN ended_at IS NOT NULL THEN status END, created_at, ended_at
    FROM rollouts
    """,
    # Without the level that a prediction started from it cannot be compared, but it can be read.
    """
    INSERT INTO ledger_metrics (deployment_id, metric, predicted)
    SELECT r.id, promised.key, promised.value
    FROM rollouts r, jsonb_each(r.predicted) AS promised
    """,
    """
    INSERT INTO ledger_metrics (deployment_id, metric, measured)
    SELECT r.id, seen.value ->> 'metric', jsonb_strip_nulls(jsonb_build_object(
        'control', seen.value -> 'control', 'canary', seen.value -> 'canary',
        'difference', seen.value -> 'difference', 'low', seen.value -> 'low', 'high', seen.value -> 'high',
        'samples', seen.value -> 'samples'))
    FROM rollouts r
    JOIN rollout_checks c ON c.deployment_id = r.id AND c.number = r.check_number
    CROSS JOIN jsonb_array_elements(c.result -> 'guardrails') AS seen
    WHERE seen.value ? 'difference'
    ON CONFLICT (deployment_id, metric) DO UPDATE SET measured = EXCLUDED.measured
    """,
    "ALTER TABLE rollouts DROP COLUMN predicted, DROP COLUMN improvements",
    "ALTER TABLE optimized_services ADD COLUMN widening jsonb",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
