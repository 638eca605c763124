"""Rollouts: opened row first, then moved on by their workflow under a fence and a lease."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from domain.config import LLMConfig
from domain.deployment import OPEN_STATUSES, DeploymentStatus
from domain.errors import Conflict, NotFound
from domain.ids import new_id
from domain.ledger.entry import Promise
from domain.policy import ServicePolicy
from domain.rollout_plan import RolloutPlan
from domain.scope import parse_scope
from storage import configs, control, ledger, optimizations
from storage.events import emit
from storage.tables import Rollout, RolloutCheck, RolloutStep, ScopeState, db_clock, db_now

_OPENING_LOCK = 0x726F6C6C6F7574


class RolloutClosed(Exception):
    """The rollout has ended, or was taken over: whoever still drives it must let go."""


class LeaseLapsed(Exception):
    """Nobody watched the canary for a while: it is no longer served, and is to be rolled back."""


@dataclass(frozen=True, slots=True)
class NewRollout:
    """A rollout to open."""

    scope: str
    config: LLMConfig
    plan: RolloutPlan
    policy: ServicePolicy
    change_type: str
    by: str
    reason: str
    derived_from: str | None = None
    optimization_id: str | None = None
    promise: Promise | None = None


async def open_rollout(session: AsyncSession, new: NewRollout, *, epoch: int | None = None) -> Rollout:
    """Make the version and the rollout's row, status `pending`. Its workflow is started after the commit.

    An optimization that asks again for the same scope gets the rollout that it has.

    Raises:
        Stopped: an emergency stop holds, or came after the run of `epoch` began.
        OptimizationClosed: the optimization has ended.
        Conflict: a rollout is open on the scope, or on one that it inherits from or that inherits from it.
        NotFound: the scope serves nothing that the change could be compared with.
    """
    row = await control.require_running(session, epoch)
    if new.optimization_id is not None:
        await optimizations.lock_open(session, new.optimization_id)
        opened = await _opened_by(session, new.optimization_id, new.scope)
        if opened is not None:
            return opened
    await require_no_other(session, new.scope)
    state = await configs.lock_scope(session, new.scope)
    present = await configs.active(session, parse_scope(new.scope))
    if present is None:
        raise NotFound(f"{new.scope} has no configuration to compare with")
    deployment_id = new_id("dep")
    version = await configs.create_version(
        session,
        state,
        new.config,
        by=new.by,
        change_type=new.change_type,
        reason=new.reason,
        deployment_id=deployment_id,
        derived_from=new.derived_from or present.version,
    )
    rollout = Rollout(
        id=deployment_id,
        scope=new.scope,
        strategy=new.plan.strategy,
        change_type=new.change_type,
        changed_by=new.by,
        reason=new.reason,
        from_version=present.version,
        to_version=version.version,
        optimization_id=new.optimization_id,
        plan=new.plan.to_json(),
        policy=new.policy.to_json(),
        status="pending",
        epoch=row.epoch,
    )
    session.add(rollout)
    await session.flush()
    await session.refresh(rollout)
    await ledger.promise(session, rollout, new.promise)
    return rollout


async def _opened_by(session: AsyncSession, optimization_id: str, scope: str) -> Rollout | None:
    query = select(Rollout).where(Rollout.optimization_id == optimization_id, Rollout.scope == scope)
    return (await session.execute(query)).scalar_one_or_none()


async def holder(session: AsyncSession, scope: str) -> Rollout | None:
    """The open rollout that keeps a scope from being changed, if there is one.

    It is on the scope itself, on one from which the scope inherits, or on one that inherits from the scope.
    """
    return (await holders(session, [scope])).get(scope)


async def holders(session: AsyncSession, scopes: Iterable[str]) -> dict[str, Rollout]:
    """By scope, the open rollout that keeps it from being changed, where there is one."""
    rows = (await session.execute(select(Rollout).where(Rollout.status.in_(OPEN_STATUSES)))).scalars().all()
    if not rows:
        return {}
    owned = set(
        (
            await session.execute(select(ScopeState.scope).where(ScopeState.active_version.is_not(None)))
        ).scalars()
    )
    found: dict[str, Rollout] = {}
    for scope in scopes:
        lineage = _lineage(scope, owned)
        for rollout in rows:
            if rollout.scope in lineage or scope in _lineage(rollout.scope, owned):
                found[scope] = rollout
                break
    return found


async def lock_open_on(session: AsyncSession, scope: str) -> Rollout | None:
    """The open rollout on a scope itself, if there is one, locked until the transaction ends."""
    query = select(Rollout).where(Rollout.scope == scope, Rollout.status.in_(OPEN_STATUSES))
    locked = query.with_for_update().execution_options(populate_existing=True)
    return (await session.execute(locked)).scalar_one_or_none()


def _lineage(scope: str, owned: set[str]) -> set[str]:
    """The scope and those that it inherits from, up to the first with a configuration of its own."""
    names = {scope}
    if scope in owned:
        return names
    for parent in map(str, parse_scope(scope).parents):
        names.add(parent)
        if parent in owned:
            break
    return names


async def require_no_other(session: AsyncSession, scope: str) -> None:
    """Let no other rollout be opened until this transaction ends, and require that none is in the way.

    Raises:
        Conflict: one is; its details name it.
    """
    await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _OPENING_LOCK})
    other = await holder(session, scope)
    if other is not None:
        raise Conflict(
            f"rollout {other.id} of {other.to_version} is open on {other.scope}",
            details={"deploymentId": other.id, "scope": other.scope, "status": other.status},
        )


async def get(session: AsyncSession, deployment_id: str) -> Rollout:
    """A rollout by id.

    Raises:
        NotFound: there is none.
    """
    row = await session.get(Rollout, deployment_id)
    if row is None:
        raise NotFound(f"no deployment {deployment_id!r}")
    return row


async def lock(session: AsyncSession, deployment_id: str) -> Rollout:
    """A rollout by id, locked until the transaction ends, fresh from the database."""
    query = select(Rollout).where(Rollout.id == deployment_id).with_for_update()
    row = (await session.execute(query.execution_options(populate_existing=True))).scalar_one_or_none()
    if row is None:
        raise NotFound(f"no deployment {deployment_id!r}")
    return row


async def lock_own(session: AsyncSession, deployment_id: str, fence: int) -> Rollout:
    """The rollout, locked, for the run that holds `fence`.

    Raises:
        RolloutClosed: it has ended, or another hand has it now.
    """
    row = await lock(session, deployment_id)
    if row.fence != fence or row.status not in OPEN_STATUSES:
        ended = (row.rollback or {}).get("reason") or row.error or row.status
        raise RolloutClosed(f"{deployment_id} is {row.status}: {ended}")
    return row


async def begin(session: AsyncSession, deployment_id: str) -> Rollout | None:
    """Claim a pending rollout for its workflow: `pending` to `running`, or to `awaiting_approval`.

    Called again by the same workflow it changes nothing. None while a pause holds.

    Raises:
        Stopped: an emergency stop came first.
        RolloutClosed: it ended before it began.
    """
    epoch = (await get(session, deployment_id)).epoch
    state = await control.hold(session)
    row = await lock(session, deployment_id)
    if row.status not in OPEN_STATUSES:
        raise RolloutClosed(f"{deployment_id} is {row.status}")
    if row.status != "pending":
        return row
    await control.require_running(session, epoch)
    if state.state == "paused":
        return None
    plan = RolloutPlan.model_validate(row.plan)
    row.status = "awaiting_approval" if plan.approval == "before-start" else "running"
    row.started_at = db_now()
    row.dispatched = True
    emit(session, "deployment.started", row.scope, _event(row, 0.0))
    await session.flush()
    await session.refresh(row)
    return row


async def enter_step(
    session: AsyncSession, deployment_id: str, *, fence: int, step: int, at: int
) -> Rollout | None:
    """Serve the share of a step from now on. `at` is the workflow's time. None while a pause holds.

    Idempotent: a step that was entered already is watched on, one that was left since is let be.

    Raises:
        Stopped: an emergency stop came after the rollout was opened.
        RolloutClosed: it is no longer this run's.
        LeaseLapsed: nobody watched it for a while.
    """
    epoch = (await get(session, deployment_id)).epoch
    state = await control.require_running(session, epoch)
    row = await lock_own(session, deployment_id, fence)
    await require_watched(session, row)
    if row.step < step:
        if state.state == "paused":
            return None
        await _enter(session, row, step, at)
    if row.step == step:
        await renew(session, row)
    await session.refresh(row)
    return row


async def _enter(session: AsyncSession, row: Rollout, step: int, at: int) -> None:
    plan = RolloutPlan.model_validate(row.plan)
    planned = plan.steps[step]
    session.add(
        RolloutStep(
            deployment_id=row.id,
            step=step,
            percent=planned.percent,
            traffic_percent=planned.traffic_percent,
            started_at=at,
        )
    )
    progress = 100 * step / len(plan.steps)
    emit(session, "deployment.progressed", row.scope, _event(row, progress, f"{planned.percent:g} %"))
    if plan.strategy == "immediate":
        await _serve_canary(session, row, good=False)
    row.step = step
    row.bucket_until = db_clock()
    row.status = "running"
    row.traffic_percent = planned.traffic_percent


async def require_watched(session: AsyncSession, row: Rollout) -> None:
    """Require that the lease of a share that is served has not run out.

    Raises:
        LeaseLapsed: it has.
    """
    if row.traffic_percent <= 0 or row.strategy == "immediate":
        return
    lapsed = await session.scalar(select(Rollout.watched_until < db_clock()).where(Rollout.id == row.id))
    if lapsed:
        raise LeaseLapsed(f"no check renewed the watch of {row.id} in time")


async def renew(session: AsyncSession, row: Rollout) -> None:
    """Extend the lease of a locked row from the database's present time."""
    plan = RolloutPlan.model_validate(row.plan)
    row.watched_until = db_clock(plan.lease_seconds)
    await session.flush()


