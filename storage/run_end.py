"""The end of runs of the loop, whoever ends them: their services are free again, and it is told."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from domain.scope import GLOBAL
from storage import ledger
from storage.events import emit
from storage.tables import Optimization, OptimizedService, db_now


async def end_runs(session: AsyncSession, rows: Sequence[Optimization]) -> None:
    """End runs whose rows the caller holds locked, and whose status, decision or error it has set."""
    ids = [row.id for row in rows]
    now = (await session.execute(select(db_now()))).scalar_one()
    for row in rows:
        row.ended_at = now
    await session.execute(
        update(OptimizedService).where(OptimizedService.optimization_id.in_(ids)).values(open=False)
    )
    await session.flush()
    query = select(OptimizedService).where(OptimizedService.optimization_id.in_(ids))
    covered = defaultdict[str, list[OptimizedService]](list)
    for part in (await session.execute(query)).scalars():
        covered[part.optimization_id].append(part)
    for row in rows:
        parts = covered[row.id]
        data = {
            "optimizationId": row.id,
            "decision": row.decision or "skip",
            "duration": duration(row),
            "changesApplied": row.status == "completed" and any(part.deployment_id for part in parts),
        }
        started = [part.deployment_id for part in parts if part.deployment_id]
        improvements = await ledger.of_run(session, started)
        if improvements is not None:
            data["improvements"] = improvements
        emit(session, "optimization.complete", parts[0].service if len(parts) == 1 else GLOBAL, data)


def duration(row: Optimization) -> int:
    """How long a run took, ms; 0 while it has not ended, or if it never began."""
    if row.started_at is None or row.ended_at is None:
        return 0
    return row.ended_at - row.started_at
