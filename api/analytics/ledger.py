"""`/analytics/calibration` and `/analytics/savings`: what was promised beside what was then measured."""

from collections import defaultdict
from collections.abc import Iterable

from fastapi import APIRouter

from api.analytics.queries import Services, Since, service_names
from api.auth import Reader
from api.body import StrictRoute
from api.paging import PageQuery
from api.server import ServerDep
from domain.base import Message
from domain.ledger.brier import Confidence, confidence_score
from domain.ledger.calibration import Calibration, calibration
from domain.ledger.entry import LedgerEntry
from domain.ledger.savings import DeploymentSavings, TotalSavings, total_savings
from domain.ledger.widening import MOST
from storage import ledger, savings
from storage.ledger import Selection

router = APIRouter(prefix="/analytics", tags=["analytics"], route_class=StrictRoute)


class MetricCalibration(Calibration):
    """The calibration of what is predicted of a metric, and by what factor predictions are widened now."""

    metric: str
    widening: float


class ServiceCalibration(Message):
    """The calibration of what is predicted of a service."""

    service: str
    overall: Calibration
    metrics: list[MetricCalibration]


class Counts(Message):
    """How many predictions there are.

    Those that were `measured`; `pending`, whose deployments have not ended; and `unmeasured`, whose
    deployments ended before there was enough of the metric in both arms.
    """

    measured: int
    pending: int
    unmeasured: int


class CalibrationResponse(Message):
    """How far predictions can be trusted, and a page of the ledger itself, the newest deployments first."""

    predictions: Counts
    overall: Calibration
    metrics: list[MetricCalibration]
    services: list[ServiceCalibration]
    confidence: Confidence
    largest_widening: float
    total: int
    entries: list[LedgerEntry]


class SavingsResponse(Message):
    """A page of deployments, the newest first, how many there are, and what all of them saved."""

    total: int
    sums: TotalSavings
    deployments: list[DeploymentSavings]


@router.get("/calibration", response_model_exclude_none=True)
async def get_calibration(
    server: ServerDep,
    _: Reader,
    page: PageQuery,
    services: Services = None,
    start: Since = None,
    end: Since = None,
) -> CalibrationResponse:
    """How often the 90 % intervals of predictions held, and whether confidence came true.

    Of the deployments opened in [start, end). A prediction is of the new configuration's level, and compared
    by its effect: canary against control at the same time, against the promised level over that of the
    configuration it was to replace; a drift of the whole service is no error of it. It held if the measured
    effect lies in its 90 % interval, widened by the measurement's own error. `widening` is what the next
    predictions' standard deviations are multiplied by: under `services` the factors that the service's
    decisions use, else those of all services. It is not subject to the filters.
    """
    selection = Selection(service_names(services), start, end)
    async with server.database.transaction() as session:
        every = await ledger.entries(session, selection)
        known = await ledger.confidences(session, selection)
        predicted = [entry for entry in every if entry.predicted is not None]
        factors = await ledger.widenings(session, sorted({entry.service for entry in predicted}))
    return CalibrationResponse(
        predictions=_counts(predicted),
        overall=_of(predicted, one_metric=False),
        metrics=_by_metric(predicted, factors.overall),
        services=[
            ServiceCalibration(
                service=name,
                overall=_of(of_service, one_metric=False),
                metrics=_by_metric(of_service, own),
            )
            for name, own in factors.services.items()
            if (of_service := [entry for entry in predicted if entry.service == name])
        ],
        confidence=confidence_score([said for said, came in known], [came for said, came in known]),
        largest_widening=MOST,
        total=len(every),
        entries=every[page.offset : page.offset + page.limit],
    )


@router.get("/savings", response_model_exclude_none=True)
async def get_savings(
    server: ServerDep,
    _: Reader,
    page: PageQuery,
    services: Services = None,
    start: Since = None,
    end: Since = None,
) -> SavingsResponse:
    """What deployments saved in USD, measured and projected, against what was promised.

    Of the deployments opened in [start, end) of which cost was predicted or measured. `measured` is over the
    priced requests of the canary that ran beside control; `projected` assumes that each further request of
    the new version, until now, saves what those did. Requests count that named their version, as long as
    their reports are kept. Below nil: it costs more.
    """
    selection = Selection(service_names(services), start, end)
    async with server.database.transaction() as session:
        every = await savings.read(session, selection)
    return SavingsResponse(
        total=len(every),
        sums=total_savings(every),
        deployments=every[page.offset : page.offset + page.limit],
    )


def _counts(predicted: Iterable[LedgerEntry]) -> Counts:
    counts = {"measured": 0, "pending": 0, "unmeasured": 0}
    for entry in predicted:
        ended = "unmeasured" if entry.comparison is None else "measured"
        counts["pending" if entry.settled_at is None else ended] += 1
    return Counts(**counts)


def _of(predicted: Iterable[LedgerEntry], *, one_metric: bool) -> Calibration:
    found = [entry.comparison for entry in predicted if entry.comparison is not None]
    return calibration(found, one_metric=one_metric)


def _by_metric(predicted: Iterable[LedgerEntry], widening: dict[str, float]) -> list[MetricCalibration]:
    groups = defaultdict[str, list[LedgerEntry]](list)
    for entry in predicted:
        groups[entry.metric].append(entry)
    return [
        MetricCalibration(
            metric=metric, widening=widening.get(metric, 1.0), **dict(_of(group, one_metric=True))
        )
        for metric, group in sorted(groups.items())
    ]
