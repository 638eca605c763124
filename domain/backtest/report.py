"""What a backtest says: proposals with their outcomes, skips, and what they come to."""

from typing import Literal

from pydantic import Field

from domain.base import Message
from domain.config import LLMConfig
from domain.plan import Prediction

Verdict = Literal["better", "worse", "undecided", "rolled_back", "unknown"]
Evidence = Literal["canary", "before-and-after", "none"]
Interval = Literal["held", "missed", "unknown"]
Standing = Literal["kept", "breached", "unknown"]


class Compared(Message):
    """A metric of the incumbent and of what was proposed, in its own unit, where both were measured.

    `change` is a fraction of the incumbent's, positive is better; so is `predicted_change`. `interval` tells
    whether what was measured lies within the predicted 90 % interval, both being as uncertain as they are.
    """

    metric: str
    incumbent: float
    proposed: float
    change: float | None = None
    predicted_change: float | None = None
    interval: Interval


class Kept(Message):
    """A hard constraint, and whether what was measured keeps it; unknown where that was not measured."""

    constraint: str
    metric: str
    value: float | None = None
    standing: Standing = "unknown"


class Outcome(Message):
    """What is known of a proposal that was, by itself or by anybody, served when it was made or later.

    `evidence` tells how far to trust it: a canary ran beside the incumbent at the same time; before and after
    are different times, and whatever else changed between them is in the figures too. `gain` is the utility
    of the policy's objectives that were measured, `better` the probability that it is positive.
    """

    verdict: Verdict
    evidence: Evidence
    words: str
    deployment_id: str | None = None
    status: str | None = None
    since: int | None = None
    until: int | None = None
    requests: int = 0
    better: float | None = None
    metrics: list[Compared] = Field(default_factory=list)
    constraints: list[Kept] = Field(default_factory=list)
    not_measured: list[str] = Field(default_factory=list)


UNKNOWN = Outcome(
    verdict="unknown", evidence="none", words="unknown: what was proposed has not been served since"
)


class Proposal(Message):
    """The same change proposed at `times` decisions in a row, the first at `since`, the last at `until` (ms).

    The figures are those of the first. `config` is what was proposed in place of `incumbent`, which the
    record has at that time.
    """

    type: Literal["proposal"] = "proposal"
    since: int
    until: int
    times: int
    incumbent_version: str
    incumbent: LLMConfig
    config: LLMConfig
    changes: str
    confidence: float
    expected_improvement: dict[str, float]
    predictions: dict[str, Prediction]
    rationale: str
    outcome: Outcome


class Skipped(Message):
    """`times` decisions in a row without a proposal for one reason, in the words of the first."""

    type: Literal["skip"] = "skip"
    since: int
    until: int
    times: int
    reasoning: str


class SkipReason(Message):
    """How often nothing was proposed for a reason, in the words of the first time; its numbers vary."""

    reasoning: str
    times: int


class Calibration(Message):
    """How right the predictions were whose outcome is known, each measured change counted once.

    `held` of `intervals` 90 % intervals held what was measured. `brier` is the mean squared difference of the
    confidence from what came of it (1 better, 0 not), over `judged` changes.
    """

    intervals: int
    held: int
    judged: int
    brier: float | None = None


class Summary(Message):
    """What a backtest comes to. Lines are proposals as merged; decisions are ticks."""

    type: Literal["summary"] = "summary"
    decisions: int
    proposing: int
    skipping: int
    skips: list[SkipReason]
    proposals: int
    outcomes: dict[Verdict, int]
    breaches: int
    calibration: Calibration


class Heading(Message):
    """What was replayed, and what there is to know of how; times are ms."""

    type: Literal["backtest"] = "backtest"
    service: str
    since: int
    until: int
    every_seconds: float
    notes: list[str]


class Backtest(Message):
    """All of it, in the order of time."""

    heading: Heading
    lines: list[Proposal | Skipped]
    summary: Summary
