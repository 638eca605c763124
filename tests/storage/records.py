"""Records that tests of the loop start from, made through storage alone, and what came of them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from domain.config import LLMConfig
from domain.ledger.entry import Promise
from domain.optimization import OptimizationRequest
from domain.policy import ServicePolicy, Strategy
from domain.rollout_plan import plan_rollout
from domain.scope import parse_scope
from storage import changes, configs, optimizations, rollouts, services
from storage.changes import Change, ChangeOutcome
from storage.database import Database
from storage.tables import ConfigVersion, Event, Optimization, Rollout, ScopeState

AT = 1_760_000_000_000
"""A workflow's time."""


def config(model: str = "gpt-4o", **changes: Any) -> LLMConfig:
    fields: dict[str, Any] = {
        "provider": "openai",
        "model": model,
        "temperature": 0.5,
        "top_p": 1.0,
        "max_tokens": 100,
        "streaming": False,
        "function_calling": False,
        "vision_enabled": False,
    }
    return LLMConfig(**(fields | changes))


def change(scope: str, model: str = "gpt-4o", strategy: Strategy = "canary", **given: Any) -> Change:
    policy = given.pop("policy", None) or ServicePolicy(service=parse_scope(scope).service or "global")
    wanted = given.pop("config", None) or config(model)
    fields: dict[str, Any] = {"reason": "cheaper", "by": "ada"} | given
    return Change(scope=parse_scope(scope), config=wanted, strategy=strategy, policy=policy, **fields)


async def make(database: Database, wanted: Change) -> ChangeOutcome:
    async with database.transaction() as session:
        return await changes.change_config(session, wanted)


async def first_config(database: Database, scope: str, model: str = "gpt-4o") -> None:
    """A configuration of the scope's own, served at once even where it could inherit one."""
    async with database.transaction() as session:
        state = await configs.lock_scope(session, scope)
        await configs.apply_first(
            session, state, config(model), by="ada", change_type="manual", reason="first"
        )


async def enter(database: Database, deployment_id: str, step: int = 0) -> None:
    """Begin a rollout, if it has not begun, and serve a step's share."""
    async with database.transaction() as session:
        begun = await rollouts.begin(session, deployment_id)
        assert begun is not None
    for number in range(begun.step + 1, step + 1):
        async with database.transaction() as session:
            await rollouts.enter_step(session, deployment_id, fence=begun.fence, step=number, at=AT)


async def complete(database: Database, deployment_id: str) -> None:
    """Carry a rollout to its end, all steps healthy."""
    row = await get_rollout(database, deployment_id)
    await enter(database, deployment_id, step=len(row.plan["steps"]) - 1)
    async with database.transaction() as session:
        await rollouts.complete(session, deployment_id, fence=row.fence)


async def lapse(database: Database, deployment_id: str) -> None:
    """Let the lease run out. It lasts 60 s of the database's clock at least, which no test waits for."""
    pool = await database.pool()
    await pool.execute(
        "UPDATE rollouts SET watched_until = clock_timestamp() - interval '1 second' WHERE id = $1",
        deployment_id,
    )


async def open_run(database: Database, *names: str, **given: Any) -> Optimization:
    """Make services known and open an optimization of them."""
    async with database.transaction() as session:
        await services.note(session, names)
        request = OptimizationRequest(services=list(names), dry_run=given.pop("dry_run", False))
        fields: dict[str, Any] = {"triggered_by": "manual", "by": "ada"} | given
        return await optimizations.open_optimization(session, request, **fields)


async def open_for_run(
    database: Database,
    run: Optimization,
    scope: str,
    model: str,
    *,
    promise: Promise | None = None,
    policy: ServicePolicy | None = None,
) -> Rollout:
    """The rollout of a run's plan."""
    policy = policy or ServicePolicy(service=scope)
    new = rollouts.NewRollout(
        scope=scope,
        config=config(model),
        plan=plan_rollout(policy.rollout, "canary", None),
        policy=policy,
        change_type="automatic",
        by="optimizer",
        reason="cheaper",
        optimization_id=run.id,
        promise=promise,
    )
    async with database.transaction() as session:
        return await rollouts.open_rollout(session, new, epoch=run.epoch)


async def get_rollout(database: Database, deployment_id: str) -> Rollout:
    async with database.transaction() as session:
        return await rollouts.get(session, deployment_id)


async def get_run(database: Database, optimization_id: str) -> Optimization:
    async with database.transaction() as session:
        return await optimizations.get(session, optimization_id)


async def served(database: Database, scope: str) -> str | None:
    """The version that a scope serves, its own or inherited."""
    async with database.transaction() as session:
        active = await configs.active(session, parse_scope(scope))
    return active.version if active else None


async def known_good(database: Database, scope: str) -> str | None:
    async with database.transaction() as session:
        state = await session.get(ScopeState, scope)
    return state.known_good_version if state else None


async def versions(database: Database) -> list[str]:
    """Every version in the order of its making."""
    async with database.transaction() as session:
        query = select(ConfigVersion.version).order_by(ConfigVersion.created_at, ConfigVersion.version)
        return list((await session.execute(query)).scalars())


async def events(database: Database, *types: str, scope: str | None = None) -> Sequence[Event]:
    """The events of some types (of all, if none is named) in the order of their writing."""
    async with database.transaction() as session:
        query = select(Event).order_by(Event.sequence)
        if types:
            query = query.where(Event.type.in_(types))
        if scope is not None:
            query = query.where(Event.scope == scope)
        return (await session.execute(query)).scalars().all()


async def event_types(database: Database, scope: str | None = None) -> list[str]:
    return [event.type for event in await events(database, scope=scope)]
