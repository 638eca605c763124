"""Configuration reads answered ahead of the framework, which costs more than the answer."""

from starlette.types import ASGIApp, Receive, Scope, Send

from api.auth import Authenticator
from api.configs.reader import PREFIX, ConfigReader, Rendered, matches, parse_target
from api.context import request_id_of
from api.instruments import Instruments
from domain.errors import OptimizerError


class ConfigShortcut:
    """ASGI middleware that answers a plain read by a known key; anything else goes on to the routes."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        reader: ConfigReader,
        authenticator: Authenticator,
        instruments: Instruments,
    ) -> None:
        self._app = app
        self._reader = reader
        self._authenticator = authenticator
        self._found = instruments.config_reads.labels("200")
        self._unchanged = instruments.config_reads.labels("304")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PREFIX) and scope["method"] == "GET":
            key, known = b"", ""
            for name, value in scope["headers"]:
                if name == b"authorization":
                    key = value
                elif name == b"if-none-match":
                    known = value.decode("latin-1")
            rendered = self._read(scope, key)
            if rendered is not None:
                await self._send(rendered, known, request_id_of(scope["headers"]), send)
                return
        await self._app(scope, receive, send)

    def _read(self, scope: Scope, key: bytes) -> Rendered | None:
        target = parse_target(scope["path"], scope["query_string"])
        if target is None:
            return None
        principal = self._authenticator.from_header(key)
        if principal is None or not principal.may("read"):
            return None
        try:
            return self._reader.read(target)
        except OptimizerError:
            return None

    async def _send(self, rendered: Rendered, known: str, request_id: str, send: Send) -> None:
        unchanged = bool(known) and matches(known, rendered.etag)
        (self._unchanged if unchanged else self._found).inc()
        headers = rendered.unchanged_headers if unchanged else rendered.headers
        await send(
            {
                "type": "http.response.start",
                "status": 304 if unchanged else 200,
                "headers": [*headers, (b"x-request-id", request_id.encode())],
            }
        )
        await send({"type": "http.response.body", "body": b"" if unchanged else rendered.body})
