"""The least that an ASGI application can do, on stock uvicorn as the server sets it: `python -m bench.hello`.

What it answers a second is the limit that other figures are held against.
"""

import sys

import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from cli.listening import address_of, bind

BODY = b"Hello, world!"
_HEADERS = [(b"content-type", b"text/plain"), (b"content-length", str(len(BODY)).encode())]


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer any request."""
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": BODY})


def main() -> None:
    """Serve until a signal comes."""
    config = uvicorn.Config(
        hello,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    listener = bind("127.0.0.1", 0)
    print(f"serving {address_of(listener)}", file=sys.stderr, flush=True)
    uvloop.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
