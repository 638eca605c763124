"""Compensation: take a rollout back. One idempotent piece of work, for whoever finds the need first."""

from sqlalchemy import func, literal, update
from sqlalchemy.ext.asyncio import AsyncSession

from domain.deployment import OPEN_STATUSES
from storage import configs, ledger
from storage.events import emit
from storage.tables import Millis, Rollout, RolloutStep, db_now


async def roll_back(
    session: AsyncSession,
    rollout: Rollout,
    *,
    reason: str,
    automatic: bool,
    triggers: list[dict[str, object]] | None = None,
    verdict: str | None = None,
    at: int | None = None,
) -> bool:
    """End a rollout whose row the caller holds locked: no share, the old configuration served.

    `verdict` is that of its present step, if that was the cause; `at` the workflow's time (ms) if known.
    Gives whether there was anything to do. The fence moves on, so that a run which still believes in the
    rollout can write nothing more.
    """
    if rollout.status not in OPEN_STATUSES:
        return False
    served = rollout.traffic_percent > 0
    rollout.status = "rolled_back"
    rollout.traffic_percent = 0
    rollout.watched_until = None
    rollout.fence += 1
    rollout.ended_at = db_now()
    rollout.rollback = {"reason": reason, "automatic": automatic, "triggers": triggers or []}
    await session.flush()
    await _end_step(session, rollout, verdict, at)
    await ledger.settle(session, rollout)
    data = {
        "deploymentId": rollout.id,
        "fromVersion": rollout.to_version,
        "toVersion": rollout.from_version,
        "reason": reason if served else f"{reason} (before any traffic)",
        "automatic": automatic,
        "triggers": triggers or None,
    }
    emit(session, "rollback.triggered", rollout.scope, data)
    await _restore(session, rollout, reason)
    emit(session, "rollback.completed", rollout.scope, data)
    return True


async def _end_step(session: AsyncSession, rollout: Rollout, verdict: str | None, at: int | None) -> None:
    """Close the step that was open, by the clock that it was opened by where that is known."""
    ended_at = func.coalesce(literal(at, Millis), func.greatest(RolloutStep.started_at, db_now()))
    await session.execute(
        update(RolloutStep)
        .where(RolloutStep.deployment_id == rollout.id, RolloutStep.ended_at.is_(None))
        .values(ended_at=ended_at, verdict=verdict)
        .execution_options(synchronize_session=False)
    )


async def _restore(session: AsyncSession, rollout: Rollout, reason: str) -> None:
    """Move the active flag back where the rollout had moved it already."""
    state = await configs.lock_scope(session, rollout.scope)
    if state.active_version != rollout.to_version:
        return
    await configs.serve(
        session,
        state,
        None if configs.inherits_before(rollout) else rollout.from_version,
        previous=rollout.to_version,
        by="optimizer",
        change_type="automatic",
        reason=reason,
        good=False,
    )
