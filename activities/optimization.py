"""What an optimization's workflow has done for it."""

import asyncio
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from activities import problems
from activities.problems import Observed
from domain.analysis.windows import missing_in_words
from domain.conditions import Rule
from domain.decision.problem import Skip, Strategy
from domain.errors import Conflict, Stopped
from domain.optimization import OptimizationRequest
from domain.plan import OptimizationPlan
from domain.policy import ServicePolicy
from domain.rollout_plan import plan_rollout
from domain.rules.firing import Judged
from domain.rules.ruling import RuledBack, Ruling, rule_on
from domain.scope import Scope
from storage import brakes, control, firings, going_back, observations, optimizations, rollouts, watching
from storage.database import Database
from storage.events import alert
from storage.tables import Optimization, OptimizedService, Rollout, db_now
from storage.validation import validate
from workflows import messages as m


class OptimizationActivities:
    """Each may be repeated. What a phase finds is kept in PostgreSQL; workflows carry ids and a line."""

    def __init__(
        self, database: Database, strategy: Strategy, *, step_seconds: float, searchable: bool
    ) -> None:
        self._database = database
        self._strategy = strategy
        self._step_seconds = step_seconds
        self._searchable = searchable

    @activity.defn(name="claim-optimization")
    async def claim(self, arg: m.OptimizationRef) -> m.ClaimResult:
        """Take the run from queued to running; not claimed while a pause holds."""
        async with self._database.transaction() as session:
            row = await optimizations.claim(session, arg.optimization_id)
            request = OptimizationRequest.model_validate(row.request) if row else OptimizationRequest()
            return m.ClaimResult(
                claimed=row is not None,
                services=request.services or [],
                dry_run=request.dry_run,
                searchable=self._searchable,
            )

    @activity.defn(name="begin-phase")
    async def begin_phase(self, arg: m.PhaseInput) -> m.PhaseResult:
        """Show the phase, unless a pause holds."""
        async with self._database.transaction() as session:
            go = await optimizations.begin_phase(
                session, arg.optimization_id, phase=arg.phase, progress=arg.progress
            )
        return m.PhaseResult(go=go)

    @activity.defn(name="observe")
    async def observe(self, arg: m.ServiceInput) -> m.ServiceNote:
        """Gather what is known of a service."""
        async with self._database.transaction() as session:
            policy = await self._policy(session, arg)
        observed = await problems.observe(self._database, arg.service, policy)
        if observed is None:
            return m.ServiceNote(proceed=False, note="no configuration is served that could be improved.")
        async with self._database.transaction() as session:
            part = await optimizations.part(session, arg.optimization_id, arg.service)
            part.observation = observed.to_json()
        seen = sum(observation.n for observation in observed.history)
        activity.logger.info("observed", extra={"service": arg.service, "requests": seen})
        missing = missing_in_words(observed.windows.service if observed.windows else [], "24h")
        note = f"{seen} requests of {len(observed.history)} configurations in the last day."
        return m.ServiceNote(proceed=True, note=f"{note} Missing: {missing}." if missing else note)

    @activity.defn(name="analyze")
    async def analyze(self, arg: m.ServiceInput) -> m.ServiceNote:
        """Judge how the present configuration stands, against its bounds and the service's past."""
        async with self._database.transaction() as session:
            part, observed = await _observed(session, arg)
            policy = await self._policy(session, arg)
            analysis = await problems.analyze(session, arg.service, observed, policy)
            part.analysis, part.analyzed_at = analysis.to_json(), db_now()
        return m.ServiceNote(proceed=True, note=f"{analysis.in_words()}.")

    @activity.defn(name="decide")
    async def decide(self, arg: m.ServiceInput) -> m.ServiceNote:
        """Let the rules speak, then the optimizer: a plan, a way back, or a reasoned skip."""
        async with self._database.transaction() as session:
            _, observed = await _observed(session, arg)
            policy = await self._policy(session, arg)
            problem = await problems.problem_of(session, arg.service, observed, policy)
            rules = await _rules(session, arg, policy)
        ruling = await asyncio.to_thread(rule_on, problem, self._strategy, rules)
        async with self._database.transaction() as session:
            await _record_firing(session, arg, ruling, rules)
            part = await optimizations.part(session, arg.optimization_id, arg.service)
            part.decided_at, part.reasoning = db_now(), ruling.reasoning
            part.widening = problem.widening
            outcome = ruling.outcome
            part.plan = outcome.to_json() if isinstance(outcome, OptimizationPlan) else None
            part.ruling = outcome.to_json() if isinstance(outcome, RuledBack) else None
        return m.ServiceNote(
            proceed=not isinstance(outcome, Skip),
            note=ruling.reasoning,
            going_back=isinstance(outcome, RuledBack),
        )

    @activity.defn(name="open-rollout")
    async def open_rollout(self, arg: m.ServiceInput) -> m.ActResult:
        """Open the rollout of a service's plan, unless the policy leaves that to a person, or go back."""
        async with self._database.transaction() as session:
            policy = await self._policy(session, arg)
            part = await optimizations.part(session, arg.optimization_id, arg.service)
            ruling = part.ruling
        if ruling is None and not policy.automatic:
            return m.ActResult(note="Not deployed: the policy leaves that to a person.")
        try:
            async with self._database.transaction() as session:
                if ruling is not None:
                    return await _go_back(session, arg, RuledBack.model_validate(ruling), policy)
                part, observed = await _observed(session, arg)
                plan = OptimizationPlan.model_validate(part.plan)
                refusal = await self._refusal(session, part, plan, observed, policy)
                if refusal is not None:
                    return m.ActResult(note=f"Not deployed: {refusal}.")
                rollout = await self._open(session, part, plan, observed, policy)
        except Stopped:
            raise
        except Conflict as conflict:
            return m.ActResult(note=f"Not deployed: {conflict.message}.")
        return m.ActResult(
            note=f"Rollout {rollout.id} of {rollout.to_version} was opened.",
            deployment_id=rollout.id,
            summary=_summary(rollout),
        )

    async def _refusal(
        self,
        session: AsyncSession,
        part: OptimizedService,
        plan: OptimizationPlan,
        observed: Observed,
        policy: ServicePolicy,
    ) -> str | None:
        """Why the plan may not be deployed any more, and an alert of it; None where it may, or is already.

        Much may have happened since it was made: the run may have been held for days.
        """
        if part.deployment_id is not None:
            return None
        stand = await brakes.of_service(session, policy)
        if stand.refusal is not None:
            await brakes.announce(session, part.service, stand)
            return stand.refusal
        result = await validate(
            session,
            Scope(part.service),
            plan.recommended_config,
            policy,
            plan.predictions,
            by_odds=plan.source == "model",
        )
        if result.is_valid:
            return None
        alert(session, part.service, "medium", "a configuration was refused", result.to_json())
        return result.refusal

    async def _open(
        self,
        session: AsyncSession,
        part: OptimizedService,
        plan: OptimizationPlan,
        observed: Observed,
        policy: ServicePolicy,
    ) -> Rollout:
        run = await optimizations.get(session, part.optimization_id)
        rate = await observations.request_rate(
            session, part.service, step_seconds=policy.rollout.step_seconds
        )
        rollout = await rollouts.open_rollout(
            session,
            rollouts.NewRollout(
                scope=part.service,
                config=plan.recommended_config,
                plan=plan_rollout(policy.rollout, policy.rollout.strategy, rate),
                policy=policy,
                change_type="automatic",
                by="optimizer",
                reason=plan.rationale,
                optimization_id=run.id,
                promise=problems.promise_of(plan, observed, part.widening or {}),
            ),
            epoch=run.epoch,
        )
        part.deployment_id = rollout.id
        return rollout

    @activity.defn(name="finish-optimization")
    async def finish(self, arg: m.FinishInput) -> m.OptimizationRef:
        """Record what the run came to."""
        async with self._database.transaction() as session:
            await optimizations.finish(
                session, arg.optimization_id, decision=arg.decision, reasoning=arg.reasoning
            )
        return m.OptimizationRef(optimization_id=arg.optimization_id)

    @activity.defn(name="fail-optimization")
    async def fail(self, arg: m.FailInput) -> m.OptimizationRef:
        """End the run, and withdraw what it opened that has not begun."""
        async with self._database.transaction() as session:
            await optimizations.fail(session, arg.optimization_id, arg.error)
        return m.OptimizationRef(optimization_id=arg.optimization_id)

    async def _policy(self, session: AsyncSession, arg: m.ServiceInput) -> ServicePolicy:
        """The policy as it was when the run began; the first to ask keeps it."""
        run: Optimization = await optimizations.get(session, arg.optimization_id)
        part = await optimizations.part(session, arg.optimization_id, arg.service)
        if part.policy is None:
            request = OptimizationRequest.model_validate(run.request)
            policy = await problems.policy_for(session, arg.service, request, step_seconds=self._step_seconds)
            part.policy = policy.to_json()
        return ServicePolicy.model_validate(part.policy)


