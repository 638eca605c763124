"""What the record knows of a proposal: a rollout that tried it, or its reports once it was served."""

from itertools import pairwise

from activities import problems
from domain.analytics import DAY_MS, HOUR_MS
from domain.backtest.outcome import judge, pairs_between, pairs_of
from domain.backtest.report import UNKNOWN, Outcome
from domain.backtest.trial import Trial
from domain.config import LLMConfig
from domain.decision.estimates import observation_of
from domain.decision.history import Observation
from domain.decision.pooling import pool, pool_key
from domain.decision.problem import DecisionProblem
from domain.decision.readiness import MIN_REQUESTS
from domain.plan import OptimizationPlan
from storage.record import Record

_ENDINGS = {
    "completed": "and completed",
    "rolled_back": "and was taken back",
    "failed": "and failed",
}


class Outcomes:
    """Configurations are told by their settings, as a decision pools them, in whatever version they came."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def of(self, problem: DecisionProblem, plan: OptimizationPlan) -> Outcome:
        """The outcome of a plan: of the first rollout that served it beside the incumbent then or later, else
        of the first day in which it was served; unknown where it never was.
        """
        config, at = plan.recommended_config, problem.now
        present = pool(problem.history, problem.incumbent, at)[0]
        for trial in self._record.trials:
            if trial.readings and trial.tries(config, at) and trial.beside(problem.incumbent):
                return self._of_trial(problem, plan, trial, present)
        served = self._in_full(config, at) or self._by_version(config, at)
        return UNKNOWN if served is None else _before_and_after(problem, plan, present, served)

    def _of_trial(
        self, problem: DecisionProblem, plan: OptimizationPlan, trial: Trial, present: Observation
    ) -> Outcome:
        until = self._record.extent.end if trial.ended_at is None else trial.ended_at
        # Only its own versions are counted, so that the cell in which it ended may be taken whole.
        whole = until + self._record.extent.history_cell
        served = self._named(plan.recommended_config, trial.started_at, whole, at=problem.now)
        judged = judge(problem, plan, present=present, pairs=pairs_of(trial.readings), served=served)
        ending = _ENDINGS.get(trial.status, f"and is {trial.status.replace('_', ' ')}")
        words = f"{trial.deployment_id} served it beside the incumbent {ending}"
        if trial.reason:
            words += f": {trial.reason.rstrip('.')}"
        return judged.model_copy(
            update={
                "verdict": "rolled_back" if trial.harmed else judged.verdict,
                "evidence": "canary",
                "words": f"{words}.",
                "deployment_id": trial.deployment_id,
                "status": trial.status,
                "since": trial.started_at,
                "until": trial.ended_at,
            }
        )

    def _in_full(self, config: LLMConfig, at: int) -> tuple[int, int, Observation] | None:
        """The first whole hours, up to a day, in which the service served a configuration as its own: what
        named no version then was its too.
        """
        end, cell = self._record.extent.end, max(self._record.extent.history_cell, HOUR_MS)
        for since, until in pairwise([*self._record.served.changes(at, end), end]):
            active = self._record.active(since)
            if active is None or pool_key(active.config) != pool_key(config):
                continue
            first = -(-since // cell) * cell
            last = min(until // cell * cell, first + DAY_MS)
            known = problems.Known(
                now=last,
                active=active,
                groups=self._record.history(first, last, at=at),
                versions=self._record.versions,
                traffic=[],
            )
            pooled = pool(problems.observed_of(known).history, config, last)
            if pooled and pooled[0].incumbent:
                return first, last, pooled[0]
        return None

    def _by_version(self, config: LLMConfig, at: int) -> tuple[int, int, Observation] | None:
        """The first day in which reports named a version with a configuration's settings."""
        versions = [name for name, of in self._record.versions.items() if pool_key(of) == pool_key(config)]
        since = self._record.first_report(versions, at, at=at)
        if since is None:
            return None
        seen = self._named(config, since, since + DAY_MS, at=at)
        return None if seen is None else (since, since + DAY_MS, seen)

    def _named(self, config: LLMConfig, since: int, until: int, *, at: int) -> Observation | None:
        """What the reports say that name a version with a configuration's settings."""
        observed = [
            observation_of(self._record.versions[group.version], group.totals)
            for group in self._record.history(since, until, at=at)
            if group.version is not None and group.version in self._record.versions
        ]
        pooled = pool(observed, config, until)
        return pooled[0] if pooled and pooled[0].incumbent else None


def _before_and_after(
    problem: DecisionProblem,
    plan: OptimizationPlan,
    present: Observation,
    served: tuple[int, int, Observation],
) -> Outcome:
    since, until, observation = served
    judged = judge(
        problem, plan, present=present, pairs=pairs_between(present, observation), served=observation
    )
    few = observation.n < MIN_REQUESTS
    words = (
        f"no rollout compared it with the incumbent: its {observation.n:,} requests later are held against "
        "the incumbent's of the day before the proposal, and whatever else changed since is in the figures."
    )
    if few:
        words = f"it had {observation.n:,} requests later, too few to tell."
    return judged.model_copy(
        update={
            "verdict": "unknown" if few else judged.verdict,
            "evidence": "before-and-after",
            "words": words,
            "since": since,
            "until": until,
        }
    )
