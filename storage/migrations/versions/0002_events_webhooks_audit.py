"""The published order of events, webhooks with their deliveries, the audit log, and times of decisions."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "ALTER TABLE optimized_services ADD COLUMN analyzed_at timestamptz, ADD COLUMN decided_at timestamptz",
    "ALTER TABLE events ADD COLUMN position bigint UNIQUE",
    """
    CREATE TABLE event_log (
        id integer PRIMARY KEY CHECK (id = 1),
        position bigint NOT NULL,
        installation text NOT NULL DEFAULT gen_random_uuid()::text
    )
    """,
    "INSERT INTO event_log (id, position) VALUES (1, 0)",
    "CREATE INDEX events_unpublished ON events (sequence) WHERE position IS NULL",
    "CREATE INDEX events_type ON events (type, position)",
    "CREATE INDEX events_timestamp ON events (timestamp)",
    "DROP INDEX events_scope",
    "CREATE INDEX events_scope ON events (scope, position)",
    # Publishing changes rows as well, and tells of it in a notification of its own.
    "DROP TRIGGER notify ON events",
    "CREATE TRIGGER notify AFTER INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION notify_change()",
    """
    CREATE TABLE webhooks (
        id text PRIMARY KEY,
        url text NOT NULL,
        events text[],
        headers jsonb NOT NULL DEFAULT '{}',
        secret text,
        previous_secret text,
        previous_secret_until timestamptz,
        retry_policy jsonb NOT NULL,
        enabled boolean NOT NULL DEFAULT true,
        disabled_reason text,
        source text NOT NULL CHECK (source IN ('api', 'file')),
        position bigint NOT NULL,
        not_before timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        created_by text NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE webhook_deliveries (
        id text PRIMARY KEY,
        webhook_id text NOT NULL REFERENCES webhooks ON DELETE CASCADE,
        event_id text NOT NULL,
        event_type text NOT NULL,
        position bigint NOT NULL,
        lane text NOT NULL,
        status text NOT NULL CHECK (status IN ('pending', 'delivered', 'failed')),
        attempts integer NOT NULL DEFAULT 0,
        next_attempt_at timestamptz NOT NULL DEFAULT now(),
        response_status integer,
        error text,
        duration_ms double precision,
        created_at timestamptz NOT NULL DEFAULT now(),
        last_attempt_at timestamptz,
        ended_at timestamptz,
        UNIQUE (webhook_id, position)
    )
    """,
    "CREATE INDEX webhook_deliveries_pending ON webhook_deliveries (webhook_id, lane, position) "
    "WHERE status = 'pending'",
    "CREATE INDEX webhook_deliveries_ended ON webhook_deliveries (ended_at)",
    # One look-up per lane, however many wait in it.
    """
    CREATE FUNCTION webhook_heads(webhook text)
    RETURNS TABLE (lane text, "position" bigint, next_attempt_at timestamptz)
    LANGUAGE sql STABLE AS $$
        WITH RECURSIVE heads AS (
            (
                SELECT d.lane, d.position, d.next_attempt_at FROM webhook_deliveries d
                WHERE d.webhook_id = webhook AND d.status = 'pending'
                ORDER BY d.lane, d.position LIMIT 1
            )
            UNION ALL
            SELECT following.* FROM heads CROSS JOIN LATERAL (
                SELECT d.lane, d.position, d.next_attempt_at FROM webhook_deliveries d
                WHERE d.webhook_id = webhook AND d.status = 'pending' AND d.lane > heads.lane
                ORDER BY d.lane, d.position LIMIT 1
            ) AS following
        )
        SELECT * FROM heads
    $$
    """,
    """
    CREATE TABLE audit_log (
        sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT now(),
        principal_id text NOT NULL,
        principal_name text NOT NULL,
        action text NOT NULL,
        target text NOT NULL,
        request_id text,
        details jsonb
    )
    """,
    "CREATE INDEX audit_log_target ON audit_log (target, sequence)",
    "CREATE INDEX audit_log_action ON audit_log (action, sequence)",
    """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the audit log is append-only';
    END $$
    """,
    "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_log "
    "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()",
    # Not of what delivery itself writes, which would wake it again.
    "CREATE TRIGGER notify AFTER INSERT OR UPDATE OF url, events, headers, secret, retry_policy, enabled "
    "OR DELETE ON webhooks FOR EACH STATEMENT EXECUTE FUNCTION notify_change()",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
