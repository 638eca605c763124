"""`optimizer.OptimizerService`: the reads and the intake that REST has, by `proto/optimizer.proto`."""

from collections.abc import AsyncGenerator

from api.configs.reader import ReadTarget, target_of
from api.configs.rendering import MAX_UNIT, Rendered
from api.configs.stream import follow
from api.grpc.calls import Call, Service, Streaming, Unary, parsed
from api.grpc.messages import config_response, item_of, metrics_response
from api.grpc.optimizer_pb2 import (
    DESCRIPTOR,
    ConfigRequest,
    ConfigStreamRequest,
    ConfigUpdate,
    MetricsRequest,
)
from api.idempotency import KEY
from api.reports.taking import take_items
from api.server import Server
from api.streaming import Stream
from domain.errors import InvalidRequest, ServiceUnavailable, Unauthorized
from domain.idempotency import Claim, fingerprint

CACHED_MESSAGES = 5_000


class Optimizer:
    """The service. A configuration's message is made once per change, as the JSON that it is made of."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._messages: dict[str, bytes] = {}

    @property
    def service(self) -> Service:
        """With its methods. Reads of a configuration are not counted, as in REST."""
        return Service(
            DESCRIPTOR.services_by_name["OptimizerService"].full_name,
            {
                "GetConfig": Unary(self.get_config, "read", None),
                "ReportMetrics": Unary(self.report_metrics, "ingest", "reports"),
                "StreamConfig": Streaming(self.stream_config, "read", "reads"),
            },
        )

    async def get_config(self, _: Call, message: bytes) -> bytes:
        """The configuration for a service, an endpoint, a unit."""
        return self._message(self._server.configs.read(_target(parsed(ConfigRequest, message))))

    async def stream_config(self, call: Call, message: bytes) -> AsyncGenerator[bytes, None]:
        """The same at once and at each change, until the server drains or the key is good no more.

        Raises:
            ServiceUnavailable, Unauthorized: that is why it ends.
        """
        server, target = self._server, _target(parsed(ConfigStreamRequest, message))
        server.configs.read(target)
        async for rendered in follow(Stream(server, call.metadata["authorization"].encode()), target):
            now = ConfigUpdate(timestamp=server.snapshot.now_ms())
            # What both messages have has the same numbers, and fields may come in any order.
            yield self._message(rendered) + now.SerializeToString()
        if server.draining.is_set():
            raise ServiceUnavailable("the server is stopping", retry_after=1)
        raise Unauthorized("the API key was revoked, or has expired")

    async def report_metrics(self, call: Call, message: bytes) -> bytes:
        """Keep the good ones of a batch."""
        request = parsed(MetricsRequest, message)
        items = [item_of(metric) for metric in request.metrics]
        answer = await take_items(self._server, items, _claim(call, request))
        return metrics_response(answer.body).SerializeToString()

    def _message(self, rendered: Rendered) -> bytes:
        message = self._messages.get(rendered.etag)
        if message is None:
            if len(self._messages) >= CACHED_MESSAGES:
                self._messages.clear()
            message = config_response(rendered.body).SerializeToString()
            self._messages[rendered.etag] = message
        return message


def _target(request: ConfigRequest | ConfigStreamRequest) -> ReadTarget:
    if len(request.unit) > MAX_UNIT:
        raise InvalidRequest(f"unit has at most {MAX_UNIT} characters")
    return target_of(request.service or None, request.endpoint or None, request.unit or None)


def _claim(call: Call, request: MetricsRequest) -> Claim | None:
    """The claim of a call with an idempotency key. The same request may be written in more than one way."""
    key = call.metadata.get("idempotency-key")
    if key is None:
        return None
    if not KEY.match(key):
        raise InvalidRequest("idempotency-key has 1 to 255 visible ASCII characters")
    written = request.SerializeToString(deterministic=True)
    return Claim(call.principal.id, key, fingerprint(call.method, written))