async def set_status(
    session: AsyncSession, deployment_id: str, *, fence: int, status: DeploymentStatus, reason: str | None
) -> None:
    """Show a rollout as running, paused, held or awaiting approval; a hold is announced once."""
    row = await lock_own(session, deployment_id, fence)
    if row.status == status:
        return
    row.status = status
    await session.flush()
    if status == "held":
        step = f"{row.plan['steps'][row.step]['percent']:g} %"
        data = {"deploymentId": row.id, "step": step, "reason": reason}
        emit(session, "deployment.held", row.scope, data)


async def end_step(
    session: AsyncSession,
    deployment_id: str,
    *,
    fence: int,
    step: int,
    verdict: str,
    extensions: int,
    at: int,
) -> None:
    """Record a step's verdict, at the workflow's time."""
    await lock_own(session, deployment_id, fence)
    await session.execute(
        update(RolloutStep)
        .where(RolloutStep.deployment_id == deployment_id, RolloutStep.step == step)
        .values(verdict=verdict, extensions=extensions, ended_at=at)
    )


async def extend_step(
    session: AsyncSession, deployment_id: str, *, fence: int, step: int, extensions: int
) -> None:
    """Record how often a step was extended so far."""
    await lock_own(session, deployment_id, fence)
    await session.execute(
        update(RolloutStep)
        .where(RolloutStep.deployment_id == deployment_id, RolloutStep.step == step)
        .values(extensions=extensions)
    )


