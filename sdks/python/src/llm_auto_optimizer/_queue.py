"""Sends reports in the background, so that a call never waits for its own bookkeeping."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from typing import Any, Callable

from llm_auto_optimizer._errors import OptimizerError, UnexpectedAnswerError, refused
from llm_auto_optimizer._request import Request, encode, post_encoded
from llm_auto_optimizer._types import IngestResult

logger = logging.getLogger("llm_auto_optimizer")

Send = Callable[[Request[IngestResult]], IngestResult]

_BATCH = 500
_LINGER = 0.5
_PAUSE_AFTER_FAILURE = 5.0
_PAUSE_IN_HURRY = 0.2
_LOG_INTERVAL = 10.0


class ReportQueue:
    """A bounded queue of metrics and the daemon thread that empties it.

    Past `capacity` the oldest reports give way, counted in `dropped`, as is what the server refuses for
    good. A batch that fails for now is kept, and sent again under the same `Idempotency-Key`, so that it
    cannot count twice. Reports wait as JSON, which takes a tenth of the memory that dicts take.
    """

    def __init__(self, send: Send, *, capacity: int) -> None:
        self.dropped = 0
        self._send = send
        self._capacity = capacity
        self._waiting: deque[bytes] = deque()
        self._batch: Request[IngestResult] | None = None
        self._batch_size = 0
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._hurry = False
        self._closed = False
        self._logged_at = float("-inf")

    def put(self, metric: dict[str, Any]) -> None:
        """Takes a metric; never raises, never waits for the network."""
        try:
            encoded = encode(metric)
        except (TypeError, ValueError) as error:
            self.drop(1, f"not JSON: {error}")
            return
        with self._changed:
            if self._closed:
                self.drop(1, "the client is closed")
                return
            self._waiting.append(encoded)
            if len(self._waiting) > self._capacity:
                self._waiting.popleft()
                self.drop(1, "too many wait to be sent")
            self._ensure_thread()
            if len(self._waiting) in (1, _BATCH):  # what the thread waits for; more would wake it in vain
                self._changed.notify_all()

    def drop(self, count: int, reason: str) -> None:
        """Counts reports that will not be sent, and says so in the log, though not for each."""
        with self._changed:
            self.dropped += count
            now = time.monotonic()
            if now - self._logged_at < _LOG_INTERVAL:
                return
            self._logged_at = now
        logger.warning("report dropped (%d so far): %s", self.dropped, reason)

    def flush(self, timeout: float) -> bool:
        """Waits until all that was put is sent or given up; False if that took longer than `timeout` s."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            done = self._changed.wait_for(self._idle, timeout)
            self._hurry = False
            return done

    def close(self, timeout: float) -> None:
        """Flushes, then takes no more. What could not be sent in time is dropped, and counted."""
        self.flush(timeout)
        with self._changed:
            left = len(self._waiting) + self._batch_size
            self._waiting.clear()
            if left and not self._closed:
                self.drop(left, "the client was closed before they could be sent")
            self._closed = True
            self._changed.notify_all()

    def _idle(self) -> bool:
        return not self._waiting and self._batch is None

    def _ensure_thread(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        thread = threading.Thread(target=self._run, name="optimizer-reports", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is shutting down
            return
        self._thread = thread

    def _run(self) -> None:
        while True:
            batch = self._next_batch()
            if batch is None:
                return
            pause = self._deliver(batch)
            if pause is not None:
                self._pause(pause)

    def _pause(self, seconds: float) -> None:
        """Waits before the next try; where somebody waits for the queue to be empty, but a moment."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed or self._hurry, seconds):
                return
            self._changed.wait_for(lambda: self._closed, _PAUSE_IN_HURRY)

    def _next_batch(self) -> Request[IngestResult] | None:
        """The batch that failed before, else a new one, a moment after its first report. None: closed."""
        with self._changed:
            if self._batch is None:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                self._changed.wait_for(self._ready, _LINGER)
                items = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                if items:
                    self._batch, self._batch_size = _request(items), len(items)
            return None if self._closed else self._batch

    def _ready(self) -> bool:
        return self._closed or self._hurry or len(self._waiting) >= _BATCH

    def _deliver(self, batch: Request[IngestResult]) -> float | None:
        """Sends `batch`; gives the seconds to wait before it is tried again, if it is to be."""
        try:
            result = self._send(batch)
            if "accepted" not in result:
                raise UnexpectedAnswerError("it is not said what became of the reports", body=result)
        except OptimizerError as error:
            if not refused(error):
                logger.warning("reports are kept and sent later: %s", error)
                return max(_PAUSE_AFTER_FAILURE * random.uniform(0.5, 1.0), error.retry_after or 0.0)
            self.drop(self._batch_size, str(error))
        else:
            if result.get("rejected"):
                self.drop(result["rejected"], f"refused by the server: {result.get('errors')}")
        with self._changed:
            self._batch, self._batch_size = None, 0
            self._changed.notify_all()
        return None


def _request(items: list[bytes]) -> Request[IngestResult]:
    return post_encoded("/metrics", b'{"metrics":[' + b",".join(items) + b"]}")
