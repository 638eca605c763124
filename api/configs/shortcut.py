"""Configuration reads answered ahead of the framework and of ASGI, each of which costs more than the answer.

They are not rate limited, here or by their routes: to count one would cost more than to answer it, and an
application that is refused its configuration has nothing to call its model with.
"""

from collections.abc import Sequence

from api.auth import Authenticator
from api.configs.reader import PREFIX, ConfigReader
from api.configs.rendering import matches
from api.context import request_id_from
from api.instruments import ReadCounts

_PREFIX = PREFIX.encode()
_FOUND, _UNCHANGED = b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 304 Not Modified\r\n"
# A request with any of these has a body, or wants more than an answer.
_UNUSUAL = frozenset({b"content-length", b"transfer-encoding", b"expect", b"upgrade"})


class ConfigShortcut:
    """Answers a plain read by a known key; anything else is left to the routes."""

    def __init__(self, reader: ConfigReader, authenticator: Authenticator, counts: ReadCounts) -> None:
        self._reader = reader
        self._authenticator = authenticator
        self._counts = counts

    def answer(
        self, target: bytes, headers: Sequence[tuple[bytes, bytes]], default_lines: bytes
    ) -> bytes | None:
        """The whole answer to a GET, None if it is not for this.

        `target` and `headers` are as they came, names in lower case; `default_lines` are rendered lines.
        """
        if not target.startswith(_PREFIX):
            return None
        key = known = given_id = b""
        for name, value in headers:
            if name == b"authorization":
                key = value
            elif name == b"if-none-match":
                known = value
            elif name == b"x-request-id":
                given_id = value
            elif name in _UNUSUAL:
                return None
        principal = self._authenticator.from_header(key)
        if principal is None or not principal.may("read"):
            return None
        rendered = self._reader.read_address(target)
        if rendered is None:
            return None
        request_id = request_id_from(given_id)
        if known and matches(known.decode("latin-1"), rendered.etag):
            self._counts.unchanged += 1
            return b"%b%b%bx-request-id: %b\r\n\r\n" % (
                _UNCHANGED,
                default_lines,
                rendered.unchanged_lines,
                request_id,
            )
        self._counts.found += 1
        return b"%b%b%bx-request-id: %b\r\n\r\n%b" % (
            _FOUND,
            default_lines,
            rendered.lines,
            request_id,
            rendered.body,
        )
