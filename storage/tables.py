"""Every table of records. `metrics` and `quality`, which are written by COPY, are in `storage.samples`."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Dialect,
    Float,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    Text,
    TypeDecorator,
    func,
    text,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from domain.times import moment

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Millis(TypeDecorator[int]):
    """A `timestamptz` in PostgreSQL, integer milliseconds since the epoch in Python, rounded down."""

    impl = TIMESTAMP(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else moment(value)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - _EPOCH) // timedelta(milliseconds=1)


def db_now() -> ColumnElement[int]:
    """When the present transaction began, by the database's clock."""
    return type_coerce(func.now(), Millis)


def db_clock(ahead_seconds: float = 0.0) -> ColumnElement[int]:
    """The database's clock at this statement, or so many seconds ahead of it."""
    clock = func.clock_timestamp(type_=TIMESTAMP(timezone=True))
    return type_coerce(clock + timedelta(seconds=ahead_seconds), Millis)


Json = dict[str, Any]


class Base(DeclarativeBase):
    # What the database computes is read back with the statement: async code cannot load it later.
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012  read once by SQLAlchemy
    type_annotation_map = {str: Text, Json: JSONB(none_as_null=True), list[str]: ARRAY(Text)}  # noqa: RUF012  read once by SQLAlchemy


class Control(Base):
    """The one row that says whether anything may start or go on.

    `epoch` counts emergency stops: a run that began in an earlier epoch may do nothing more. `revision`
    counts every change, so that a late signal can be told from a present one.
    """

    __tablename__ = "control"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    state: Mapped[str]
    epoch: Mapped[int] = mapped_column(BigInteger)
    revision: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str | None]
    changed_at: Mapped[int] = mapped_column(Millis, server_default=func.now())
    changed_by: Mapped[str | None]


class ApiKey(Base):
    """A key, of which only the hash is kept."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[int] = mapped_column(Millis, server_default=func.now())
    expires_at: Mapped[int | None] = mapped_column(Millis)
    revoked_at: Mapped[int | None] = mapped_column(Millis)


class Service(Base):
    """A known service. `policy` holds the fields that were given; what is absent takes its default."""

    __tablename__ = "services"
    name: Mapped[str] = mapped_column(primary_key=True)
    policy: Mapped[Json] = mapped_column(server_default="{}")
    created_at: Mapped[int] = mapped_column(Millis, server_default=func.now())
    updated_at: Mapped[int] = mapped_column(Millis, server_default=func.now())


class ScopeState(Base):
    """What a scope serves. No active version: it inherits."""

    __tablename__ = "scopes"
    scope: Mapped[str] = mapped_column(primary_key=True)
    active_version: Mapped[str | None]
    known_good_version: Mapped[str | None]
    applied_at: Mapped[int | None] = mapped_column(Millis)
    applied_by: Mapped[str | None]
    last_number: Mapped[int] = mapped_column(Integer, server_default="0")


class ConfigVersion(Base):
    """A version of a scope's configuration. Never edited."""

    __tablename__ = "config_versions"
    version: Mapped[str] = mapped_column(primary_key=True)
    scope: Mapped[str]
    number: Mapped[int] = mapped_column(Integer)
    config: Mapped[Json]
    created_at: Mapped[int] = mapped_column(Millis, server_default=func.now())
    created_by: Mapped[str]
    change_type: Mapped[str]
    reason: Mapped[str]
    deployment_id: Mapped[str | None]
    derived_from: Mapped[str | None]


