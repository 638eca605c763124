"""Runs of the loop: opened row first, then moved through their phases by their workflow."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from domain.errors import Conflict, NotFound
from domain.ids import new_id
from domain.optimization import OptimizationRequest, OptimizationStatus, Phase
from domain.plan import Decision, OptimizationPlan, OptimizationResult, ResultDeployment
from storage import control, ledger, rollback
from storage.run_end import duration, end_runs
from storage.tables import Optimization, OptimizedService, Rollout, Service, db_now


class OptimizationClosed(Exception):
    """The run has ended: its workflow must let go."""


async def open_optimization(
    session: AsyncSession,
    request: OptimizationRequest,
    *,
    triggered_by: str,
    by: str,
    details: dict[str, Any] | None = None,
    trigger_key: str | None = None,
) -> Optimization:
    """Make the row of a run, status `queued`. Its workflow is started after the commit.

    Without services in the request: every known one. The same `trigger_key` again gives the same run.

    Raises:
        Stopped: an emergency stop holds.
        NotFound: a service that nobody has heard of, or none known at all.
        Conflict: one of the services is being optimized already.
    """
    row = await control.require_running(session)
    if trigger_key is not None:
        query = select(Optimization).where(Optimization.trigger_key == trigger_key)
        known = (await session.execute(query)).scalar_one_or_none()
        if known is not None:
            return known
    services = await _known_services(session, request.services)
    run = Optimization(
        id=new_id("opt"),
        status="queued",
        request=request.model_copy(update={"services": services}).to_json(),
        triggered_by=triggered_by,
        trigger_details=details,
        created_by=by,
        epoch=row.epoch,
        trigger_key=trigger_key,
    )
    session.add(run)
    await session.flush()
    try:
        async with session.begin_nested():
            session.add_all(OptimizedService(optimization_id=run.id, service=service) for service in services)
    except IntegrityError as error:
        raise await _already_open(session, services) from error
    return run


async def _known_services(session: AsyncSession, wanted: list[str] | None) -> list[str]:
    query = select(Service.name)
    if wanted:
        query = query.where(Service.name.in_(wanted))
    known = sorted((await session.execute(query)).scalars())
    missing = sorted(set(wanted or ()) - set(known))
    if missing:
        raise NotFound(f"unknown service {', '.join(missing)}")
    if not known:
        raise NotFound("no service is known yet")
    return known


async def _already_open(session: AsyncSession, services: list[str]) -> Conflict:
    holders = await session.execute(
        select(OptimizedService.service, OptimizedService.optimization_id).where(
            OptimizedService.open, OptimizedService.service.in_(services)
        )
    )
    held = dict(holders.all())
    named = ", ".join(f"{service} by {run}" for service, run in sorted(held.items()))
    return Conflict(f"being optimized already: {named or ', '.join(services)}", details={"held": held})


async def get(session: AsyncSession, optimization_id: str) -> Optimization:
    """A run by id.

    Raises:
        NotFound: there is none.
    """
    row = await session.get(Optimization, optimization_id)
    if row is None:
        raise NotFound(f"no optimization {optimization_id!r}")
    return row


async def lock_open(session: AsyncSession, optimization_id: str) -> Optimization:
    """A run that has not ended, locked until the transaction ends, fresh from the database.

    Raises:
        OptimizationClosed: it has ended.
    """
    query = select(Optimization).where(Optimization.id == optimization_id).with_for_update()
    row = (await session.execute(query.execution_options(populate_existing=True))).scalar_one_or_none()
    if row is None or row.status not in ("queued", "running"):
        raise OptimizationClosed(f"{optimization_id}: {row.error or row.status if row else 'gone'}")
    return row


async def claim(session: AsyncSession, optimization_id: str) -> Optimization | None:
    """Take a run from `queued` to `running` for its workflow; again by the same changes nothing.

    None while a pause holds.

    Raises:
        OptimizationClosed: it ended before it began.
        Stopped: an emergency stop came first.
    """
    row = await get(session, optimization_id)
    state = await control.require_running(session, row.epoch)
    row = await lock_open(session, optimization_id)
    if row.status == "queued":
        if state.state == "paused":
            return None
        row.status = "running"
        row.dispatched = True
        row.started_at = db_now()
        await session.flush()
    return row


async def begin_phase(session: AsyncSession, optimization_id: str, *, phase: Phase, progress: int) -> bool:
    """Show the phase that a run comes to. False, and nothing changed, while a pause holds.

    Raises:
        OptimizationClosed, Stopped: as for `claim`.
    """
    epoch = (await get(session, optimization_id)).epoch
    state = await control.require_running(session, epoch)
    row = await lock_open(session, optimization_id)
    if state.state == "paused":
        return False
    row.phase, row.progress = phase, progress
    await session.flush()
    return True


async def part(session: AsyncSession, optimization_id: str, service: str) -> OptimizedService:
    """A service's part in a run."""
    row = await session.get(OptimizedService, (optimization_id, service))
    if row is None:
        raise NotFound(f"{optimization_id} does not cover {service}")
    return row


