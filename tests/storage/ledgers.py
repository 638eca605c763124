"""Rollouts with a promise and what was measured of them, through storage alone."""

from typing import Any

import numpy as np

from domain.gate.bucket import ArmBucket, Bucket
from domain.gate.settings import GateSettings
from domain.gate.state import GateState, observe
from domain.ledger.entry import LedgerEntry, Promise
from domain.plan import Prediction
from domain.policy import ServicePolicy
from storage import ledger, optimizations, rollback, rollouts
from storage.database import Database
from storage.ledger import Selection
from storage.tables import Rollout
from tests.storage import records

COST_ALONE = {"objectives": [{"metric": "cost", "goal": "minimize", "weight": 1.0}]}


def level(mean: float, low: float, high: float) -> Prediction:
    return Prediction(mean=mean, low=low, high=high, samples=0)


def of_cost(mean: float = 0.005, half: float = 0.0005, **given: Any) -> Promise:
    """The promise of a cost, from an incumbent's of a cent."""
    fields: dict[str, Any] = {
        "predictions": {"cost.avg": level(mean, mean - half, mean + half)},
        "confidence": 0.9,
        "incumbent": {"cost.avg": 0.01},
    }
    return Promise(**(fields | given))


async def opened(
    database: Database, scope: str, promise: Promise | None = None, model: str = "gpt-5", **policy: Any
) -> Rollout:
    """A run's rollout, on a scope that is given its first configuration where it has none."""
    if await records.served(database, scope) is None:
        await records.first_config(database, scope)
    run = await records.open_run(database, scope)
    wanted = ServicePolicy.model_validate({"service": scope} | COST_ALONE | policy)
    rollout = await records.open_for_run(database, run, scope, model, promise=promise, policy=wanted)
    async with database.transaction() as session:
        (await optimizations.part(session, run.id, scope)).deployment_id = rollout.id
        await optimizations.finish(session, run.id, decision="optimize", reasoning="cheaper")
    return rollout


async def measured(
    database: Database,
    deployment_id: str,
    *,
    cost: tuple[float, float] | None = None,
    quality: tuple[float, float] | None = None,
    n: int = 400,
) -> None:
    """What a check finds: control's and the canary's means of `n` requests each, exactly."""
    arms = []
    for arm in (0, 1):
        priced = [] if cost is None else _values(cost[arm], 0.2 * cost[arm], n)
        scores = [] if quality is None else _values(quality[arm], 5.0, n)
        arms.append(ArmBucket(n=n, errors=0, latency_ms=[], cost_usd=priced, quality=scores))
    bucket = Bucket(id=1, share=50.0, control=arms[0], canary=arms[1])
    async with database.transaction() as session:
        row = await rollouts.lock(session, deployment_id)
        policy = ServicePolicy.model_validate(row.policy)
        await ledger.record(session, row, observe(GateState(), bucket, GateSettings()), policy)


def _values(mean: float, spread: float, n: int) -> list[float]:
    found: list[float] = (mean + spread * np.resize([1.0, -1.0], n)).tolist()
    return found


async def take_back(database: Database, deployment_id: str, *, harm: bool = False) -> None:
    """Roll back: for harm that the gate found, or by hand."""
    triggers: list[dict[str, object]] = [{"metric": "cost.avg", "threshold": 0.01, "actual": 0.02}]
    async with database.transaction() as session:
        row = await rollouts.lock(session, deployment_id)
        found = triggers if harm else None
        await rollback.roll_back(session, row, reason="why", automatic=harm, triggers=found)


async def entries(database: Database, metric: str | None = "cost.avg", **chosen: Any) -> list[LedgerEntry]:
    async with database.transaction() as session:
        return await ledger.entries(session, Selection(**chosen), metric=metric)


async def ended(
    database: Database, service: str, promise: Promise, *, cost: tuple[float, float], number: int = 0
) -> str:
    """A rollout that was measured, and is over."""
    rollout = await opened(database, service, promise, model=f"gpt-{number}")
    await measured(database, rollout.id, cost=cost)
    await take_back(database, rollout.id)
    return rollout.id
