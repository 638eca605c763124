"""What a rollout's workflow has done for it."""

from temporalio import activity

from activities.checks import check
from domain.rollout_plan import RolloutPlan
from storage import rollback, rollouts
from storage.database import Database
from workflows import messages as m


class RolloutActivities:
    """Each is one transaction, under the rollout's fence, and may be repeated."""

    def __init__(self, database: Database, *, searchable: bool) -> None:
        self._database = database
        self._searchable = searchable

    @activity.defn(name="begin-rollout")
    async def begin(self, arg: m.BeginRolloutInput) -> m.BeginRolloutResult:
        """Claim the rollout; no state while a pause holds."""
        async with self._database.transaction() as session:
            row = await rollouts.begin(session, arg.deployment_id)
            if row is None:
                return m.BeginRolloutResult()
            activity.logger.info("rollout begins", extra={"deployment": row.id, "scope": row.scope})
            return m.BeginRolloutResult(
                state=m.RolloutState(
                    plan=RolloutPlan.model_validate(row.plan),
                    scope=row.scope,
                    from_version=row.from_version,
                    to_version=row.to_version,
                    fence=row.fence,
                    searchable=self._searchable,
                )
            )

    @activity.defn(name="enter-step")
    async def enter_step(self, arg: m.EnterStepInput) -> m.EnterStepResult:
        """Serve a step's share from now on, unless a pause holds."""
        async with self._database.transaction() as session:
            row = await rollouts.enter_step(
                session, arg.deployment_id, fence=arg.fence, step=arg.step, at=arg.at
            )
        return m.EnterStepResult(entered=row is not None)

    @activity.defn(name="check-rollout")
    async def check(self, arg: m.CheckInput) -> m.CheckResult:
        """Look at the rollout."""
        async with self._database.transaction() as session:
            result = await check(session, arg)
        activity.logger.info(
            "looked", extra={"deployment": arg.deployment_id, "number": arg.number, "verdict": result.verdict}
        )
        return result

    @activity.defn(name="show-rollout-status")
    async def show_status(self, arg: m.ShowStatusInput) -> m.RolloutRef:
        """Show what holds the rollout."""
        async with self._database.transaction() as session:
            await rollouts.set_status(
                session, arg.deployment_id, fence=arg.fence, status=arg.status, reason=arg.reason
            )
        return _ref(arg)

    @activity.defn(name="extend-step")
    async def extend_step(self, arg: m.ExtendStepInput) -> m.RolloutRef:
        """Record an extension of the present step."""
        async with self._database.transaction() as session:
            await rollouts.extend_step(
                session, arg.deployment_id, fence=arg.fence, step=arg.step, extensions=arg.extensions
            )
        return _ref(arg)

    @activity.defn(name="end-step")
    async def end_step(self, arg: m.EndStepInput) -> m.RolloutRef:
        """Record a step's verdict."""
        async with self._database.transaction() as session:
            await rollouts.end_step(
                session,
                arg.deployment_id,
                fence=arg.fence,
                step=arg.step,
                verdict=arg.verdict,
                extensions=arg.extensions,
                at=arg.at,
            )
        return _ref(arg)

    @activity.defn(name="complete-rollout")
    async def complete(self, arg: m.RolloutRef) -> m.CompleteResult:
        """Keep the new version, unless a pause holds."""
        async with self._database.transaction() as session:
            completed = await rollouts.complete(session, arg.deployment_id, fence=arg.fence)
        return m.CompleteResult(completed=completed)

    @activity.defn(name="roll-back")
    async def roll_back(self, arg: m.RollBackInput) -> m.RolloutOutcome:
        """Take the rollout back, unless it has ended already."""
        async with self._database.transaction() as session:
            row = await rollouts.lock(session, arg.deployment_id)
            triggers = await rollouts.last_triggers(session, row) if arg.automatic else []
            await rollback.roll_back(
                session,
                row,
                reason=arg.reason,
                automatic=arg.automatic,
                triggers=triggers,
                verdict=arg.verdict,
                at=arg.at,
            )
            ended = (row.rollback or {}).get("reason") or row.error or row.status
            return m.RolloutOutcome.model_validate(
                {"deploymentId": row.id, "status": row.status, "reason": ended}
            )


def _ref(arg: m.RolloutRef) -> m.RolloutRef:
    return m.RolloutRef(deployment_id=arg.deployment_id, fence=arg.fence)
