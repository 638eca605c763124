"""The steps of a rollout, laid out once when it is opened."""

import math
from typing import Literal

from domain.base import Message
from domain.policy import RolloutPolicy, Strategy

MIN_CANARY_REQUESTS = 50
MAX_FIRST_SHARE = 50.0
GRADUAL_STEPS = 10
MIN_LEASE_SECONDS = 60.0


class PlannedStep(Message):
    """A step: the policy's share and the share that is served, which leaves a holdback at the last."""

    percent: float
    traffic_percent: float


class RolloutPlan(Message):
    """What a rollout workflow follows. Seconds are those of the workflow's clock."""

    strategy: Strategy
    steps: list[PlannedStep]
    step_seconds: float
    check_seconds: float
    max_extensions: int
    on_inconclusive: Literal["hold", "rollback", "promote"]
    approval: Literal["none", "before-start", "before-full"]

    @property
    def lease_seconds(self) -> float:
        """How long a share may be served after a check, in real seconds."""
        return max(3 * self.check_seconds, MIN_LEASE_SECONDS)

    @property
    def last_partial_step(self) -> int:
        """The index of the step before full exposure, where harm must have been ruled out."""
        return len(self.steps) - 2


def plan_rollout(policy: RolloutPolicy, strategy: Strategy, requests_per_second: float | None) -> RolloutPlan:
    """Lay out the steps of a rollout.

    `requests_per_second` is the scope's present traffic, None where it is not known; where it is low, the
    first share is raised so that a step sees enough of the canary, and steps at or below it are dropped.
    """
    shares = _shares(policy, strategy)
    if strategy != "immediate" and len(shares) > 1 and requests_per_second:
        first = first_share(shares[0], requests_per_second, policy.step_seconds)
        if first > shares[0]:
            shares = [first, *(share for share in shares if share > first)]
    full = 100.0 if strategy == "immediate" else 100.0 - policy.holdback_percent
    # Where the first step is full exposure, what was to be asked before that is asked before the start.
    early = policy.approval == "before-full" and len(shares) == 1
    return RolloutPlan(
        strategy=strategy,
        steps=[PlannedStep(percent=share, traffic_percent=min(share, full)) for share in shares],
        step_seconds=policy.step_seconds,
        check_seconds=policy.check_seconds,
        max_extensions=policy.max_extensions,
        on_inconclusive=policy.on_inconclusive,
        approval="before-start" if early else policy.approval,
    )


def first_share(wanted: float, requests_per_second: float, step_seconds: float) -> float:
    """The least first share, in percent, at which a step gives the canary the requests that it needs."""
    needed = 100 * MIN_CANARY_REQUESTS / (step_seconds * requests_per_second)
    # Units are assigned to hundredths of a percent.
    return max(wanted, min(math.ceil(100 * needed) / 100, MAX_FIRST_SHARE))


def _shares(policy: RolloutPolicy, strategy: Strategy) -> list[float]:
    match strategy:
        case "immediate":
            return [100.0]
        case "gradual":
            return [100.0 * (step + 1) / GRADUAL_STEPS for step in range(GRADUAL_STEPS)]
        case "canary":
            return list(policy.steps)
