"""Rollouts for benchmarks, in the middle of a canary without a worker to drive them."""

import time

from domain.config import LLMConfig
from domain.policy import RolloutPolicy, ServicePolicy
from domain.rollout_plan import plan_rollout
from domain.scope import parse_scope
from storage import configs, rollouts
from storage.database import Database

CONTROL, CANARY = "gpt-4o", "gpt-4o-mini"
# Its watch lasts for three checks.
CHECK_SECONDS = 3600.0


async def serve_control(database: Database, scope: str) -> None:
    """Give a scope its first configuration, unless it has one."""
    async with database.transaction() as session:
        served = (await configs.lock_scope(session, scope)).active_version is not None
    if not served:
        await serve_model(database, scope, CONTROL)


async def serve_model(database: Database, scope: str, model: str) -> None:
    """Have a scope serve a model at once."""
    async with database.transaction() as session:
        state = await configs.lock_scope(session, scope)
        await configs.apply_first(
            session, state, _config(model), by="bench", change_type="manual", reason="first"
        )


async def open_canary(database: Database, scope: str, *, step: int) -> str:
    """A rollout in a step (0: 5 %, 1: 25 %, 2: 50 %) that is watched for hours; gives its id."""
    await serve_control(database, scope)
    rollout = RolloutPolicy(step_seconds=CHECK_SECONDS, check_seconds=CHECK_SECONDS)
    policy = ServicePolicy(service=parse_scope(scope).service or scope, rollout=rollout)
    async with database.transaction() as session:
        opened = await rollouts.open_rollout(
            session,
            rollouts.NewRollout(
                scope=scope,
                config=_config(CANARY),
                plan=plan_rollout(policy.rollout, "canary", None),
                policy=policy,
                change_type="manual",
                by="bench",
                reason="cheaper",
            ),
        )
    async with database.transaction() as session:
        begun = await rollouts.begin(session, opened.id)
    if begun is None:
        raise RuntimeError("a rollout did not begin")
    for entered in range(step + 1):
        async with database.transaction() as session:
            at = time.time_ns() // 1_000_000
            await rollouts.enter_step(session, opened.id, fence=begun.fence, step=entered, at=at)
    return opened.id


def _config(model: str) -> LLMConfig:
    return LLMConfig(
        provider="openai",
        model=model,
        temperature=0.5,
        top_p=1.0,
        max_tokens=100,
        streaming=False,
        function_calling=False,
        vision_enabled=False,
    )
