"""When to try again, and how long to wait before."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from llm_auto_optimizer._errors import OptimizerError


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff with jitter, for retryable errors alone.

    Waits `initial_delay * 2^attempt` seconds, at most `max_delay`, of which a random half is taken away so
    that clients that failed together do not come back together. The server's `Retry-After` is a lower
    bound; where it asks for more than `max_retry_after`, the error is raised instead of waited out.
    """

    max_retries: int = 3
    initial_delay: float = 0.2
    max_delay: float = 8.0
    max_retry_after: float = 60.0

    def delay(self, attempt: int, error: OptimizerError) -> float | None:
        """Seconds to wait after failed `attempt` (the first is 0); None: do not try again."""
        asked = error.retry_after or 0.0
        if not error.retryable or attempt >= self.max_retries or asked > self.max_retry_after:
            return None
        backoff = min(self.max_delay, self.initial_delay * 2.0**attempt)
        return max(asked, backoff * random.uniform(0.5, 1.0))


def parse_retry_after(value: str | None) -> float | None:
    """Seconds from a `Retry-After` header, which is a number or an HTTP date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