class Rollout(Base):
    """A deployment. While it is open, its scope can have no other.

    `plan` is a `RolloutPlan`, `policy` the policy as of the start. Every write of a run requires its `fence`,
    and to raise the share its `epoch`. `bucket_until` is where the last closed bucket ended, by arrival.
    """

    __tablename__ = "rollouts"
    id: Mapped[str] = mapped_column(primary_key=True)
    scope: Mapped[str]
    strategy: Mapped[str]
    change_type: Mapped[str]
    changed_by: Mapped[str]
    reason: Mapped[str]
    from_version: Mapped[str]
    to_version: Mapped[str]
    optimization_id: Mapped[str | None]
    plan: Mapped[Json]
    policy: Mapped[Json]
    status: Mapped[str]
    step: Mapped[int] = mapped_column(Integer, server_default="-1")
    traffic_percent: Mapped[float] = mapped_column(Float, server_default="0")
    watched_until: Mapped[int | None] = mapped_column(Millis)
    epoch: Mapped[int] = mapped_column(BigInteger)
    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    dispatched: Mapped[bool] = mapped_column(Boolean, server_default="false")
    check_number: Mapped[int] = mapped_column(Integer, server_default="0")
    bucket_until: Mapped[int | None] = mapped_column(Millis)
    gate_state: Mapped[Json | None]
    rollback: Mapped[Json | None]
    error: Mapped[str | None]
    created_at: Mapped[int] = mapped_column(Millis, server_default=func.now())
    started_at: Mapped[int | None] = mapped_column(Millis)
    ended_at: Mapped[int | None] = mapped_column(Millis)


class RolloutStep(Base):
    """A step that began. Times are the workflow's."""

    __tablename__ = "rollout_steps"
    deployment_id: Mapped[str] = mapped_column(
        ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True
    )
    step: Mapped[int] = mapped_column(Integer, primary_key=True)
    percent: Mapped[float] = mapped_column(Float)
    traffic_percent: Mapped[float] = mapped_column(Float)
    started_at: Mapped[int] = mapped_column(Millis)
    ended_at: Mapped[int | None] = mapped_column(Millis)
    extensions: Mapped[int] = mapped_column(Integer, server_default="0")
    verdict: Mapped[str | None]


