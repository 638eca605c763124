"""The user's cache folder, where what was built or downloaded is kept between runs, and locks on files."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path


def cache_folder() -> Path:
    """`llm-auto-optimizer` in `$XDG_CACHE_HOME`, or in `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "llm-auto-optimizer"


def lock_file(descriptor: int) -> bool:
    """Tries to take the lock on an open file, and says whether it did; closing the file gives it up."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@asynccontextmanager
async def locked(path: Path, on_wait: Callable[[], None]) -> AsyncIterator[None]:
    """Holds the lock on a file; `on_wait` is called once where another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        waiting = False
        while not lock_file(descriptor):
            if not waiting:
                on_wait()
            waiting = True
            await asyncio.sleep(0.2)
        yield
    finally:
        os.close(descriptor)
