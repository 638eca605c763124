"""Compensation: take a rollout back. One idempotent piece of work, for whoever finds the need first."""

from sqlalchemy.ext.asyncio import AsyncSession

from domain.deployment import OPEN_STATUSES
from storage import configs
from storage.events import emit
from storage.tables import Rollout, db_now


async def roll_back(
    session: AsyncSession,
    rollout: Rollout,
    *,
    reason: str,
    automatic: bool,
    triggers: list[dict[str, object]] | None = None,
) -> bool:
    """End a rollout whose row the caller holds locked: no share, the old configuration served.

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
    await _restore(session, rollout, reason)
    data = {
        "deploymentId": rollout.id,
        "fromVersion": rollout.to_version,
        "toVersion": rollout.from_version,
        "reason": reason if served else f"{reason} (before any traffic)",
        "automatic": automatic,
        "triggers": triggers or None,
    }
    emit(session, "rollback.triggered", rollout.scope, data)
    emit(session, "rollback.completed", rollout.scope, data)
    return True


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
