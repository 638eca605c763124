"""How the application is served."""

import uvicorn
from fastapi import FastAPI

DRAIN_SECONDS = 15


def server_for(app: FastAPI, *, host: str, port: int) -> uvicorn.Server:
    """A server that is not running yet: `await server.serve()`, and `should_exit = True` to drain and end it.

    Logging is the caller's to set up, and so is the event loop, for which uvloop is meant.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    return uvicorn.Server(config)
