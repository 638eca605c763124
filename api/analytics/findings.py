"""`/analytics`: what the analysis finds by itself, and what it compares with."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from api.analytics.queries import Services, service_names
from api.auth import Reader
from api.body import StrictRoute
from api.commands import WriteActor, WriteCommand
from api.idempotency import json_answer
from api.paging import PageQuery
from api.server import ServerDep
from domain.analysis.anomaly import Anomaly
from domain.analysis.changes import Change
from domain.analysis.comparison import WindowTrend
from domain.analysis.trends import Trend
from domain.analytics import AskedMetric
from domain.base import Message
from domain.baseline import Baseline, BaselineResponse, GoldenRequest
from domain.conditions import Severity, Window
from domain.idempotency import Answer
from domain.metrics import canonical
from domain.scope import ServiceName
from storage import analysis, audit, baselines, idempotency
from storage.tables import AnomalyEpisode, ChangeRecord, TrendRecord

router = APIRouter(prefix="/analytics", tags=["analytics"], route_class=StrictRoute)

OneMetric = Annotated[AskedMetric | None, Query(description="Only of this metric.")]
Moment = Annotated[int | None, Query(ge=0, le=10**14, description="Milliseconds since the epoch.")]


class ServiceAnomaly(Anomaly):
    """An anomaly of a service's metric in windows of some length.

    `configVersion` is what the service served when it was found.
    """

    id: str
    service: str
    window: Window
    config_version: str | None = None


class AnomalyList(Message):
    """A page of anomalies, the latest first, and how many there are."""

    total: int
    anomalies: list[ServiceAnomaly]


class ServiceTrend(Trend):
    """A trend of a service's metric over a window; `deseasonalised` when its daily cycle was taken off."""

    service: str
    window: Window
    deseasonalised: bool
    computed_at: int


class TrendList(Message):
    """A page of trends by service, metric and window, and how many there are."""

    total: int
    trends: list[ServiceTrend]


class ServiceChange(Change):
    """How a service's metric compares with its baseline."""

    service: str
    computed_at: int


class ChangeList(Message):
    """A page of changes by service, metric and method, and how many there are."""

    total: int
    changes: list[ServiceChange]


@router.get("/anomalies", response_model_exclude_none=True)
async def list_anomalies(
    server: ServerDep,
    _: Reader,
    page: PageQuery,
    services: Services = None,
    metric: OneMetric = None,
    min_severity: Annotated[
        Severity | None, Query(alias="minSeverity", description="Only those that are at least so grave.")
    ] = None,
    is_open: Annotated[
        bool | None, Query(alias="open", description="Only those that go on, or only those that are over.")
    ] = None,
    start: Moment = None,
    end: Moment = None,
) -> AnomalyList:
    """The anomalies of which some part lies in [start, end), the latest first.

    Watched are latency.p95, latency.avg, cost.avg, errors.rate, quality.avg, tokens.output and requests.rate
    over windows of 1m, 5m and 1h; a window with fewer than 20 requests (10 scores) does not count. Kept for
    90 days.
    """
    wanted = analysis.AnomalyFilter(
        services=service_names(services),
        metric=None if metric is None else canonical(metric),
        min_severity=min_severity,
        is_open=is_open,
        start=start,
        end=end,
    )
    async with server.database.transaction() as session:
        total, rows = await analysis.list_anomalies(session, wanted, limit=page.limit, offset=page.offset)
    return AnomalyList(total=total, anomalies=[_anomaly(row) for row in rows])


@router.get("/trends", response_model_exclude_none=True)
async def list_trends(
    server: ServerDep,
    _: Reader,
    page: PageQuery,
    services: Services = None,
    metric: OneMetric = None,
    window: Annotated[Window | None, Query(description="Only over this window.")] = None,
) -> TrendList:
    """Where each metric is going over the last hour, day and week, with a forecast; found every 15 minutes.

    A day or week has a trend once the service's daily cycle is known, after three days.
    """
    async with server.database.transaction() as session:
        total, rows = await analysis.list_trends(
            session,
            services=service_names(services),
            metric=None if metric is None else canonical(metric),
            window=window,
            limit=page.limit,
            offset=page.offset,
        )
    return TrendList(total=total, trends=[_trend(row) for row in rows])


@router.get("/changes", response_model_exclude_none=True)
async def list_changes(
    server: ServerDep, _: Reader, page: PageQuery, services: Services = None, metric: OneMetric = None
) -> ChangeList:
    """How each metric now compares with its baseline, by the test that fits; found every 15 minutes."""
    async with server.database.transaction() as session:
        total, rows = await analysis.list_changes(
            session,
            services=service_names(services),
            metric=None if metric is None else canonical(metric),
            limit=page.limit,
            offset=page.offset,
        )
    return ChangeList(total=total, changes=[_change(row) for row in rows])


@router.get("/baselines", response_model_exclude_none=True)
async def get_baselines(server: ServerDep, _: Reader, services: Services = None) -> BaselineResponse:
    """What to compare a service's metrics with, as it was last measured, every 15 minutes or by hand.

    Its first day, its last day, the same hour of the days before, its busiest hour, the day before its last
    change, and what was set by hand.
    """
    async with server.database.transaction() as session:
        return BaselineResponse(baselines=await baselines.stored(session, service_names(services)))


@router.post("/baselines/golden", response_model=Baseline, response_model_exclude_none=True)
async def set_golden_baseline(server: ServerDep, command: WriteCommand, body: GoldenRequest) -> JSONResponse:
    """Measure a stretch of a service, and keep it as its golden baseline until it is set again or removed."""
    async with server.database.transaction() as session:
        answer = await idempotency.earlier_answer(session, command.claim)
        if answer is None:
            made = await baselines.set_golden(session, body, by=command.actor.name)
            details = {"start": body.start, "end": body.end, "requests": made.sample_size}
            audit.record(session, command.actor, "baseline.set", body.service, details)
            answer = Answer(200, made.to_json())
            await idempotency.keep_answer(session, command.claim, answer)
    return json_answer(answer)


@router.delete("/baselines/golden/{service}", response_model_exclude_none=True)
async def remove_golden_baseline(server: ServerDep, actor: WriteActor, service: ServiceName) -> Baseline:
    """Remove a service's golden baseline; the answer is what it was."""
    async with server.database.transaction() as session:
        removed = await baselines.remove_golden(session, service)
        audit.record(session, actor, "baseline.remove", service)
    return removed


def _anomaly(row: AnomalyEpisode) -> ServiceAnomaly:
    return ServiceAnomaly.model_validate(
        {
            **analysis.anomaly_of(row).model_dump(),
            "id": row.id,
            "service": row.service,
            "window": row.window,
            "config_version": row.config_version,
        }
    )


def _trend(row: TrendRecord) -> ServiceTrend:
    found = WindowTrend.model_validate(row.trend)
    return ServiceTrend.model_validate(
        {
            **found.trend.model_dump(),
            "service": row.service,
            "window": found.window,
            "deseasonalised": found.deseasonalised,
            "computed_at": row.computed_at,
        }
    )


def _change(row: ChangeRecord) -> ServiceChange:
    return ServiceChange.model_validate(
        {
            **Change.model_validate(row.change).model_dump(),
            "service": row.service,
            "computed_at": row.computed_at,
        }
    )
