"""Tools of other languages, and a server on loopback for what is made with them."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

CONFIG = {
    "provider": "openai",
    "model": "gpt-4o",
    "temperature": 0.5,
    "topP": 1.0,
    "maxTokens": 100,
    "streaming": False,
    "functionCalling": False,
    "visionEnabled": False,
}


def need(*tools: str) -> None:
    """Skips the test where a tool is missing; in CI it fails."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        told = f"{' and '.join(missing)} not installed"
        if os.environ.get("CI"):
            pytest.fail(f"{told}, and CI is to test this SDK")
        pytest.skip(told)


def run(*command: str | Path, cwd: Path, seconds: float = 600, **environment: str) -> str:
    """What a command prints; the test fails with that where the command does."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


class Served:
    """A server with one configuration, which takes every report: where it is, and what it was told."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.reports: list[Mapping[str, Any]] = []


@contextmanager
def serving() -> Iterator[Served]:
    """Such a server, on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name is the base class's
            if self.path.startswith("/api/v1/config/stream"):
                error = {"code": "NOT_FOUND", "message": "no stream", "retryable": False}
                self._answer({"error": error, "requestId": "r", "timestamp": 0}, 404)
            else:
                self._answer({"version": "chat@1", "config": CONFIG})

        def do_POST(self) -> None:  # the name is the base class's
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["metrics"]
            served.reports.extend(sent)
            self._answer({"accepted": len(sent), "rejected": 0})

        def _answer(self, body: Any, status: int = 200) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Served(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
