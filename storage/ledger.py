"""The ledger: what a rollout promised, what it measured, and what follows for the next decision.

Promises are written in the transaction that opens a rollout, measurements in that of each check, and how it
ended in the transaction that ends it, so that an entry is whole whatever becomes of the rollout. Nothing is
ever deleted.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.gate.state import GateState
from domain.ledger.entry import LedgerEntry, Promise
from domain.ledger.measurement import Measurement, measure
from domain.ledger.utility import measured_utility
from domain.ledger.widening import widening
from domain.plan import Prediction
from domain.policy import ServicePolicy
from domain.scope import GLOBAL, parse_scope
from storage.tables import LedgerMetric, LedgerRollout, Rollout, db_now

RECENT = 500
"""The newest measured predictions of a metric that widening rests on: what optimizers of long ago predicted
says little of this one."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which deployments to look at: of some services, opened in [start, end) (ms); None does not choose."""

    services: Sequence[str] | None = None
    start: int | None = None
    end: int | None = None

    def conditions(self) -> Iterable[ColumnElement[bool]]:
        """The conditions on `LedgerRollout`."""
        if self.services:
            yield LedgerRollout.service.in_(self.services)
        if self.start is not None:
            yield LedgerRollout.opened_at >= self.start
        if self.end is not None:
            yield LedgerRollout.opened_at < self.end


@dataclass(frozen=True, slots=True)
class Widenings:
    """Factors above 1 by metric: those of all services together, and those of some services."""

    overall: dict[str, float]
    services: dict[str, dict[str, float]]


async def promise(session: AsyncSession, rollout: Rollout, promised: Promise | None) -> None:
    """Open the entries of a rollout that is being opened; None for a change made by hand."""
    service = parse_scope(rollout.scope).service or GLOBAL
    confidence = promised.confidence if promised else None
    session.add(
        LedgerRollout(deployment_id=rollout.id, service=service, scope=rollout.scope, confidence=confidence)
    )
    await session.flush()
    if promised is not None:
        session.add_all(
            LedgerMetric(
                deployment_id=rollout.id,
                metric=metric,
                predicted=level.to_json(),
                incumbent=promised.incumbent.get(metric),
                widening=promised.widening.get(metric, 1.0),
            )
            for metric, level in promised.predictions.items()
        )
        await session.flush()


async def record(session: AsyncSession, rollout: Rollout, state: GateState, policy: ServicePolicy) -> None:
    """Keep what a check of a locked rollout has measured, in place of what the check before did."""
    measured = measure(state)
    utility = measured_utility(policy, measured)
    await session.execute(
        update(LedgerRollout)
        .where(LedgerRollout.deployment_id == rollout.id)
        .values(
            utility=utility.value if utility else None,
            utility_se=utility.se if utility else None,
            came_true=utility.came_true if utility else None,
        )
        .execution_options(synchronize_session=False)
    )
    if measured:
        rows = insert(LedgerMetric).values(
            [
                {"deployment_id": rollout.id, "metric": metric, "measured": found.to_json()}
                for metric, found in measured.items()
            ]
        )
        keys = (LedgerMetric.deployment_id, LedgerMetric.metric)
        replaced = rows.on_conflict_do_update(index_elements=keys, set_={"measured": rows.excluded.measured})
        await session.execute(replaced)


async def settle(session: AsyncSession, rollout: Rollout) -> None:
    """Record how a locked rollout ended; what was measured stays as its last check left it."""
    await session.execute(
        update(LedgerRollout)
        .where(LedgerRollout.deployment_id == rollout.id)
        .values(
            outcome=rollout.status,
            settled_at=db_now(),
            stopped=bool((rollout.rollback or {}).get("triggers")),
        )
        .execution_options(synchronize_session=False)
    )


async def improvements(session: AsyncSession, deployment_ids: Sequence[str]) -> dict[str, dict[str, float]]:
    """What rollouts have measured so far, by deployment and metric: canary against control, as a fraction.

    Positive is better. A deployment without any is left out.
    """
    query = _entries().where(LedgerMetric.deployment_id.in_(deployment_ids))
    found = defaultdict[str, dict[str, float]](dict)
    for entry in await _read(session, query):
        if entry.improvement is not None:
            found[entry.deployment_id][entry.metric] = entry.improvement
    return dict(found)


async def of_run(session: AsyncSession, deployment_ids: Sequence[str]) -> dict[str, float] | None:
    """What the rollout of a run has measured so far. None if nothing yet, or if the run has several.

    Fractions of several services do not add up to one.
    """
    if len(deployment_ids) != 1:
        return None
    return (await improvements(session, deployment_ids)).get(deployment_ids[0])


