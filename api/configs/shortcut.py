"""Configuration reads answered ahead of the framework, which costs more than the answer.

They are not rate limited, here or by their routes: to count one would cost more than to answer it, and an
application that is refused its configuration has nothing to call its model with.
"""

from starlette.types import Scope, Send

from api.auth import Authenticator
from api.configs.reader import PREFIX, ConfigReader, Rendered, matches
from api.context import request_id_from
from api.instruments import Instruments


class ConfigShortcut:
    """Answers a plain read by a known key; anything else is left to the routes."""

    def __init__(self, reader: ConfigReader, authenticator: Authenticator, instruments: Instruments) -> None:
        self._reader = reader
        self._authenticator = authenticator
        self._found = instruments.config_reads.labels("200")
        self._unchanged = instruments.config_reads.labels("304")

    async def answers(self, scope: Scope, send: Send) -> bool:
        """Answer a request, if it is one for this."""
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(PREFIX):
            return False
        key, known, request_id = b"", "", b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                key = value
            elif name == b"if-none-match":
                known = value.decode("latin-1")
            elif name == b"x-request-id":
                request_id = value
        rendered = self._read(scope, key)
        if rendered is None:
            return False
        await self._send(rendered, known, request_id_from(request_id), send)
        return True

    def _read(self, scope: Scope, key: bytes) -> Rendered | None:
        principal = self._authenticator.from_header(key)
        if principal is None or not principal.may("read"):
            return None
        return self._reader.read_address(scope["path"], scope["query_string"])

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
