"""What keeps a service from being changed by itself: a circuit breaker, and a limit on rollbacks per day.

Both follow from the rollouts that there were; neither has a state of its own. The breaker opens after so many
automatic rollouts in a row that failed, for an hour since the last; then it is half open, and lets one
rollout try: that opens it anew, or closes it. (Nygard, "Release It!", 2007, "Circuit Breaker".)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from domain.analytics import DAY_MS, HOUR_MS
from domain.base import Message
from domain.policy import ServicePolicy

OPEN_MS = HOUR_MS


@dataclass(frozen=True, slots=True)
class Ended:
    """An automatic rollout that ended at `at` (ms), by its own verdict: completed or failed."""

    id: str
    at: int
    failed: bool


class Brakes(Message):
    """Where both stand. `failures` are the rollouts that failed in a row of late, the newest first, of as
    many as it takes to open the breaker.

    `open_until` (ms): where the breaker is open. `rollbacks` counts the last 24 h; where they are as many as
    `max_rollbacks_per_day`, no automatic rollout is opened before `room_at` (ms), or ever if it is 0.
    """

    breaker: Literal["closed", "open", "half-open"]
    failures: list[str]
    open_until: int | None = None
    rollbacks: int
    max_rollbacks_per_day: int
    room_at: int | None = None

    @property
    def limited(self) -> bool:
        """Whether there were as many rollbacks as there may be."""
        return self.rollbacks >= self.max_rollbacks_per_day

    @property
    def refusal(self) -> str | None:
        """Why no automatic rollout may be opened; None where one may."""
        if self.breaker == "open":
            count = len(self.failures)
            which = f"{count} automatic rollouts in a row" if count > 1 else "the last automatic rollout"
            return f"the circuit breaker is open: {which} failed ({', '.join(self.failures)})"
        if self.limited:
            return (
                f"{self.rollbacks} rollbacks within 24 h are as many as maxRollbacksPerDay "
                f"({self.max_rollbacks_per_day}) allows"
            )
        return None


def brakes(ended: Sequence[Ended], rollbacks: Sequence[int], policy: ServicePolicy, now: int) -> Brakes:
    """Where the brakes of a service stand at `now` (ms).

    `ended` are its automatic rollouts, the newest first, as many as `breaker_after` at least if there were so
    many; `rollbacks` the times (ms) of its rollbacks within the last 24 h.
    """
    row = list(takewhile(lambda rollout: rollout.failed, ended[: policy.breaker_after]))
    tripped = len(row) >= policy.breaker_after
    until = row[0].at + OPEN_MS if tripped else None
    most = policy.max_rollbacks_per_day
    full = len(rollbacks) >= most
    return Brakes(
        breaker="closed" if until is None else "open" if now < until else "half-open",
        failures=[rollout.id for rollout in row],
        open_until=until if until is not None and now < until else None,
        rollbacks=len(rollbacks),
        max_rollbacks_per_day=most,
        room_at=sorted(rollbacks, reverse=True)[most - 1] + DAY_MS if full and most else None,
    )
