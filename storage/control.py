"""The control row: run, pause, emergency stop. Committed here before anything is signalled.

Everywhere locks are taken in one order: the control row, the right to fire for a service, runs, the right to
open a rollout, rollouts, scopes.
"""

from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.deployment import OPEN_STATUSES
from domain.errors import Conflict, Stopped
from domain.scope import GLOBAL
from storage import configs, rollback
from storage.events import alert
from storage.run_end import end_runs
from storage.tables import Control, Optimization, Rollout, db_now


@dataclass(frozen=True, slots=True)
class StopOutcome:
    """What an emergency stop ended, by id, so that the workflows can be hurried along."""

    timestamp: int
    revision: int
    rollouts: list[str]
    optimizations: list[str]


async def get(session: AsyncSession) -> Control:
    """The control row as it is."""
    return (await session.execute(select(Control))).scalar_one()


async def hold(session: AsyncSession) -> Control:
    """The control row, locked against a change until this transaction ends."""
    query = select(Control).with_for_update(read=True)
    return (await session.execute(query.execution_options(populate_existing=True))).scalar_one()


async def seize(session: AsyncSession) -> Control:
    """The control row, held by this transaction alone until it ends."""
    # Those who hold the row share it, so that a stop might wait for as long as one follows another. This
    # lock is granted in the order of asking: whoever comes to hold the row after it waits.
    await session.execute(text("LOCK TABLE control IN EXCLUSIVE MODE"))
    query = select(Control).with_for_update()
    return (await session.execute(query.execution_options(populate_existing=True))).scalar_one()


async def require_running(session: AsyncSession, epoch: int | None = None) -> Control:
    """Hold the row, and require that no emergency stop does.

    `epoch` is that of the run which asks; None for a request that starts something new. A pause is no
    hindrance here: what it holds back, and how, is the caller's affair.

    Raises:
        Stopped: an emergency stop holds, or one came after the run began.
    """
    row = await hold(session)
    if row.state == "stopped":
        raise Stopped(f"emergency stop: {row.reason}. Nothing starts until resume")
    if epoch is not None and row.epoch != epoch:
        raise Stopped("an emergency stop came after this run began")
    return row


async def pause(session: AsyncSession, *, reason: str | None, by: str) -> Control:
    """Hold every run before its next step, and every schedule. Idempotent.

    Raises:
        Conflict: an emergency stop holds, which is stronger.
    """
    row = await seize(session)
    if row.state == "stopped":
        raise Conflict("an emergency stop holds; resume ends it")
    if row.state == "running":
        await _change(session, row, "paused", reason, by)
    return row


async def resume(session: AsyncSession, *, by: str) -> Control:
    """End a pause or an emergency stop. Idempotent."""
    row = await seize(session)
    if row.state != "running":
        await _change(session, row, "running", None, by)
    return row


async def emergency_stop(session: AsyncSession, *, reason: str, by: str) -> StopOutcome:
    """End every run and every open share, and put each scope back on its last version known good.

    One transaction that needs nothing but PostgreSQL. Runs of earlier epochs can do nothing more once it is
    committed, whether they hear of it or not.
    """
    row = await seize(session)
    row.epoch += 1
    await _change(session, row, "stopped", reason, by)
    why = f"emergency stop: {reason}"
    running = Optimization.status.in_(("queued", "running"))
    runs = select(Optimization).where(running).order_by(Optimization.id).with_for_update()
    optimizations = list((await session.execute(runs)).scalars())
    opened = select(Rollout).where(Rollout.status.in_(OPEN_STATUSES)).order_by(Rollout.id).with_for_update()
    rollouts = list((await session.execute(opened)).scalars())
    for rollout in rollouts:
        await rollback.roll_back(session, rollout, reason=why, automatic=False)
    await configs.restore_known_good(session, reason=why, by=by)
    for run in optimizations:
        run.status, run.error = "failed", why
    await end_runs(session, optimizations)
    alert(session, GLOBAL, "critical", f"emergency stop by {by}: {reason}")
    return StopOutcome(
        row.changed_at, row.revision, [rollout.id for rollout in rollouts], [run.id for run in optimizations]
    )


async def _change(session: AsyncSession, row: Control, state: str, reason: str | None, by: str) -> None:
    row.state, row.reason, row.changed_by = state, reason, by
    row.revision += 1
    row.changed_at = db_now()
    await session.flush()
    await session.refresh(row)
