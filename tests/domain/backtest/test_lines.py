"""Decisions merged into lines, and what they come to."""

from domain.backtest.lines import Decision, merged, reason, summarized
from domain.backtest.report import UNKNOWN, Compared, Outcome, Proposal, Skipped
from domain.decision.problem import DecisionProblem, Skip
from domain.plan import OptimizationPlan
from domain.policy import Objective
from tests.domain.backtest.test_outcome import OLD, plan
from tests.storage.records import config


def skipped(at: int, reasoning: str) -> Decision:
    return Decision(at, Skip(reasoning=reasoning))


def proposed(
    at: int, model: str = "gpt-4o-mini", version: str = "chat@1", confidence: float = 0.8
) -> Decision:
    wanted = plan().model_copy(update={"recommended_config": config(model), "confidence": confidence})
    objectives = [Objective(metric="cost.avg", goal="minimize", weight=1)]
    problem = DecisionProblem(service="chat", incumbent=OLD, objectives=objectives, now=at)
    return Decision(at, wanted, problem, version)


def test_decisions_that_say_the_same_are_one_line() -> None:
    asked: list[int] = []

    def outcome(problem: DecisionProblem, _: OptimizationPlan) -> Outcome:
        asked.append(problem.now)
        return UNKNOWN

    decisions = [
        skipped(0, "Only 3 requests of gpt-4o were seen."),
        skipped(1, "Only 4 requests of gpt-4o were seen."),
        skipped(2, "Only 4 requests of gpt-5 were seen."),
        *(proposed(at) for at in (3, 4, 5)),
        proposed(6, "gpt-5"),
        proposed(7, "gpt-5", version="chat@2"),
        skipped(8, "Only 9 requests of gpt-4o were seen."),
        proposed(9),
    ]
    lines = merged(decisions, outcome)
    assert [(type(line), line.since, line.until, line.times) for line in lines] == [
        (Skipped, 0, 1, 2),
        (Skipped, 2, 2, 1),
        (Proposal, 3, 5, 3),
        (Proposal, 6, 6, 1),
        (Proposal, 7, 7, 1),
        (Skipped, 8, 8, 1),
        (Proposal, 9, 9, 1),
    ]
    assert asked == [3, 6, 7, 9]
    summary = summarized(lines)
    assert (summary.decisions, summary.proposing, summary.skipping, summary.proposals) == (10, 6, 4, 4)
    assert [(skip.times, skip.reasoning) for skip in summary.skips] == [
        (3, "Only 3 requests of gpt-4o were seen."),
        (1, "Only 4 requests of gpt-5 were seen."),
    ]
    assert summary.outcomes == {"unknown": 4}
    assert (summary.calibration.judged, summary.calibration.brier) == (0, None)


def test_a_reason_is_told_without_its_figures_but_with_its_models() -> None:
    assert reason("gpt-4o at $0.013 (-12.5 %), 1,204 requests") == "gpt-4o at # (# %), # requests"


def test_a_measured_change_counts_once_in_the_calibration() -> None:
    metrics = [
        Compared(metric="cost.avg", incumbent=2, proposed=1, interval="held"),
        Compared(metric="quality.avg", incumbent=2, proposed=1, interval="missed"),
        Compared(metric="latency.p95", incumbent=2, proposed=1, interval="unknown"),
    ]
    known = {"evidence": "canary", "words": "", "metrics": metrics}
    outcomes = {
        0: Outcome.model_validate({"verdict": "better", "deployment_id": "a", **known}),
        2: Outcome.model_validate({"verdict": "better", "deployment_id": "a", **known}),
        4: Outcome.model_validate({"verdict": "rolled_back", "deployment_id": "b", **known}),
        6: Outcome.model_validate({"verdict": "undecided", "deployment_id": "c", **known}),
    }
    decisions = [
        proposed(0, confidence=0.8),
        skipped(1, "no"),
        proposed(2, confidence=0.1),
        skipped(3, "no"),
        proposed(4, "gpt-5", confidence=0.6),
        skipped(5, "no"),
        proposed(6, "gpt-6", confidence=0.6),
    ]
    summary = summarized(merged(decisions, lambda problem, _: outcomes[problem.now]))
    assert summary.outcomes == {"better": 2, "rolled_back": 1, "undecided": 1}
    calibration = summary.calibration
    assert (calibration.intervals, calibration.held, calibration.judged) == (6, 3, 2)
    assert calibration.brier is not None
    assert abs(calibration.brier - (0.2**2 + 0.6**2) / 2) < 1e-12
