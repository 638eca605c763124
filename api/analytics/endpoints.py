"""`/analytics`: what was recorded, what was decided, and what to compare with."""

from fastapi import APIRouter

from api.analytics.queries import MetricsParametersDep
from api.auth import Reader
from api.body import StrictRoute
from api.server import Server, ServerDep
from domain import series
from domain.analytics import MetricsQuery
from domain.series import MetricsQueryResponse
from storage import analytics

router = APIRouter(prefix="/analytics", tags=["analytics"], route_class=StrictRoute)


@router.get("/metrics", response_model_exclude_none=True)
async def get_metrics(server: ServerDep, _: Reader, parameters: MetricsParametersDep) -> MetricsQueryResponse:
    """Metrics of the calls whose timestamps lie in [start, end), over time and by group.

    `latency.*` and `tokens.*` are those of successes, `tokens.*` the mean of a call; calls of unknown cost
    count for neither `cost.avg` nor `cost.total`; `requests.rate` is per second. A score of quality counts
    at its own time, with the labels of its request.
    """
    return await _answer(server, parameters.query())


@router.post("/metrics", response_model_exclude_none=True)
async def query_metrics(server: ServerDep, _: Reader, body: MetricsQuery) -> MetricsQueryResponse:
    """The same as the GET, asked for by a body."""
    return await _answer(server, body)


async def _answer(server: Server, query: MetricsQuery) -> MetricsQueryResponse:
    async with server.database.transaction() as session:
        readings = await analytics.read(session, query)
    return series.answer(query, readings)
