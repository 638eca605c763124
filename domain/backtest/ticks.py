"""When a replayed policy is asked, and how finely the history is cut for it."""

from collections.abc import Iterable

from domain.analytics import DAY_MS, HOUR_MS, MAX_WINDOW_MS, MINUTE_MS
from domain.errors import InvalidRequest

MAX_DECISIONS = 2_500
"""Enough for one an hour over 90 days."""

_LENGTHS = (DAY_MS, HOUR_MS, 15 * MINUTE_MS, 5 * MINUTE_MS, MINUTE_MS)
_PARTS = 12
"""Into how many cells a step is cut at least, where no length of a cell divides it."""


def ticks(since: int, until: int, every: int) -> range:
    """The moments in [since, until] (ms) that are whole multiples of `every` (ms) since the epoch.

    Those are the moments at which a schedule of that interval is due.

    Raises:
        InvalidRequest: there is none, there are too many, or the time is longer than reports are asked about.
    """
    if since > until:
        raise InvalidRequest("since is after until")
    if until - since > MAX_WINDOW_MS:
        raise InvalidRequest(f"since to until may be {MAX_WINDOW_MS // DAY_MS} days at most")
    found = range(-(-since // every) * every, until + 1, every)
    if not found:
        raise InvalidRequest(f"no multiple of {every / 1000:g} s lies between since and until")
    if len(found) > MAX_DECISIONS:
        minutes = -(-(until - since) // ((MAX_DECISIONS - 1) * MINUTE_MS))
        raise InvalidRequest(
            f"{len(found):,} decisions, one every {every / 1000:g} s, are more than {MAX_DECISIONS:,}: "
            f"give less time, or a longer --every ({60 * minutes:,} s would do)"
        )
    return found


def cell_length(every: int, windows: Iterable[int]) -> int:
    """The length (ms) of the cells from which the windows (ms) up to each tick are added up.

    It is the longest at which windows begin and end where cells do. Where none is, a window is rounded to
    whole cells, which are a minute or at most a twelfth of the step.
    """
    lengths = (every, *windows)
    whole = next((cell for cell in _LENGTHS if not any(length % cell for length in lengths)), None)
    return whole or next((cell for cell in _LENGTHS if cell * _PARTS <= every), MINUTE_MS)
