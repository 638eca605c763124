"""Decision after decision merged into lines, and what the lines come to."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from domain.backtest.report import Calibration, Outcome, Proposal, Skipped, SkipReason, Summary
from domain.decision.pooling import pool_key
from domain.decision.problem import DecisionProblem, Skip
from domain.decision.wording import changes
from domain.plan import OptimizationPlan

_NUMBER = re.compile(r"(?<![\w/.-])[-+]?\$?\d[\d,.]*%?")
"""A figure, not a digit in a model's name."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy says at a moment (ms), asked `problem`; with nothing served nothing is asked.

    A plan always has its problem.
    """

    at: int
    outcome: OptimizationPlan | Skip
    problem: DecisionProblem | None = None
    incumbent_version: str = ""

    @property
    def kind(self) -> tuple[object, ...]:
        """Decisions of one kind say the same: one change of one version, or no change for one reason."""
        if isinstance(self.outcome, Skip):
            return ("skip", reason(self.outcome.reasoning))
        return ("proposal", self.incumbent_version, pool_key(self.outcome.recommended_config))


Tell = Callable[[DecisionProblem, OptimizationPlan], Outcome]


def merged(decisions: Iterable[Decision], outcome_of: Tell) -> list[Proposal | Skipped]:
    """A line for each stretch of decisions that say the same; a proposal's with the outcome of its first.

    `decisions` come in the order of time.
    """
    return [_line(stretch, outcome_of) for _, stretch in groupby(decisions, key=lambda d: d.kind)]


def _line(stretch: Iterator[Decision], outcome_of: Tell) -> Proposal | Skipped:
    first = next(stretch)
    until, times = first.at, 1
    for decision in stretch:
        until, times = decision.at, times + 1
    plan, problem = first.outcome, first.problem
    if isinstance(plan, Skip) or problem is None:
        return Skipped(since=first.at, until=until, times=times, reasoning=_reasoning(plan))
    return Proposal(
        since=first.at,
        until=until,
        times=times,
        incumbent_version=first.incumbent_version,
        incumbent=problem.incumbent,
        config=plan.recommended_config,
        changes=changes(problem.incumbent, plan.recommended_config),
        confidence=plan.confidence,
        expected_improvement=plan.expected_improvement,
        predictions=plan.predictions,
        rationale=plan.rationale,
        outcome=outcome_of(problem, plan),
    )


def _reasoning(said: OptimizationPlan | Skip) -> str:
    return said.reasoning if isinstance(said, Skip) else said.rationale


def reason(reasoning: str) -> str:
    """A skip's reason without its figures, which differ from one decision to the next."""
    return _NUMBER.sub("#", reasoning)


def summarized(lines: Sequence[Proposal | Skipped]) -> Summary:
    """What the lines come to."""
    proposals = [line for line in lines if isinstance(line, Proposal)]
    skips = [line for line in lines if isinstance(line, Skipped)]
    proposing, skipping = sum(p.times for p in proposals), sum(s.times for s in skips)
    return Summary(
        decisions=proposing + skipping,
        proposing=proposing,
        skipping=skipping,
        skips=_reasons(skips),
        proposals=len(proposals),
        outcomes=dict(Counter(proposal.outcome.verdict for proposal in proposals)),
        breaches=sum(
            any(c.standing == "breached" for c in proposal.outcome.constraints) for proposal in proposals
        ),
        calibration=_calibration(proposals),
    )


def _reasons(skips: Sequence[Skipped]) -> list[SkipReason]:
    """The reasons, the most frequent first."""
    times: Counter[str] = Counter()
    first: dict[str, str] = {}
    for skip in skips:
        key = reason(skip.reasoning)
        times[key] += skip.times
        first.setdefault(key, skip.reasoning)
    return [SkipReason(reasoning=first[key], times=count) for key, count in times.most_common()]


def _calibration(proposals: Sequence[Proposal]) -> Calibration:
    """Of each measured change the first proposal alone: the others were held against the same figures."""
    once = {(p.outcome.deployment_id, p.outcome.since, pool_key(p.config)): p for p in reversed(proposals)}
    known = [proposal for proposal in once.values() if proposal.outcome.evidence != "none"]
    intervals = Counter(c.interval for proposal in known for c in proposal.outcome.metrics)
    judged = [p for p in known if p.outcome.verdict in ("better", "worse", "rolled_back")]
    errors = [(p.confidence - (p.outcome.verdict == "better")) ** 2 for p in judged]
    return Calibration(
        intervals=intervals["held"] + intervals["missed"],
        held=intervals["held"],
        judged=len(judged),
        brier=sum(errors) / len(errors) if errors else None,
    )
