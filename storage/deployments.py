"""Rollouts as people see them: reads only."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from domain.deployment import (
    OPEN_STATUSES,
    Deployment,
    DeploymentStep,
    GuardrailReading,
    Rollback,
)
from domain.rollout_plan import RolloutPlan
from storage.tables import Rollout, RolloutCheck, RolloutStep


async def list_deployments(
    session: AsyncSession, *, scope: str | None, open_only: bool, limit: int, offset: int
) -> tuple[int, list[Deployment]]:
    """How many rollouts there are, and a page of them, the newest first."""
    query = select(Rollout)
    if scope is not None:
        query = query.where(Rollout.scope == scope)
    if open_only:
        query = query.where(Rollout.status.in_(OPEN_STATUSES))
    total = (await session.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
    page = query.order_by(Rollout.created_at.desc(), Rollout.id.desc()).limit(limit).offset(offset)
    return total, await describe(session, list((await session.execute(page)).scalars()))


async def describe(session: AsyncSession, rollouts: Sequence[Rollout]) -> list[Deployment]:
    """Each rollout with its steps and the guardrails as each step last saw them."""
    ids = [rollout.id for rollout in rollouts]
    begun = {
        (row.deployment_id, row.step): row
        for row in (
            await session.execute(select(RolloutStep).where(RolloutStep.deployment_id.in_(ids)))
        ).scalars()
    }
    last_looks = (
        select(RolloutCheck)
        .where(RolloutCheck.deployment_id.in_(ids))
        .ext(distinct_on(RolloutCheck.deployment_id, RolloutCheck.step))
        .order_by(RolloutCheck.deployment_id, RolloutCheck.step, RolloutCheck.number.desc())
    )
    looks = {(row.deployment_id, row.step): row for row in (await session.execute(last_looks)).scalars()}
    return [_describe(rollout, begun, looks) for rollout in rollouts]


def _describe(
    rollout: Rollout,
    begun: dict[tuple[str, int], RolloutStep],
    looks: dict[tuple[str, int], RolloutCheck],
) -> Deployment:
    plan = RolloutPlan.model_validate(rollout.plan)
    steps = []
    for index, planned in enumerate(plan.steps):
        step, look = begun.get((rollout.id, index)), looks.get((rollout.id, index))
        readings = look.result.get("guardrails", []) if look else []
        steps.append(
            DeploymentStep.model_validate(
                {
                    "percent": planned.percent,
                    "startedAt": step.started_at if step else None,
                    "endedAt": step.ended_at if step else None,
                    "extensions": step.extensions if step else 0,
                    "verdict": step.verdict if step else None,
                    "guardrails": [GuardrailReading.model_validate(reading) for reading in readings],
                }
            )
        )
    left = max(rollout.step, 0)
    return Deployment.model_validate(
        {
            "deploymentId": rollout.id,
            "scope": rollout.scope,
            "strategy": rollout.strategy,
            "fromVersion": rollout.from_version,
            "toVersion": rollout.to_version,
            "status": rollout.status,
            "progress": 100.0 if rollout.status == "completed" else 100.0 * left / len(steps),
            "trafficPercent": rollout.traffic_percent,
            "startedAt": rollout.started_at or rollout.created_at,
            "endedAt": rollout.ended_at,
            "reason": rollout.reason,
            "steps": steps,
            "rollback": Rollback.model_validate(rollout.rollback) if rollout.rollback else None,
        }
    )
