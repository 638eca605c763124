"""The first schema."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = (
    """
    CREATE TABLE control (
        id integer PRIMARY KEY CHECK (id = 1),
        state text NOT NULL CHECK (state IN ('running', 'paused', 'stopped')),
        epoch bigint NOT NULL,
        revision bigint NOT NULL,
        reason text,
        changed_at timestamptz NOT NULL DEFAULT now(),
        changed_by text
    )
    """,
    "INSERT INTO control (id, state, epoch, revision) VALUES (1, 'running', 0, 0)",
    """
    CREATE TABLE api_keys (
        id text PRIMARY KEY,
        name text NOT NULL,
        digest text NOT NULL UNIQUE,
        scopes text[] NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz,
        revoked_at timestamptz
    )
    """,
    """
    CREATE TABLE services (
        name text PRIMARY KEY,
        policy jsonb NOT NULL DEFAULT '{}',
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE config_versions (
        version text PRIMARY KEY,
        scope text NOT NULL,
        number integer NOT NULL,
        config jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        created_by text NOT NULL,
        change_type text NOT NULL CHECK (change_type IN ('manual', 'automatic')),
        reason text NOT NULL,
        deployment_id text,
        derived_from text,
        UNIQUE (scope, number)
    )
    """,
    """
    CREATE TABLE scopes (
        scope text PRIMARY KEY,
        active_version text REFERENCES config_versions,
        known_good_version text REFERENCES config_versions,
        applied_at timestamptz,
        applied_by text,
        last_number integer NOT NULL DEFAULT 0
    )
    """,
    """
    CREATE TABLE optimizations (
        id text PRIMARY KEY,
        status text NOT NULL CHECK (status IN ('queued', 'running', 'completed', 'failed')),
        progress integer NOT NULL DEFAULT 0,
        phase text NOT NULL DEFAULT 'observe' CHECK (phase IN ('observe', 'analyze', 'decide', 'act')),
        request jsonb NOT NULL,
        triggered_by text NOT NULL,
        trigger_details jsonb,
        created_by text NOT NULL,
        epoch bigint NOT NULL,
        trigger_key text UNIQUE,
        dispatched boolean NOT NULL DEFAULT false,
        created_at timestamptz NOT NULL DEFAULT now(),
        started_at timestamptz,
        ended_at timestamptz,
        decision text,
        reasoning text,
        error text
    )
    """,
    """
    CREATE TABLE optimized_services (
        optimization_id text NOT NULL REFERENCES optimizations ON DELETE CASCADE,
        service text NOT NULL,
        open boolean NOT NULL DEFAULT true,
        policy jsonb,
        observation jsonb,
        analysis jsonb,
        plan jsonb,
        reasoning text,
        deployment_id text,
        PRIMARY KEY (optimization_id, service)
    )
    """,
    """
    CREATE TABLE rollouts (
        id text PRIMARY KEY,
        scope text NOT NULL,
        strategy text NOT NULL,
        change_type text NOT NULL,
        changed_by text NOT NULL,
        reason text NOT NULL,
        from_version text NOT NULL REFERENCES config_versions,
        to_version text NOT NULL REFERENCES config_versions,
        optimization_id text REFERENCES optimizations,
        plan jsonb NOT NULL,
        policy jsonb NOT NULL,
        predicted jsonb,
        status text NOT NULL,
        step integer NOT NULL DEFAULT -1,
        traffic_percent double precision NOT NULL DEFAULT 0,
        watched_until timestamptz,
        epoch bigint NOT NULL,
        fence bigint NOT NULL DEFAULT 0,
        dispatched boolean NOT NULL DEFAULT false,
        check_number integer NOT NULL DEFAULT 0,
        bucket_until timestamptz,
        gate_state jsonb,
        improvements jsonb,
        rollback jsonb,
        error text,
        created_at timestamptz NOT NULL DEFAULT now(),
        started_at timestamptz,
        ended_at timestamptz
    )
    """,
    """
    CREATE TABLE rollout_steps (
        deployment_id text NOT NULL REFERENCES rollouts ON DELETE CASCADE,
        step integer NOT NULL,
        percent double precision NOT NULL,
        traffic_percent double precision NOT NULL,
        started_at timestamptz NOT NULL,
        ended_at timestamptz,
        extensions integer NOT NULL DEFAULT 0,
        verdict text,
        PRIMARY KEY (deployment_id, step)
    )
    """,
    """
    CREATE TABLE rollout_checks (
        deployment_id text NOT NULL REFERENCES rollouts ON DELETE CASCADE,
        number integer NOT NULL,
        step integer NOT NULL,
        at timestamptz NOT NULL,
        bucket_from timestamptz NOT NULL,
        bucket_until timestamptz NOT NULL,
        verdict text NOT NULL,
        reason text NOT NULL,
        result jsonb NOT NULL,
        PRIMARY KEY (deployment_id, number)
    )
    """,
    """
    CREATE TABLE events (
        sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id text NOT NULL UNIQUE,
        type text NOT NULL,
        scope text NOT NULL,
        timestamp timestamptz NOT NULL DEFAULT now(),
        data jsonb NOT NULL
    )
    """,
    """
    CREATE TABLE idempotency_keys (
        principal text NOT NULL,
        key text NOT NULL,
        fingerprint text NOT NULL,
        status integer NOT NULL,
        answer jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (principal, key)
    )
    """,
    # Partitioned by arrival, not by the client's timestamp: no report can miss its partition.
    """
    CREATE TABLE metrics (
        received_at timestamptz NOT NULL,
        ts timestamptz NOT NULL,
        service text NOT NULL,
        endpoint text NOT NULL,
        provider text NOT NULL,
        model text NOT NULL,
        config_version text,
        request_id text,
        latency_ms double precision NOT NULL,
        tokens_input bigint NOT NULL,
        tokens_output bigint NOT NULL,
        tokens_total bigint NOT NULL,
        cost_usd double precision,
        status_code integer NOT NULL,
        error_type text,
        retry_count integer,
        tags jsonb
    ) PARTITION BY RANGE (received_at)
    """,
    """
    CREATE TABLE quality (
        received_at timestamptz NOT NULL,
        ts timestamptz NOT NULL,
        service text NOT NULL,
        request_id text,
        config_version text,
        overall_score double precision NOT NULL,
        dimension_scores jsonb,
        evaluation_method text,
        tags jsonb
    ) PARTITION BY RANGE (received_at)
    """,
)

_OPEN = "status IN ('pending', 'awaiting_approval', 'running', 'paused', 'held', 'rolling_back')"
_INDEXES = (
    f"CREATE UNIQUE INDEX one_open_rollout ON rollouts (scope) WHERE {_OPEN}",
    "CREATE INDEX rollouts_created ON rollouts (created_at)",
    "CREATE INDEX rollouts_optimization ON rollouts (optimization_id)",
    "CREATE INDEX rollouts_undispatched ON rollouts (created_at) WHERE status = 'pending' AND NOT dispatched",
    "CREATE UNIQUE INDEX one_open_optimization ON optimized_services (service) WHERE open",
    "CREATE INDEX optimizations_created ON optimizations (created_at)",
    "CREATE INDEX optimizations_undispatched ON optimizations (created_at) "
    "WHERE status = 'queued' AND NOT dispatched",
    "CREATE INDEX events_scope ON events (scope, sequence)",
    "CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at)",
    "CREATE INDEX metrics_service ON metrics (service, received_at)",
    "CREATE INDEX metrics_ts ON metrics USING brin (ts)",
    "CREATE INDEX metrics_request ON metrics (request_id) WHERE request_id IS NOT NULL",
    "CREATE INDEX quality_service ON quality (service, received_at)",
)

# Whoever caches what is served, or waits for work, hears of each change as it commits.
_NOTIFICATIONS = (
    """
    CREATE FUNCTION notify_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('optimizer', TG_TABLE_NAME);
        RETURN NULL;
    END $$
    """,
    *(
        f"CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION notify_change()"
        for table in ("control", "scopes", "rollouts", "api_keys", "services", "optimizations", "events")
    ),
)


def upgrade() -> None:
    for statement in (*_TABLES, *_INDEXES, *_NOTIFICATIONS):
        op.execute(statement)
