"""A policy's rules in a backtest: how each stood at every decision, as a run would have found it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from domain.analytics import MINUTE_MS
from domain.conditions import Rule
from domain.config import LLMConfig
from domain.decision.foresight import foresee
from domain.decision.problem import DecisionProblem, Skip, Strategy
from domain.errors import InvalidRequest
from domain.plan import OptimizationPlan
from domain.policy import ServicePolicy
from domain.rules.firing import Fired, Judged, fired_of, judge_all
from domain.rules.past import Moment
from domain.rules.rehearsal import course, signals
from domain.rules.ruling import RuledBack, rule_on, rule_plan
from storage import dry_runs


class RulesReplay:
    """The rules of a policy at the moments of a replay; without `known` they are left out.

    A rule's cooldown and daily cap count the decisions that it made in the replay itself, which is asked in
    the order of time.
    """

    def __init__(
        self, policy: ServicePolicy, known: Mapping[int, Moment] | None, notes: Sequence[str] = ()
    ) -> None:
        self._rules = policy.rules
        self._known = known or {}
        self._times: dict[str, list[int]] = defaultdict(list)
        self.notes = notes

    def decide(
        self, problem: DecisionProblem, strategy: Strategy, versions: Mapping[str, LLMConfig]
    ) -> OptimizationPlan | Skip:
        """What the rules and the optimizer come to at the moment of a problem; `versions` by name."""
        judged = self._judged(problem.now)
        ruling = rule_on(problem, strategy, judged)
        for stands in judged:
            if isinstance(stands.subject, Rule) and stands.subject.id == ruling.rule:
                self._times[stands.key].append(problem.now)
        match ruling.outcome:
            case RuledBack() as back:
                return _plan_back(problem, back, versions)
            case OptimizationPlan() as plan:
                return plan.model_copy(update={"rationale": ruling.reasoning})
        return Skip(reasoning=ruling.reasoning)

    def _judged(self, moment: int) -> list[Judged]:
        known = self._known.get(moment)
        return [] if known is None else judge_all(self._rules, known, self._fired(moment), moment)

    def _fired(self, moment: int) -> dict[str, Fired]:
        found = {key: fired_of(times, moment) for key, times in self._times.items()}
        return {key: fired for key, fired in found.items() if fired is not None}


async def read_rules(session: AsyncSession, policy: ServicePolicy, moments: range) -> RulesReplay:
    """What was recorded of the service, as far as the policy's rules ask for it."""
    if not policy.rules:
        return RulesReplay(policy, None)
    try:
        if moments.step % MINUTE_MS:
            raise InvalidRequest("decisions are not whole minutes apart")
        laid = course(policy.rules, moments[0], moments[-1], moments.step)
    except InvalidRequest as error:
        return RulesReplay(
            policy, None, [f"The policy's rules ({len(policy.rules)}) are left out: {error.message}."]
        )
    past, findings = await dry_runs.recorded(session, policy.service, policy.rules, laid)
    known = signals(policy.rules, laid, past, findings)
    note = (
        f"The policy's rules ({len(policy.rules)}) are asked at each decision; what they would have done "
        f"between decisions is told by a dry run. Trends of the past are not kept: conditions on them are "
        f"unknown."
    )
    return RulesReplay(policy, dict(zip(moments, known, strict=True)), [note])


def _plan_back(
    problem: DecisionProblem, back: RuledBack, versions: Mapping[str, LLMConfig]
) -> OptimizationPlan | Skip:
    """A rule's rollback as a plan, where it names a version that is on record."""
    config = versions.get(back.to_version or "")
    if config is None or config == problem.incumbent:
        return Skip(reasoning=f"{back.reasoning} Which configuration that would have been is not replayed.")
    return rule_plan(problem, config, back.reasoning, foresee(problem, config))
