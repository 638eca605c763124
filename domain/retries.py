"""When a failed delivery is tried again."""

from datetime import UTC
from email.utils import parsedate_to_datetime

from domain.webhooks import RetryPolicy

SPREAD = 0.2
"""Which part of a delay is left to chance, so that what failed together is not tried again together."""
MAX_RETRY_AFTER_MS = 3_600_000


def delay_ms(policy: RetryPolicy, failures: int, *, chance: float) -> int:
    """How long to wait after so many failed attempts (1 and up), in ms.

    The initial delay doubles with each failure (exponential) or grows by itself (linear), up to the policy's
    longest. `chance`, of [0, 1), takes up to a fifth off.
    """
    if policy.backoff == "linear":
        whole = policy.initial_delay_ms * failures
    else:
        # Long before 2^63 ms every cap is reached; a larger power would only cost time.
        whole = policy.initial_delay_ms << min(failures - 1, 63)
    return max(1, round(min(whole, policy.max_delay_ms) * (1 - SPREAD * chance)))


def retry_after_ms(header: str, now_ms: int) -> int | None:
    """For how long a `Retry-After` (seconds, or an HTTP date) asks to be left alone, in ms; an hour at most.

    None where it says nothing that can be read, or a time that is past.
    """
    text = header.strip()
    if text.isascii() and text.isdigit():
        wanted = int(text[:12]) * 1000
    else:
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return None
        wanted = round(date.replace(tzinfo=date.tzinfo or UTC).timestamp() * 1000) - now_ms
    return min(wanted, MAX_RETRY_AFTER_MS) if wanted > 0 else None