class RolloutCheck(Base):
    """One look at a rollout: what it saw and what followed. `at` is the workflow's time."""

    __tablename__ = "rollout_checks"
    deployment_id: Mapped[str] = mapped_column(
        ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    step: Mapped[int] = mapped_column(Integer)
    at: Mapped[int] = mapped_column(Millis)
    bucket_from: Mapped[int] = mapped_column(Millis)
    bucket_until: Mapped[int] = mapped_column(Millis)
    verdict: Mapped[str]
    reason: Mapped[str]
    result: Mapped[Json]


class LedgerRollout(Base):
    """What a deployment promised and came to as a whole; its metrics are in `LedgerMetric`. Never deleted.

    `utility` is against the incumbent, as measured at the last check, and `came_true` whether it is what the
    `confidence` was about; None while an objective has not been measured. `stopped`: the gate ended it on its
    figures. `settled_at` and `outcome` None: it is open.
    """

    __tablename__ = "ledger_rollouts"
    deployment_id: Mapped[str] = mapped_column(
        ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True
    )
    service: Mapped[str]
    scope: Mapped[str]
    confidence: Mapped[float | None] = mapped_column(Float)
    utility: Mapped[float | None] = mapped_column(Float)
    utility_se: Mapped[float | None] = mapped_column(Float)
    came_true: Mapped[bool | None] = mapped_column(Boolean)
    stopped: Mapped[bool] = mapped_column(Boolean, server_default="false")
    outcome: Mapped[str | None]
    opened_at: Mapped[int] = mapped_column(Millis, server_default=func.now())
    settled_at: Mapped[int | None] = mapped_column(Millis)


class LedgerMetric(Base):
    """A metric of a deployment: the prediction that it began with, and the measurement of its last check.

    `incumbent` is the level that the prediction started from, `widening` the factor by which it was widened.
    """

    __tablename__ = "ledger_metrics"
    deployment_id: Mapped[str] = mapped_column(
        ForeignKey("ledger_rollouts.deployment_id", ondelete="CASCADE"), primary_key=True
    )
    metric: Mapped[str] = mapped_column(primary_key=True)
    predicted: Mapped[Json | None]
    incumbent: Mapped[float | None] = mapped_column(Float)
    widening: Mapped[float] = mapped_column(Float, server_default="1")
    measured: Mapped[Json | None]


class Optimization(Base):
    """A run of the loop over some services."""

    __tablename__ = "optimizations"
    id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    progress: Mapped[int] = mapped_column(Integer, server_default="0")
    phase: Mapped[str] = mapped_column(server_default="observe")
    request: Mapped[Json]
    triggered_by: Mapped[str]
    trigger_details: Mapped[Json | None]
    created_by: Mapped[str]
    epoch: Mapped[int] = mapped_column(BigInteger)
    trigger_key: Mapped[str | None] = mapped_column(unique=True)
    dispatched: Mapped[bool] = mapped_column(Boolean, server_default="false")
    created_at: Mapped[int] = mapped_column(Millis, server_default=func.now())
    started_at: Mapped[int | None] = mapped_column(Millis)
    ended_at: Mapped[int | None] = mapped_column(Millis)
    decision: Mapped[str | None]
    reasoning: Mapped[str | None]
    error: Mapped[str | None]


class OptimizedService(Base):
    """A service's part in an optimization. A service has one open at a time.

    `widening` maps metrics to the factors that the plan's predictions were widened by. `ruling` is a
    `RuledBack`, where a rule wants the service to go back. `analyzed_at` and `decided_at` are None while that
    has not been done, or where the run ended before it.
    """

    __tablename__ = "optimized_services"
    optimization_id: Mapped[str] = mapped_column(
        ForeignKey("optimizations.id", ondelete="CASCADE"), primary_key=True
    )
    service: Mapped[str] = mapped_column(primary_key=True)
    open: Mapped[bool] = mapped_column(Boolean, server_default="true")
    policy: Mapped[Json | None]
    observation: Mapped[Json | None]
    analysis: Mapped[Json | None]
    plan: Mapped[Json | None]
    widening: Mapped[Json | None]
    ruling: Mapped[Json | None]
    reasoning: Mapped[str | None]
    deployment_id: Mapped[str | None]
    analyzed_at: Mapped[int | None] = mapped_column(Millis)
    decided_at: Mapped[int | None] = mapped_column(Millis)


class Firing(Base):
    """Something that a rule, a trigger or a brake (`key`) did for a service, and why.

    `reference` is what it did it to, or by: a run, a rollout. By one reference it is done once.
    """

    __tablename__ = "firings"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    service: Mapped[str]
    key: Mapped[str]
    action: Mapped[str]
    fired_at: Mapped[int] = mapped_column(Millis, server_default=func.now())
    words: Mapped[str]
    reference: Mapped[str | None]


class NoticedOffers(Base):
    """The models and prices that a service is known to have, and those `seen` since that differ."""

    __tablename__ = "noticed_offers"
    service: Mapped[str] = mapped_column(primary_key=True)
    known: Mapped[Json]
    seen: Mapped[Json | None]
    since: Mapped[int | None] = mapped_column(Millis)


class AnalysisProgress(Base):
    """Up to where something that a schedule does again and again is done, by its name.

    Detection of each length of window, by the windows' own time; trends and baselines, by the clock.
    """

    __tablename__ = "analysis_progress"
    name: Mapped[str] = mapped_column(primary_key=True)
    until: Mapped[int] = mapped_column(Millis)


class SeriesState(Base):
    """What detection remembers of a series. `until` is where its last window ended, `seen_at` where the last
    one with a request did.
    """

    __tablename__ = "series_states"
    service: Mapped[str] = mapped_column(primary_key=True)
    window: Mapped[str] = mapped_column("window_name", primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[bytes] = mapped_column(LargeBinary)
    until: Mapped[int] = mapped_column(Millis)
    seen_at: Mapped[int] = mapped_column(Millis)


class AnomalyEpisode(Base):
    """A `domain.analysis.anomaly.Anomaly` of a series, which has one open at a time.

    `config_version` is what the service served when it was found. `announced` is the severity that its last
    event told, None where it had none.
    """

    __tablename__ = "anomalies"
    id: Mapped[str] = mapped_column(primary_key=True)
    service: Mapped[str]
    metric: Mapped[str]
    window: Mapped[str] = mapped_column("window_name")
    config_version: Mapped[str | None]
    detector: Mapped[str]
    severity: Mapped[str]
    confidence: Mapped[float] = mapped_column(Float)
    direction: Mapped[str]
    harmful: Mapped[bool] = mapped_column(Boolean)
    strength: Mapped[float] = mapped_column(Float)
    windows: Mapped[int] = mapped_column(Integer)
    value: Mapped[float] = mapped_column(Float)
    low: Mapped[float] = mapped_column(Float)
    high: Mapped[float] = mapped_column(Float)
    started_at: Mapped[int] = mapped_column(Millis)
    last_at: Mapped[int] = mapped_column(Millis)
    ended_at: Mapped[int | None] = mapped_column(Millis)
    announced: Mapped[str | None]


class TrendRecord(Base):
    """A series' latest trend over a window, as `domain.analysis.comparison.WindowTrend`."""

    __tablename__ = "trends"
    service: Mapped[str] = mapped_column(primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    window: Mapped[str] = mapped_column("window_name", primary_key=True)
    trend: Mapped[Json]
    computed_at: Mapped[int] = mapped_column(Millis)


class BaselineRecord(Base):
    """What a service is compared with: its metrics of the stretch [since, until).

    `about` is what the baseline was made for: of `pre-change` the version. `reference` holds, of `golden`, a
    `domain.analysis.comparison.Reference` by metric. `created_by` is `schedule`, or who set it by hand.
    """

    __tablename__ = "baselines"
    service: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    metrics: Mapped[Json]
    reference: Mapped[Json | None]
    sample_size: Mapped[int] = mapped_column(BigInteger)
    since: Mapped[int] = mapped_column(Millis)
    until: Mapped[int] = mapped_column(Millis)
    about: Mapped[str | None]
    created_at: Mapped[int] = mapped_column(Millis)
    created_by: Mapped[str]


class ChangeRecord(Base):
    """How a metric last compared with a baseline, as `domain.analysis.changes.Change`."""

    __tablename__ = "baseline_changes"
    service: Mapped[str] = mapped_column(primary_key=True)
    method: Mapped[str] = mapped_column(primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    change: Mapped[Json]
    computed_at: Mapped[int] = mapped_column(Millis)


class Event(Base):
    """The outbox and log of events, written in the transaction of the change that they report.

    `sequence` is by insertion, and may become visible out of order; `position`, given after the commit,
    is the one order in which everybody reads. None: not published yet.
    """

    __tablename__ = "events"
    sequence: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    position: Mapped[int | None] = mapped_column(BigInteger, unique=True)
    id: Mapped[str] = mapped_column(unique=True)
    type: Mapped[str]
    scope: Mapped[str]
    timestamp: Mapped[int] = mapped_column(Millis, server_default=func.now())
    data: Mapped[Json]


class EventLog(Base):
    """The one row that tells up to which position events are published. Its lock is the right to publish.

    `installation` tells this database's events from another's where both share a Redis.
    """

    __tablename__ = "event_log"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger)
    installation: Mapped[str] = mapped_column(server_default=text("(gen_random_uuid())::text"))


class Webhook(Base):
    """An endpoint that is sent events. `events` None: every type.

    `source` is `api`, or `file` where the settings' YAML names it. `position` is up to where the log was
    taken over into `webhook_deliveries`. Nothing is sent before `not_before`, as the endpoint asked. A secret
    that was replaced signs beside its successor for a while.
    """

    __tablename__ = "webhooks"
    id: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str]
    events: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    headers: Mapped[Json] = mapped_column(server_default="{}")
    secret: Mapped[str | None]
    previous_secret: Mapped[str | None]
    previous_secret_until: Mapped[int | None] = mapped_column(Millis)
    retry_policy: Mapped[Json]
    enabled: Mapped[bool] = mapped_column(Boolean, server_default="true")
    disabled_reason: Mapped[str | None]
    source: Mapped[str]
    position: Mapped[int] = mapped_column(BigInteger)
    not_before: Mapped[int | None] = mapped_column(Millis)
    created_at: Mapped[int] = mapped_column(Millis, server_default=func.now())
    created_by: Mapped[str]
    updated_at: Mapped[int] = mapped_column(Millis, server_default=func.now())


class WebhookDelivery(Base):
    """An event on its way to an endpoint, and what became of it.

    Of each `lane` the lowest position that is `pending` goes first, and the others wait for it: the event's
    scope, or for a redelivery a lane of its own.
    """

    __tablename__ = "webhook_deliveries"
    id: Mapped[str] = mapped_column(primary_key=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    event_id: Mapped[str]
    event_type: Mapped[str]
    position: Mapped[int] = mapped_column(BigInteger)
    lane: Mapped[str]
    status: Mapped[str]
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    next_attempt_at: Mapped[int] = mapped_column(Millis, server_default=func.now())
    response_status: Mapped[int | None] = mapped_column(Integer)
    error: Mapped[str | None]
    duration_ms: Mapped[float | None] = mapped_column(Float)
    created_at: Mapped[int] = mapped_column(Millis, server_default=func.now())
    last_attempt_at: Mapped[int | None] = mapped_column(Millis)
    ended_at: Mapped[int | None] = mapped_column(Millis)


class AuditEntry(Base):
    """Who did what. PostgreSQL itself refuses to change or delete an entry."""

    __tablename__ = "audit_log"
    sequence: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[int] = mapped_column(Millis, server_default=func.now())
    principal_id: Mapped[str]
    principal_name: Mapped[str]
    action: Mapped[str]
    target: Mapped[str]
    request_id: Mapped[str | None]
    details: Mapped[Json | None]


class IdempotencyKey(Base):
    """The first answer to a POST that carried an `Idempotency-Key`, kept for 24 h."""

    __tablename__ = "idempotency_keys"
    principal: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    status: Mapped[int] = mapped_column(Integer)
    answer: Mapped[Json]
    created_at: Mapped[int] = mapped_column(Millis, server_default=func.now())


class TakenSpan(Base):
    """A `domain.spans.SpanMark` that was taken; `ancestors` holds ids of 8 bytes each."""

    __tablename__ = "taken_spans"
    trace: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    span: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    part: Mapped[int] = mapped_column(Integer, primary_key=True)
    ancestors: Mapped[bytes] = mapped_column(LargeBinary)
    response: Mapped[str | None]
    began: Mapped[int] = mapped_column(BigInteger)
    ended: Mapped[int] = mapped_column(BigInteger)
    taken_at: Mapped[int] = mapped_column(Millis, server_default=func.now())


class TakenSeries(Base):
    """Where a cumulative series stands. `at` and `before` (ns) are the times of its last two points;
    `buckets` are counts of 8 bytes each.
    """

    __tablename__ = "taken_series"
    series: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    at: Mapped[int] = mapped_column(BigInteger)
    before: Mapped[int | None] = mapped_column(BigInteger)
    count: Mapped[int] = mapped_column(BigInteger)
    sum: Mapped[float] = mapped_column(Float)
    buckets: Mapped[bytes] = mapped_column(LargeBinary)
    taken_at: Mapped[int] = mapped_column(Millis, server_default=func.now())


class SpanService(Base):
    """A service that sends spans: its metrics would count the same calls again."""

    __tablename__ = "span_services"
    service: Mapped[str] = mapped_column(primary_key=True)
    last_at: Mapped[int] = mapped_column(Millis, server_default=func.now())
