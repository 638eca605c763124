"""The application: its parts put together, and their life with it."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypedDict

from fastapi import FastAPI
from redis.asyncio import Redis
from starlette.types import ASGIApp, Receive, Scope, Send

from api import openapi
from api.admin import endpoints as admin
from api.analytics import endpoints as analytics
from api.analytics import findings, ledger
from api.audit import endpoints as audit
from api.auth import Authenticator
from api.configs import endpoints as configs
from api.configs.reader import ConfigReader
from api.configs.shortcut import ConfigShortcut
from api.context import API_PREFIX, MAX_BODIES_BYTES, MAX_BODY_BYTES, Bodies, RequestContext
from api.deployments import endpoints as deployments
from api.docs import add_documentation
from api.events import endpoints as events
from api.events.feed import EventFeed
from api.failures import add_exception_handlers
from api.grpc import collector
from api.grpc.calls import Calls
from api.grpc.optimizer import Optimizer
from api.grpc.server import GrpcServer
from api.instruments import Instruments
from api.keys import endpoints as keys
from api.ofrep import endpoints as ofrep
from api.optimizations import endpoints as optimizations
from api.otlp import endpoints as otlp
from api.protocols import failure
from api.rate_limits import RateLimiter
from api.reports import endpoints as reports
from api.reports.learning import learning
from api.reports.shortcut import ReportShortcut
from api.server import Server
from api.services import endpoints as services
from api.services import rules
from api.system import endpoints as system
from api.system.health import Health
from api.system.status import StatusReader
from api.temporal import Connect, Temporal
from api.webhooks import endpoints as webhooks
from domain.label_limits import LabelLimits
from domain.policy import STEP_SECONDS
from domain.rate_limits import RateLimits
from storage import fanout
from storage.answer_cache import AnswerCache
from storage.database import Database
from storage.intake import Intake
from storage.snapshot import LiveSnapshot

DRAIN_SECONDS = 10.0
# Longer than anything that an endpoint waits for by itself.
REQUEST_SECONDS = 90.0
ANSWER_SECONDS = 2.0


class State(TypedDict):
    """What a request finds in `request.state`."""

    server: Server


class Application(FastAPI):
    """FastAPI, and what need not go through it.

    `context` makes what goes for every request; the reports' shortcut is within one of its own.
    """

    def __init__(
        self,
        reads: ConfigShortcut,
        reports: ReportShortcut,
        context: Callable[[ASGIApp], ASGIApp],
        drain: Callable[[], None],
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.answer_at_once = reads.answer
        """Answers what need not come here at all."""
        self._reports = reports
        self._taking = context(reports)
        self.drain = drain
        """To be called when the server is to end: streams, which never would, end then."""
        self._document: dict[str, Any] | None = None

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self._document is None:
            self._document = openapi.refined(super().openapi())
        return self._document

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._reports.takes(scope):
            await self._taking(scope, receive, send)
        else:
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
    max_bodies_bytes: int = MAX_BODIES_BYTES,
    request_seconds: float = REQUEST_SECONDS,
    rate_limits: RateLimits | None = None,
    data_dir: str = ".",
    webhooks_allow_private: bool = False,
    answer_seconds: float = ANSWER_SECONDS,
    grpc: GrpcServer | None = None,
) -> Application:
    """The REST API over a migrated database, which stays the caller's to close.

    `connect_temporal` gives a client with the pydantic data converter; it is called when Temporal is first
    needed. `admin_key` is accepted besides the stored keys. `step_seconds` is the default length of a
    rollout's step. An answer that has not begun within `request_seconds` is a TIMEOUT. `data_dir` is the
    folder whose free space `/health` looks at. An answer about metrics is given again for `answer_seconds`
    to whoever asks the same. Webhooks may name private addresses only where that is
    allowed. `grpc` is run beside REST, with all that has a service there.
    """
    instruments, snapshot = Instruments(), LiveSnapshot(database)
    intake = Intake(database, override=snapshot.price_override)
    temporal = Temporal(connect_temporal)
    redis = fanout.connect(redis_url) if redis_url else None
    server = Server(
        database=database,
        intake=intake,
        snapshot=snapshot,
        labels=LabelLimits(),
        configs=ConfigReader(snapshot),
        authenticator=Authenticator(snapshot, admin_key),
        limiter=RateLimiter(rate_limits or RateLimits(), redis_url),
        temporal=temporal,
        health=Health(database, redis, temporal, data_dir=data_dir, version=version),
        status=StatusReader(database, intake, temporal, mode=mode),
        events=EventFeed(database, redis),
        answers=AnswerCache(redis, database, seconds=answer_seconds),
        instruments=instruments,
        step_seconds=step_seconds,
        webhooks_allow_private=webhooks_allow_private,
        max_body_bytes=max_body_bytes,
    )
    instruments.watch(intake)
    bodies = Bodies(max_body_bytes, max_bodies_bytes)
    context = partial(
        RequestContext,
        instruments=instruments,
        bodies=bodies,
        seconds=request_seconds,
        failure=failure,
    )
    beside: AbstractAsyncContextManager[None] = contextlib.nullcontext()
    if grpc is not None:
        calls = Calls(server, bodies, seconds=request_seconds)
        beside = grpc.running(calls, [Optimizer(server).service, *collector.services(server)])
    app = Application(
        ConfigShortcut(server.configs, server.authenticator, instruments.reads),
        ReportShortcut(server),
        context,
        server.drain,
        title="LLM Auto-Optimizer",
        version=version,
        lifespan=lambda _: _running(server, redis, beside),
        description=openapi.DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=openapi.operation_id,
        redirect_slashes=False,
        responses=openapi.RESPONSES,
    )
    parts = (
        *(reports, configs, optimizations, deployments, services, rules),
        *(analytics, findings, ledger, events, webhooks),
        *(admin, keys, audit, system),
    )
    for module in parts:
        app.include_router(module.router, prefix=API_PREFIX)
    app.include_router(ofrep.router)
    app.include_router(otlp.router)
    app.include_router(system.probes)
    add_documentation(app)
    add_exception_handlers(app)
    app.add_middleware(context)
    return app


@contextlib.asynccontextmanager
async def _running(
    server: Server, redis: Redis | None, beside: AbstractAsyncContextManager[None]
) -> AsyncIterator[State]:
    await server.snapshot.start()
    await server.intake.start()
    async with server.events.running(), learning(server), beside:
        yield {"server": server}
    await server.background.close(DRAIN_SECONDS)
    await server.intake.close()
    await server.snapshot.close()
    await server.limiter.close()
    if redis is not None:
        await redis.aclose()
