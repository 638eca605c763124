"""What the long-running commands share."""

import asyncio
import gc
import signal
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, on uvloop where there is one."""
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop

    return uvloop.run(main)


def stop_requested() -> asyncio.Event:
    """An event that Ctrl-C and SIGTERM set, in place of ending the process."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, event.set)
    return event


def freeze_heap() -> None:
    """Leave what a process has loaded out of every later garbage collection: it stays until the end.

    Looking through it again holds the event loop for a fifth of a second, every few ten thousand reports.
    """
    gc.collect()
    gc.freeze()