async def parts(session: AsyncSession, optimization_id: str) -> list[OptimizedService]:
    """Every service's part in a run, by name."""
    query = select(OptimizedService).where(OptimizedService.optimization_id == optimization_id)
    return list((await session.execute(query.order_by(OptimizedService.service))).scalars())


async def finish(session: AsyncSession, optimization_id: str, *, decision: Decision, reasoning: str) -> None:
    """End a run that did its work. Idempotent."""
    try:
        row = await lock_open(session, optimization_id)
    except OptimizationClosed:
        return
    row.status, row.progress, row.decision, row.reasoning = "completed", 100, decision, reasoning
    await end_runs(session, [row])


async def fail(session: AsyncSession, optimization_id: str, error: str) -> bool:
    """End a run that could not do its work, and withdraw what it opened that has not begun. Idempotent.

    Gives whether the run was still open.
    """
    try:
        row = await lock_open(session, optimization_id)
    except OptimizationClosed:
        return False
    row.status, row.error = "failed", error
    await end_runs(session, [row])
    for pending in await _pending_rollouts(session, optimization_id):
        reason = f"its optimization failed: {error}"
        await rollback.roll_back(session, pending, reason=reason, automatic=False)
    return True


async def _pending_rollouts(session: AsyncSession, optimization_id: str) -> list[Rollout]:
    query = select(Rollout).where(Rollout.optimization_id == optimization_id, Rollout.status == "pending")
    return list((await session.execute(query.order_by(Rollout.id).with_for_update())).scalars())


async def refuse(session: AsyncSession, optimization_id: str, error: str) -> bool:
    """End a run whose workflow was refused; gives False, and changes nothing, where it did begin."""
    try:
        row = await lock_open(session, optimization_id)
    except OptimizationClosed:
        return False
    return row.status == "queued" and await fail(session, optimization_id, error)


async def status(session: AsyncSession, row: Optimization) -> OptimizationStatus:
    """A run as people see it, joined with the present state of its rollouts."""
    result = await _result(session, row) if row.status == "completed" else None
    return OptimizationStatus.model_validate(
        {
            "id": row.id,
            "status": row.status,
            "progress": row.progress,
            "currentPhase": row.phase,
            "result": result,
            "error": row.error,
        }
    )


async def _result(session: AsyncSession, row: Optimization) -> OptimizationResult:
    covered = await parts(session, row.id)
    query = select(Rollout).where(Rollout.optimization_id == row.id).order_by(Rollout.scope)
    started = list((await session.execute(query)).scalars())
    improvements = await ledger.of_run(session, [rollout.id for rollout in started])
    return OptimizationResult.model_validate(
        {
            "decision": row.decision or "skip",
            "reasoning": row.reasoning or "",
            "plans": [OptimizationPlan.model_validate(service.plan) for service in covered if service.plan],
            "deployments": [
                ResultDeployment(
                    service=rollout.scope,
                    deployment_id=rollout.id,
                    config_version=rollout.to_version,
                    status=rollout.status,
                )
                for rollout in started
            ],
            # A run that took back a rollout of another's changed something, too.
            "changesApplied": bool(started) or any(part.deployment_id for part in covered),
            "improvements": improvements,
            "durationMs": duration(row),
        }
    )


async def plans(session: AsyncSession, optimization_id: str) -> list[OptimizationPlan]:
    """The plans made so far."""
    covered = await parts(session, optimization_id)
    return [OptimizationPlan.model_validate(service.plan) for service in covered if service.plan]


async def list_runs(
    session: AsyncSession, *, service: str | None, limit: int, offset: int
) -> tuple[int, Sequence[Optimization]]:
    """How many runs there are (over a service, or at all), and a page of them, the newest first."""
    query = select(Optimization)
    if service is not None:
        covering = select(OptimizedService.optimization_id).where(OptimizedService.service == service)
        query = query.where(Optimization.id.in_(covering))
    total = (await session.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
    page = query.order_by(Optimization.created_at.desc(), Optimization.id.desc())
    return total, (await session.execute(page.limit(limit).offset(offset))).scalars().all()
