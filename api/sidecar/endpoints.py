"""The routes, each as the server has it, without keys: only this machine comes here."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from secrets import token_hex
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from prometheus_client import CONTENT_TYPE_LATEST

from api.body import StrictRoute, require_json_type
from api.configs.rendering import READ, IfNoneMatch, Unit, respond
from api.idempotency import IdempotencyKey, json_answer
from api.instruments import Instruments
from api.sidecar.configs import Configs, Read
from api.sidecar.reports import Ack, Reports
from api.sidecar.spool import Kind
from api.sidecar.status import SidecarStatus, StatusReader
from api.sidecar.writer import Writer
from api.system.schemas import HealthResponse, Probe
from domain.errors import Forbidden, ServiceUnavailable
from domain.idempotency import Claim, fingerprint
from domain.scope import EndpointName, ServiceName, scope_of

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})

router = APIRouter(route_class=StrictRoute)
probes = APIRouter(route_class=StrictRoute)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What the routes work with."""

    configs: Configs
    reports: Reports
    writer: Writer
    status: StatusReader
    instruments: Instruments


async def _sidecar(request: Request) -> Sidecar:
    return cast(Sidecar, request.state.sidecar)


async def require_loopback(request: Request) -> None:
    """Require that the caller means this machine.

    A page in a browser may reach loopback by a name of its own that it lets point there.

    Raises:
        Forbidden: it was called by another name.
    """
    host = request.headers.get("host", "")
    name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    if name.lower() not in LOOPBACK:
        raise Forbidden(f"the sidecar answers to localhost, not to {host!r}")


SidecarDep = Annotated[Sidecar, Depends(_sidecar)]


@router.get("/config/current", responses=READ)
async def get_current_config(
    sidecar: SidecarDep, unit: Unit = None, if_none_match: IfNoneMatch = None
) -> Response:
    """The global configuration, or that of the service that the sidecar was started for."""
    return respond(await sidecar.configs.read(sidecar.configs.target(None, None, unit)), if_none_match)


@router.get("/config/service/{service}", responses=READ)
async def get_service_config(
    sidecar: SidecarDep,
    service: ServiceName,
    endpoint: EndpointName | None = None,
    unit: Unit = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The configuration of a service, or of one of its endpoints."""
    scope_of(service, endpoint)
    return respond(await sidecar.configs.read(sidecar.configs.target(service, endpoint, unit)), if_none_match)


async def _target(
    sidecar: SidecarDep,
    service: ServiceName | None = None,
    endpoint: EndpointName | None = None,
    unit: Unit = None,
) -> Read:
    scope_of(service, endpoint)
    target = sidecar.configs.target(service, endpoint, unit or token_hex(16))
    await sidecar.configs.read(target)
    return target


@router.get("/config/stream", response_class=EventSourceResponse)
async def stream_config(
    request: Request, sidecar: SidecarDep, target: Annotated[Read, Depends(_target)]
) -> AsyncIterator[ServerSentEvent]:
    """`event: config` with the answer of the read, at once and at each change."""
    async for rendered in sidecar.configs.follow(target, request.app.draining):
        yield ServerSentEvent(event="config", raw_data=rendered.body.decode())


@router.post("/metrics")
async def report_metrics(
    request: Request,
    sidecar: SidecarDep,
    ack: Annotated[Ack, Query()] = "commit",
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """Report calls. What is accepted is on disk before this answers, whatever `ack` says."""
    return await _take(request, sidecar, "metrics", ack, idempotency_key)


@router.post("/quality")
async def report_quality(
    request: Request,
    sidecar: SidecarDep,
    ack: Annotated[Ack, Query()] = "commit",
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """Report how good answers were."""
    return await _take(request, sidecar, "evaluations", ack, idempotency_key)


async def _take(request: Request, sidecar: Sidecar, kind: Kind, ack: Ack, key: str | None) -> JSONResponse:
    require_json_type(request)
    body = await request.body()
    target = f"{request.method} {request.url.path}?{request.url.query}"
    claim = None if key is None else Claim("", key, fingerprint(target, body))
    return json_answer(await sidecar.reports.take(kind, body, claim, ack))


@router.get("/health", response_model_exclude_none=True)
async def get_health(sidecar: SidecarDep) -> HealthResponse:
    """How the sidecar is, and whether it reaches the server. Always 200: `status` says."""
    return await sidecar.status.health()


@router.get("/status", response_model_exclude_none=True)
async def get_status(sidecar: SidecarDep) -> SidecarStatus:
    """What waits, what became of what was reported, and what the server says of its loop."""
    return await sidecar.status.read()


@probes.get("/livez")
async def get_liveness() -> Probe:
    """The process answers."""
    return Probe()


@probes.get("/readyz")
async def get_readiness(sidecar: SidecarDep) -> Probe:
    """Reports can be kept. The server need not be there."""
    if sidecar.writer.failure is not None:
        raise ServiceUnavailable(f"nothing can be spooled: {sidecar.writer.failure}", retry_after=1)
    return Probe()


@probes.get("/metrics", response_class=PlainTextResponse)
async def get_prometheus_metrics(sidecar: SidecarDep) -> PlainTextResponse:
    """Measurements for Prometheus."""
    return PlainTextResponse(sidecar.instruments.exposition(), media_type=CONTENT_TYPE_LATEST)
