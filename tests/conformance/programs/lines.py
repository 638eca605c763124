"""What participants in Python have in common: lines of JSON, and reports in the background."""

import json
import sys
import time
import uuid
from collections.abc import Callable
from queue import Empty, Queue
from threading import Thread
from typing import Any, Protocol

RETRY_SECONDS = 0.2


class Failed(Exception):
    """What a client of a provider raises."""

    status_code = 503


class Application(Protocol):
    """A participant."""

    def call(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Make and report one call; gives the configuration that it was made by, and its version."""

    def end(self) -> dict[str, Any]:
        """Send what waits to be reported; gives what was `dropped`, and which calls are `uncertain`."""


def run(make: Callable[[dict[str, Any]], Application]) -> None:
    """Make an application from the program's last argument, and have it make the calls of standard input."""
    application = make(json.loads(sys.argv[-1]))
    for line in sys.stdin:
        started = time.perf_counter()
        answer = application.call(json.loads(line))
        _say(answer | {"tookMs": 1000 * (time.perf_counter() - started)})
    _say(application.end())


def served(version: str | None, config: dict[str, Any]) -> dict[str, Any]:
    """An answer."""
    return {"version": version, "model": config["model"], "temperature": config["temperature"]}


def metric(setup: dict[str, Any], asked: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """The report of a call that has just ended."""
    version = answer["version"]
    return {
        "timestamp": time.time_ns() // 1_000_000,
        "service": setup["service"],
        "endpoint": setup["endpoint"],
        "provider": "openai",
        "model": answer["model"],
        "latencyMs": asked["latencyMs"],
        "tokensInput": asked["tokensInput"],
        "tokensOutput": asked["tokensOutput"],
        "tokensTotal": asked["tokensInput"] + asked["tokensOutput"],
        "costUsd": asked["costUsd"],
        "statusCode": Failed.status_code if asked["failed"] else 200,
        **({"errorType": Failed.__name__} if asked["failed"] else {}),
        "tags": {"requestId": asked["requestId"], **({"configVersion": version} if version else {})},
    }


def judgement(setup: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """What was found of a call's answer."""
    return {
        "timestamp": time.time_ns() // 1_000_000,
        "service": setup["service"],
        "requestId": asked["requestId"],
        "overallScore": asked["score"],
        "evaluationMethod": "judge",
    }


class Reports:
    """Sends items in the background, a batch at a time, each again under its key until it is taken.

    `send` gives whether a batch was.
    """

    def __init__(self, send: Callable[[list[Any], str], bool]) -> None:
        self._send = send
        self._waiting: Queue[Any] = Queue()
        self._open = 0
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()

    def put(self, item: Any) -> None:
        self._open += 1
        self._waiting.put(item)

    def end(self) -> int:
        """Send the rest; gives how many were not taken, because sending broke."""
        self._waiting.put(None)
        self._thread.join()
        return self._open

    def _work(self) -> None:
        going = True
        while going:
            batch = [self._waiting.get()]
            try:
                while True:
                    batch.append(self._waiting.get_nowait())
            except Empty:
                pass
            going = batch[-1] is not None
            items = batch if going else batch[:-1]
            key = uuid.uuid4().hex
            while items and not self._send(items, key):
                time.sleep(RETRY_SECONDS)
            self._open -= len(items)


def _say(said: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
