"""`/analytics`: what was recorded and what was decided."""

import asyncio

from fastapi import APIRouter, Response

from api.analytics.queries import MetricsParametersDep, Services, Since, service_names
from api.auth import Reader
from api.body import StrictRoute
from api.paging import PageQuery
from api.server import Server, ServerDep
from domain import series
from domain.analytics import MetricsQuery
from domain.base import Message
from domain.optimization_event import OptimizationEvent
from domain.series import MetricsQueryResponse
from storage import analytics, history

router = APIRouter(prefix="/analytics", tags=["analytics"], route_class=StrictRoute)


class HistoryResponse(Message):
    """A page of events, the newest first, and how many there are."""

    total: int
    events: list[OptimizationEvent]


@router.get("/metrics", response_model=MetricsQueryResponse)
async def get_metrics(server: ServerDep, _: Reader, parameters: MetricsParametersDep) -> Response:
    """Metrics of the calls whose timestamps lie in [start, end), over time and by group.

    `latency.*` and `tokens.*` are those of successes, `tokens.*` the mean of a call; calls of unknown cost
    count for neither `cost.avg` nor `cost.total`; `requests.rate` is per second. A score of quality counts
    at its own time, with the labels of its request. Percentiles are within 1 %, all else is exact. The same
    question asked again within two seconds may get the same answer.
    """
    return await _answer(server, parameters.query())


@router.post("/metrics", response_model=MetricsQueryResponse)
async def query_metrics(server: ServerDep, _: Reader, body: MetricsQuery) -> Response:
    """The same as the GET, asked for by a body."""
    return await _answer(server, body)


@router.get("/history", response_model_exclude_none=True)
async def get_history(
    server: ServerDep,
    _: Reader,
    page: PageQuery,
    services: Services = None,
    start: Since = None,
    end: Since = None,
) -> HistoryResponse:
    """What was analysed, decided, rolled out and taken back in [start, end), the newest first.

    A service's history is also that of its endpoints; `global` is that of the configuration for all.
    """
    async with server.database.transaction() as session:
        total, events = await history.list_events(
            session,
            services=service_names(services),
            start=start,
            end=end,
            limit=page.limit,
            offset=page.offset,
        )
    return HistoryResponse(total=total, events=events)


async def _answer(server: Server, query: MetricsQuery) -> Response:
    question = query.model_dump_json().encode()
    answer = await server.answers.get(question)
    if answer is None:
        async with server.database.snapshot() as session:
            readings = await analytics.read(session, query)
        found = await asyncio.to_thread(series.answer, query, readings)
        answer = found.model_dump_json(by_alias=True, exclude_none=True).encode()
        await server.answers.put(question, answer)
    return Response(answer, media_type="application/json")
