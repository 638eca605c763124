"""The application: its parts put together, and their life with it."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, TypedDict

from fastapi import APIRouter, FastAPI
from pydantic.alias_generators import to_camel
from redis.asyncio import Redis
from starlette.types import Receive, Scope, Send

from api.admin import endpoints as admin
from api.auth import Authenticator
from api.configs import endpoints as configs
from api.configs.reader import ConfigReader
from api.configs.shortcut import ConfigShortcut
from api.context import API_PREFIX, RequestContext
from api.deployments import endpoints as deployments
from api.errors import ErrorResponse, add_exception_handlers
from api.instruments import Instruments
from api.optimizations import endpoints as optimizations
from api.reports import endpoints as reports
from api.server import Server
from api.services import endpoints as services
from api.system import endpoints as system
from api.system.health import Health
from api.system.status import StatusReader
from api.temporal import Connect, Temporal
from api.webhooks import endpoints as webhooks
from domain.policy import STEP_SECONDS
from storage.database import Database
from storage.intake import Intake
from storage.snapshot import LiveSnapshot

MAX_BODY_BYTES = 10 * 1024 * 1024
DRAIN_SECONDS = 10.0
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": description}
    for status, description in {
        400: "INVALID_REQUEST",
        401: "UNAUTHORIZED: no key, or an unknown one",
        403: "FORBIDDEN: the key lacks the scope",
        404: "NOT_FOUND",
        405: "INVALID_REQUEST: not this method",
        409: "CONFLICT",
        412: "CONFLICT: If-Match names another version",
        413: "INVALID_REQUEST: too large",
        415: "INVALID_REQUEST: not JSON",
        422: "CONSTRAINT_VIOLATION: details is the ValidationResult",
        429: "RATE_LIMITED, with Retry-After",
        500: "INTERNAL_ERROR",
        503: "DATABASE_ERROR or SERVICE_UNAVAILABLE, with Retry-After",
        504: "TIMEOUT",
    }.items()
}


class State(TypedDict):
    """What a request finds in `request.state`."""

    server: Server


class Application(FastAPI):
    """FastAPI behind the shortcut of configuration reads."""

    def __init__(self, shortcut: ConfigShortcut, **options: Any) -> None:
        super().__init__(**options)
        self._shortcut = shortcut

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not await self._shortcut.answers(scope, send):
            await super().__call__(scope, receive, send)


def create_app(
    database: Database,
    connect_temporal: Connect,
    *,
    version: str,
    admin_key: str | None = None,
    redis_url: str | None = None,
    mode: str = "standalone",
    step_seconds: float = STEP_SECONDS,
    max_body_bytes: int = MAX_BODY_BYTES,
    data_dir: str = ".",
    webhooks_allow_private: bool = False,
) -> FastAPI:
    """The REST API over a migrated database, which stays the caller's to close.

    `connect_temporal` gives a client with the pydantic data converter; it is called when Temporal is first
    needed. `admin_key` is accepted besides the stored keys. `step_seconds` is the default length of a
    rollout's step. `data_dir` is the folder whose free space `/health` looks at. Webhooks may name private
    addresses only where that is allowed.
    """
    instruments, snapshot = Instruments(), LiveSnapshot(database)
    intake = Intake(database, override=snapshot.price_override)
    temporal = Temporal(connect_temporal)
    redis = Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2) if redis_url else None
    server = Server(
        database=database,
        intake=intake,
        snapshot=snapshot,
        configs=ConfigReader(snapshot),
        authenticator=Authenticator(snapshot, admin_key),
        temporal=temporal,
        health=Health(database, redis, temporal, data_dir=data_dir, version=version),
        status=StatusReader(database, intake, temporal, mode=mode),
        instruments=instruments,
        step_seconds=step_seconds,
        webhooks_allow_private=webhooks_allow_private,
    )
    instruments.watch(intake)
    shortcut = ConfigShortcut(server.configs, server.authenticator, instruments)
    app = Application(
        shortcut,
        title="LLM Auto-Optimizer",
        version=version,
        lifespan=lambda _: _running(server, redis),
        generate_unique_id_function=lambda route: to_camel(route.name),
        redirect_slashes=False,
        responses=_ERRORS,
    )
    api = APIRouter(prefix=API_PREFIX)
    for module in (reports, configs, optimizations, deployments, services, webhooks, admin, system):
        api.include_router(module.router)
    app.include_router(api)
    app.include_router(system.probes)
    add_exception_handlers(app)
    app.add_middleware(RequestContext, instruments=instruments, max_body_bytes=max_body_bytes)
    return app


@contextlib.asynccontextmanager
async def _running(server: Server, redis: Redis | None) -> AsyncIterator[State]:
    await server.snapshot.start()
    await server.intake.start()
    yield {"server": server}
    await server.background.close(DRAIN_SECONDS)
    await server.intake.close()
    await server.snapshot.close()
    if redis is not None:
        await redis.aclose()
