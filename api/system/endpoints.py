"""`/health`, `/status`, the probes and Prometheus."""

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from api.auth import Reader
from api.body import StrictRoute
from api.server import ServerDep
from api.system.schemas import HealthResponse, Probe, StatusResponse
from domain.errors import ServiceUnavailable

router = APIRouter(tags=["system"], route_class=StrictRoute)
probes = APIRouter(tags=["system"], route_class=StrictRoute)


@router.get("/health", response_model_exclude_none=True)
async def get_health(server: ServerDep) -> HealthResponse:
    """How the server and all that it leans on are. Always 200: `status` says."""
    return await server.health.look()


@router.get("/status", response_model_exclude_none=True)
async def get_status(server: ServerDep, _: Reader) -> StatusResponse:
    """What the control loop, the rollouts and this process are doing."""
    return await server.status.read()


@probes.get("/livez")
async def get_liveness() -> Probe:
    """The process answers."""
    return Probe()


@probes.get("/readyz")
async def get_readiness(server: ServerDep) -> Probe:
    """The process has configurations to serve."""
    if not server.snapshot.loaded:
        raise ServiceUnavailable("PostgreSQL has not been reached yet", retry_after=1)
    return Probe()


@probes.get("/metrics", response_class=PlainTextResponse)
async def get_prometheus_metrics(server: ServerDep) -> PlainTextResponse:
    """Measurements for Prometheus."""
    return PlainTextResponse(server.instruments.exposition(), media_type=CONTENT_TYPE_LATEST)
