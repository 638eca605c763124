"""The standard health service, as `/readyz` has it: to serve is to have configurations to serve."""

from collections.abc import Sequence

import grpc
from grpc.aio import ServicerContext
from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer

from api.server import Server

Context = ServicerContext[HealthCheckRequest, HealthCheckResponse]


class Health(HealthServicer):
    """Looks at the server itself; watches end with it, lest each holds up the drain."""

    def __init__(self, server: Server, services: Sequence[str]) -> None:
        self._server = server
        self._known = frozenset((health.OVERALL_HEALTH, *services))

    async def Check(self, request: HealthCheckRequest, context: Context) -> HealthCheckResponse:  # noqa: N802  # gRPC's name
        """The status of a service, or of all for none."""
        if request.service not in self._known:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r}")
        return HealthCheckResponse(status=self._status(request.service))

    async def Watch(self, request: HealthCheckRequest, context: Context) -> None:  # noqa: N802  # gRPC's name
        """The status, and each that comes after it."""
        told = None
        while True:
            changed = self._server.snapshot.changed.next()
            status = self._status(request.service)
            if status != told:
                told = status
                await context.write(HealthCheckResponse(status=status))
            if self._server.draining.is_set():
                return
            await changed.wait()

    def _status(self, service: str) -> int:
        if service not in self._known:
            return HealthCheckResponse.SERVICE_UNKNOWN
        serving = self._server.snapshot.loaded and not self._server.draining.is_set()
        return HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
