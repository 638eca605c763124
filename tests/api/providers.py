"""A small LLM provider that speaks OpenAI's chat completions.

A call takes the tokens that its `metadata` says (`prompt_tokens`, `completion_tokens`), else the usual.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

PROMPT_TOKENS, COMPLETION_TOKENS = 120, 30
FAILING = "gpt-that-fails"


@contextmanager
def provider() -> Iterator[str]:
    """Serve it; gives its base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Provider)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Provider(BaseHTTPRequestHandler):
    numbers = count(1)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked["model"] == FAILING:
            self._answer(429, {"error": {"message": "slow down", "type": "rate_limit", "code": "slow"}})
            return
        told = asked.get("metadata", {})
        prompt = int(told.get("prompt_tokens", PROMPT_TOKENS))
        completion = int(told.get("completion_tokens", COMPLETION_TOKENS))
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        message = {"role": "assistant", "content": "an answer that nobody else may read"}
        self._answer(
            200,
            {
                "id": f"chatcmpl-{next(self.numbers)}",
                "object": "chat.completion",
                "created": 1,
                "model": asked["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": usage,
            },
        )

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Tell nothing."""