async def _observed(session: AsyncSession, arg: m.ServiceInput) -> tuple[OptimizedService, Observed]:
    part = await optimizations.part(session, arg.optimization_id, arg.service)
    return part, Observed.model_validate(part.observation)


async def _rules(session: AsyncSession, arg: m.ServiceInput, policy: ServicePolicy) -> list[Judged]:
    """How the rules of a policy stand; that one of them opened this very run is no earlier firing."""
    ruled = policy.model_copy(update={"triggers": []})
    now = await rollouts.clock(session)
    found = await watching.judge(session, {arg.service: ruled}, now, but_by=arg.optimization_id)
    return found.get(arg.service, [])


async def _record_firing(
    session: AsyncSession, arg: m.ServiceInput, ruling: Ruling, rules: Sequence[Judged]
) -> None:
    """Keep that a rule decided the run, unless the run is to change nothing."""
    run = await optimizations.get(session, arg.optimization_id)
    if OptimizationRequest.model_validate(run.request).dry_run:
        return
    for judged in rules:
        rule = judged.subject
        if isinstance(rule, Rule) and rule.id == ruling.rule:
            await firings.record(
                session,
                arg.service,
                judged.key,
                action=rule.action.type,
                words=judged.evaluation.words,
                reference=run.id,
            )


async def _go_back(
    session: AsyncSession, arg: m.ServiceInput, ruled: RuledBack, policy: ServicePolicy
) -> m.ActResult:
    """Do what a rule wants, once."""
    await control.require_running(session, (await optimizations.get(session, arg.optimization_id)).epoch)
    run = await optimizations.lock_open(session, arg.optimization_id)
    part = await optimizations.part(session, arg.optimization_id, arg.service)
    if part.deployment_id is None:
        went = await going_back.go_back(session, ruled, policy, optimization_id=run.id, epoch=run.epoch)
        part.deployment_id = went.rollout_id
        if went.deployment is None:
            return m.ActResult(note=went.note)
    rollout = await rollouts.get(session, part.deployment_id or "")
    if rollout.optimization_id != run.id:
        return m.ActResult(note=f"Rollout {rollout.id} was taken back.")
    return m.ActResult(
        note=f"Rollout {rollout.id} of {rollout.to_version} was opened.",
        deployment_id=rollout.id,
        summary=_summary(rollout),
    )


def _summary(rollout: Rollout) -> str:
    return f"{rollout.scope}: {rollout.from_version} → {rollout.to_version} ({rollout.strategy})"