async def entries(
    session: AsyncSession, selection: Selection, *, metric: str | None = None
) -> list[LedgerEntry]:
    """The entries of some deployments, on all metrics or one, those of the newest first."""
    query = _entries().where(*selection.conditions())
    if metric is not None:
        query = query.where(LedgerMetric.metric == metric)
    return await _read(session, query)


async def confidences(session: AsyncSession, selection: Selection) -> list[tuple[float, bool]]:
    """The confidence of each plan whose rollout has ended and was measured, and whether it came true."""
    query = select(LedgerRollout.confidence, LedgerRollout.came_true).where(
        LedgerRollout.settled_at.is_not(None),
        LedgerRollout.confidence.is_not(None),
        LedgerRollout.came_true.is_not(None),
        *selection.conditions(),
    )
    return [(row.confidence, row.came_true) for row in await session.execute(query)]


async def widening_of(session: AsyncSession, service: str) -> dict[str, float]:
    """The factors, above 1, by which the next predictions of a service are widened, by metric."""
    (factors,) = (await widenings(session, [service])).services.values()
    return factors


async def widenings(session: AsyncSession, services: Sequence[str]) -> Widenings:
    """The factors as of now, by metric. A service's own are shrunk towards those of all services."""
    overall = {metric: widening(needs) for (_, metric), needs in (await _needs(session)).items()}
    own = await _needs(session, services)
    factors = {
        service: {
            metric: widening(own.get((service, metric), []), prior) for metric, prior in overall.items()
        }
        for service in services
    }
    return Widenings(_above_one(overall), {name: _above_one(found) for name, found in factors.items()})


def _above_one(factors: dict[str, float]) -> dict[str, float]:
    return {metric: factor for metric, factor in sorted(factors.items()) if factor > 1.0}


async def _needs(
    session: AsyncSession, services: Sequence[str] | None = None
) -> dict[tuple[str | None, str], list[float]]:
    """What the newest measured predictions would have needed to hold, by service and metric.

    Those of some services each, or where none is named those of all together, under None.
    """
    apart = [LedgerRollout.service] if services is not None else []
    by_age = func.row_number().over(
        partition_by=[*apart, LedgerMetric.metric],
        order_by=(LedgerRollout.settled_at.desc(), LedgerRollout.deployment_id),
    )
    ranked = (
        select(LedgerMetric.deployment_id, LedgerMetric.metric, by_age.label("age"))
        .join(LedgerRollout)
        .where(LedgerRollout.settled_at.is_not(None), LedgerMetric.predicted.is_not(None))
        .where(LedgerMetric.measured.has_key("se"))
    )
    if services is not None:
        ranked = ranked.where(LedgerRollout.service.in_(services))
    newest = ranked.subquery()
    same = (newest.c.deployment_id == LedgerMetric.deployment_id) & (newest.c.metric == LedgerMetric.metric)
    found = defaultdict[tuple[str | None, str], list[float]](list)
    for entry in await _read(session, _entries().join(newest, same).where(newest.c.age <= RECENT)):
        if entry.comparison is not None:
            found[entry.service if services is not None else None, entry.metric].append(entry.comparison.need)
    return found


async def _read(session: AsyncSession, query: Select[LedgerMetric, LedgerRollout]) -> list[LedgerEntry]:
    rows = (await session.execute(query)).all()
    return await asyncio.to_thread(lambda: [_entry(row, kept) for row, kept in rows])


def _entries() -> Select[LedgerMetric, LedgerRollout]:
    """Entries with their deployment, those of the newest first."""
    return (
        select(LedgerMetric, LedgerRollout)
        .join(LedgerRollout)
        .order_by(LedgerRollout.opened_at.desc(), LedgerRollout.deployment_id.desc(), LedgerMetric.metric)
    )


def _entry(row: LedgerMetric, kept: LedgerRollout) -> LedgerEntry:
    return LedgerEntry.model_validate(
        {
            "deploymentId": row.deployment_id,
            "service": kept.service,
            "scope": kept.scope,
            "metric": row.metric,
            "openedAt": kept.opened_at,
            "settledAt": kept.settled_at,
            "outcome": kept.outcome,
            "stopped": kept.stopped,
            "predicted": Prediction.model_validate(row.predicted) if row.predicted else None,
            "incumbent": row.incumbent,
            "widening": row.widening,
            "measured": Measurement.model_validate(row.measured) if row.measured else None,
        }
    ).compared()
