"""A peer on loopback that answers as it is told, so that the client meets faults that no sound server has."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, Queue
from typing import Any, Callable, Union
from urllib.parse import parse_qs, urlsplit

import pytest

from llm_auto_optimizer import OptimizerClient


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any


@dataclass
class Answer:
    """What the peer sends. `hang` waits for the test's end instead; `cut` ends the connection at once."""

    body: Any = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    cut: bool = False


Reply = Union[Answer, Callable[[Seen], Answer]]


class Peer:
    """Answers the queued replies in turn, then `standing` for ever."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.queued: deque[Reply] = deque()
        self.standing: Reply = Answer(
            {"error": {"code": "NOT_FOUND", "message": "", "retryable": False}}, 404
        )
        self.streamed: Queue[str | None] | None = None
        self.streams: list[Seen] = []
        self.released = threading.Event()
        self._arrived = threading.Condition()
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:  # the name is the base class's
                peer._serve(self)

            do_POST = do_PUT = do_GET  # noqa: N815  # the names are the base class's

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def wait_for(self, count: int, timeout: float = 20.0) -> None:
        """Waits until `count` requests came."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.seen) >= count, timeout), self.seen

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        seen = _read(handler)
        if seen.path.endswith("/config/stream"):
            self._stream(handler, seen)
            return
        with self._arrived:
            self.seen.append(seen)
            reply = self.queued.popleft() if self.queued else self.standing
            self._arrived.notify_all()
        answer = reply(seen) if callable(reply) else reply
        if answer.hang:
            self.released.wait()
        if answer.hang or answer.cut:
            handler.close_connection = True
            return
        _send(handler, answer)

    def _stream(self, handler: BaseHTTPRequestHandler, seen: Seen) -> None:
        """Sends what is put into `streamed`, until a None; without it there are no streams."""
        handler.close_connection = True
        if self.streamed is None:
            _send(handler, error_answer("NOT_FOUND", 404))
            return
        self.streams.append(seen)
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        while not self.released.is_set():
            try:
                text = self.streamed.get(timeout=0.05)
            except Empty:
                continue
            if text is None:
                return
            with contextlib.suppress(OSError):  # the client went away
                handler.wfile.write(text.encode())
                handler.wfile.flush()


def _read(handler: BaseHTTPRequestHandler) -> Seen:
    parts = urlsplit(handler.path)
    content = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    return Seen(
        method=handler.command,
        path=parts.path,
        query=parse_qs(parts.query),
        headers={name.lower(): value for name, value in handler.headers.items()},
        body=json.loads(content) if content else None,
    )


def _send(handler: BaseHTTPRequestHandler, answer: Answer) -> None:
    content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
    headers = {"Content-Type": "application/json", "Date": handler.date_time_string(), **answer.headers}
    handler.send_response_only(answer.status)
    for name, value in headers.items():
        handler.send_header(name, value)
    if answer.status == 304:
        content = b""
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def error_answer(
    code: str, status: int, *, retryable: bool = False, details: Any = None, **headers: str
) -> Answer:
    """An error in the API's format."""
    error = {"code": code, "message": f"{code} it is", "details": details, "retryable": retryable}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer({"error": error, "requestId": "req-7", "timestamp": 0}, status, named)


CONFIG = {
    "provider": "openai",
    "model": "gpt-4-1106-preview",
    "temperature": 0.7,
    "topP": 1.0,
    "maxTokens": 1024,
    "streaming": False,
    "functionCalling": False,
    "visionEnabled": False,
}
CANARY_CONFIG = {**CONFIG, "provider": "mistral", "model": "mixtral-8x7b-instruct-v0.1"}


def config_answer(version: str = "chat@1", etag: str | None = None, **more: Any) -> Answer:
    """An answer of the configuration reads."""
    body = {"service": "chat", "version": version, "config": CONFIG, **more}
    return Answer(body, headers={} if etag is None else {"ETag": etag})


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture
def client(peer: Peer) -> Iterator[OptimizerClient]:
    with OptimizerClient(endpoint=peer.url, api_key="key-1", timeout=5.0) as client:
        yield client
        peer.released.set()