async def complete(session: AsyncSession, deployment_id: str, *, fence: int) -> bool:
    """The last verdict was good: the new version is what the scope serves, and known good.

    False, and nothing changed, while a pause holds. Idempotent.

    Raises:
        Stopped, RolloutClosed, LeaseLapsed: as for `enter_step`.
    """
    epoch = (await get(session, deployment_id)).epoch
    state = await control.require_running(session, epoch)
    row = await lock(session, deployment_id)
    if row.status == "completed":
        return True
    row = await lock_own(session, deployment_id, fence)
    await require_watched(session, row)
    if state.state == "paused":
        return False
    await _serve_canary(session, row, good=True)
    row.status = "completed"
    row.traffic_percent = 100
    row.watched_until = None
    row.ended_at = db_now()
    await session.flush()
    await ledger.settle(session, row)
    emit(session, "deployment.completed", row.scope, _event(row, 100.0))
    return True


async def fail(session: AsyncSession, row: Rollout, error: str) -> None:
    """End a locked rollout that served nothing, or whose served version stays, as failed."""
    row.status = "failed"
    row.error = error
    row.fence += 1
    row.traffic_percent = 0
    row.watched_until = None
    row.ended_at = db_now()
    await session.flush()
    await ledger.settle(session, row)
    emit(session, "deployment.failed", row.scope, _event(row, 0.0) | {"error": error})


async def _serve_canary(session: AsyncSession, row: Rollout, *, good: bool) -> None:
    state = await configs.lock_scope(session, row.scope)
    await configs.serve(
        session,
        state,
        row.to_version,
        previous=row.to_version if state.active_version == row.to_version else row.from_version,
        by=row.changed_by,
        change_type=row.change_type,
        reason=row.reason,
        good=good,
    )


def _event(row: Rollout, progress: float, step: str | None = None) -> dict[str, Any]:
    return {
        "deploymentId": row.id,
        "configVersion": row.to_version,
        "strategy": row.strategy,
        "progress": progress,
        "currentStep": step,
    }


async def get_check(session: AsyncSession, deployment_id: str, number: int) -> RolloutCheck | None:
    """A check that was made already, if it was."""
    return await session.get(RolloutCheck, (deployment_id, number))


async def rejected(session: AsyncSession, scope: str, since: int) -> list[Rollout]:
    """Rollouts of a scope that the gate took back since a time, the newest first."""
    rows = await session.execute(
        select(Rollout)
        .where(Rollout.scope == scope, Rollout.status == "rolled_back", Rollout.ended_at >= since)
        .where(Rollout.rollback["automatic"].as_boolean())
        .order_by(Rollout.ended_at.desc())
    )
    return list(rows.scalars())


async def last_triggers(session: AsyncSession, row: Rollout) -> list[dict[str, object]]:
    """Which metrics went past which thresholds at the last look, if it found harm."""
    query = select(RolloutCheck).where(
        RolloutCheck.deployment_id == row.id, RolloutCheck.number == row.check_number
    )
    look = (await session.execute(query)).scalar_one_or_none()
    return list(look.result.get("triggers", [])) if look and look.verdict == "unhealthy" else []


async def clock(session: AsyncSession) -> int:
    """The database's time, ms."""
    return (await session.execute(select(db_clock()))).scalar_one()
