"""Logs on stderr, a line each."""

import logging
import sys


def set_up(level: str) -> None:
    """Log at a level and above; libraries that say much at `info` only from `warning` on."""
    logging.basicConfig(
        level=level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        force=True,
    )
    for chatty in ("httpx", "httpcore", "alembic", "asyncio", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))
