"""The sidecar: its parts put together, and their life with it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypedDict

from fastapi import Depends, FastAPI, Request, Response
from llm_auto_optimizer._retry import RetryPolicy
from llm_auto_optimizer._transport import AsyncTransport, Transport

from api.context import API_PREFIX, MAX_BODIES_BYTES, MAX_BODY_BYTES, Bodies, RequestContext
from api.errors import error_response
from api.failures import add_exception_handlers
from api.instruments import Instruments
from api.sidecar.configs import Configs
from api.sidecar.delivery import Deliverer
from api.sidecar.endpoints import Sidecar, probes, require_loopback, router
from api.sidecar.instruments import SpoolCollector
from api.sidecar.reports import Reports
from api.sidecar.status import StatusReader
from api.sidecar.upstream import Upstream
from api.sidecar.writer import Writer
from domain.errors import OptimizerError

REQUEST_SECONDS = 30.0
# A slow server is waited for: nobody waits behind these.
CONFIG_SECONDS = 30.0
# Longer than the server takes to answer anything.
DELIVERY_SECONDS = 120.0
STATUS_SECONDS = 2.0
DRAIN_SECONDS = 5.0


class State(TypedDict):
    """What a request finds in `request.state`."""

    sidecar: Sidecar


class SidecarApp(FastAPI):
    """FastAPI, as `api.serve` serves it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.draining = asyncio.Event()

    def drain(self) -> None:
        """End the streams, which never would."""
        self.draining.set()

    @staticmethod
    def answer_at_once(
        target: bytes, headers: Sequence[tuple[bytes, bytes]], default_lines: bytes
    ) -> bytes | None:
        """Everything comes to the application."""
        return None


def create_sidecar(
    upstream: str, writer: Writer, *, version: str, api_key: str | None, service: str | None
) -> SidecarApp:
    """The sidecar of the server at `upstream`, for which `api_key` needs the scopes `ingest` and `read`.

    It closes `writer` when it ends. `/config/current` is the service's, without one the global configuration.
    """
    instruments = Instruments()
    instruments.registry.register(SpoolCollector(writer))
    wire: dict[str, Any] = {
        "endpoint": upstream,
        "api_key": api_key,
        "retries": RetryPolicy(max_retries=0),
        "http_client": None,
    }

    @contextlib.asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[State]:
        reads = Transport(timeout=CONFIG_SECONDS, **wire)
        deliveries = AsyncTransport(timeout=DELIVERY_SECONDS, **wire)
        questions = AsyncTransport(timeout=STATUS_SECONDS, **wire)
        configs = Configs(Upstream(reads), writer, server=reads.base, service=service)
        deliverer = Deliverer(writer, deliveries)
        status = StatusReader(writer, deliverer, questions, version=version)
        deliverer.start()
        await configs.start()
        sampling = asyncio.create_task(_sample(status))
        try:
            yield {"sidecar": Sidecar(configs, Reports(writer), writer, status, instruments)}
        finally:
            sampling.cancel()
            await deliverer.close(DRAIN_SECONDS)
            await configs.close()
            await writer.close()
            reads.close()
            for transport in (deliveries, questions):
                await transport.close()

    app = SidecarApp(
        title="LLM Auto-Optimizer sidecar",
        version=version,
        lifespan=running,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        dependencies=[Depends(require_loopback)],
    )
    app.include_router(router, prefix=API_PREFIX)
    app.include_router(probes)
    add_exception_handlers(app)
    app.add_middleware(
        RequestContext,
        instruments=instruments,
        bodies=Bodies(MAX_BODY_BYTES, MAX_BODIES_BYTES),
        seconds=REQUEST_SECONDS,
        failure=_failure,
    )
    return app


def _failure(request: Request, error: OptimizerError) -> Response:
    return error_response(error, request.state.request_id)


async def _sample(status: StatusReader) -> None:
    while True:
        status.sample()
        await asyncio.sleep(1)
