"""From what is stored to what a decision is asked."""

import asyncio
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.analysis.analysis import Analysis
from domain.analysis.standing import standing
from domain.analysis.windows import Windows
from domain.base import Message
from domain.config import LLMConfig
from domain.decision.estimates import observation_of
from domain.decision.history import Observation
from domain.decision.problem import DecisionProblem, Rejection, Traffic
from domain.errors import InvalidRequest
from domain.optimization import OptimizationRequest
from domain.policy import ServicePolicy
from domain.reports import MAX_AHEAD_MS
from domain.scope import Scope
from storage import analysis, configs, findings, observations, rollouts, services
from storage.database import Database
from storage.tables import ConfigVersion

DAY_MS = 86_400_000
HISTORY_MS = DAY_MS
REJECTED_MS = 7 * DAY_MS


class Observed(Message):
    """What a run knows of a service: its history by configuration, how much it serves, and its metrics over
    each window.

    `left_out` counts reports that name no version and whose model is not the incumbent's.
    """

    incumbent: LLMConfig
    incumbent_version: str
    last_change_at: int
    observed_at: int
    history: list[Observation]
    traffic: list[Traffic]
    left_out: int
    windows: Windows | None = None

    @property
    def present(self) -> Observation | None:
        """What was observed of the incumbent."""
        return next((seen for seen in self.history if seen.incumbent), None)


async def observe(database: Database, service: str, policy: ServicePolicy) -> Observed | None:
    """Gather a service's history of the last day; None where it serves no configuration."""
    async with database.transaction() as session:
        active = await configs.active(session, Scope(service))
        if active is None:
            return None
        now = await rollouts.clock(session)
        groups = await observations.history(
            session, service, since=now - HISTORY_MS, until=now + MAX_AHEAD_MS
        )
        versions = await _configs(session, [group.version for group in groups if group.version])
        windows = {c.window_ms for c in policy.constraints if c.window_ms} | {DAY_MS}
        traffic = await observations.traffic(session, service, sorted(windows))
    async with database.transaction() as session:
        seen = await observations.windows(session, service)
    history, left_out = await asyncio.to_thread(_history, groups, versions, active)
    return Observed(
        incumbent=active.config,
        incumbent_version=active.version,
        last_change_at=active.applied_at,
        observed_at=now,
        history=history,
        traffic=[Traffic(window_ms=w, requests=n, cost_usd=cost) for w, n, cost in traffic],
        left_out=left_out,
        windows=seen,
    )


async def analyze(session: AsyncSession, service: str, observed: Observed, policy: ServicePolicy) -> Analysis:
    """How a service stands: against its constraints, its baselines, by its trends and open anomalies."""
    found = (await findings.find(session, [service], observed.observed_at))[service]
    anomalies = (await analysis.open_anomalies(session, [service])).get(service, {})
    return Analysis(
        standing=standing(observed.present, policy.constraints),
        changes=found.comparison.changes,
        untested=found.comparison.untested,
        trends=[told for told in found.trends if told.trend.significant],
        anomalies=[anomalies[metric] for metric in sorted(anomalies)],
    )


async def _configs(session: AsyncSession, versions: list[str]) -> dict[str, LLMConfig]:
    rows = (await session.execute(select(ConfigVersion).where(ConfigVersion.version.in_(versions)))).scalars()
    return {row.version: LLMConfig.model_validate(row.config) for row in rows}


def _history(
    groups: list[observations.Group], versions: dict[str, LLMConfig], active: configs.ActiveConfig
) -> tuple[list[Observation], int]:
    """An observation per configuration; reports without a version go by their model to the incumbent."""
    history, left_out = [], 0
    for group in groups:
        if group.version in versions:
            config = versions[group.version]
        elif (group.provider, group.model) == (active.config.provider, active.config.model):
            config = active.config
        else:
            left_out += group.totals.n
            continue
        history.append(observation_of(config, group.totals, incumbent=config == active.config))
    return history, left_out


async def policy_for(
    session: AsyncSession, service: str, request: OptimizationRequest, *, step_seconds: float
) -> ServicePolicy:
    """A service's policy with a trigger's objectives in place of its own, and the constraints added.

    Raises:
        InvalidRequest: the constraints of both are too many, or two have one name.
    """
    policy = await services.policy_of(session, service, step_seconds=step_seconds)
    both = {
        "objectives": request.objectives or policy.objectives,
        "constraints": [*policy.constraints, *(request.constraints or ())],
    }
    try:
        return ServicePolicy.model_validate(dict(policy) | both)
    except ValidationError as error:
        reasons = "; ".join(fault["msg"] for fault in error.errors())
        raise InvalidRequest(
            f"{service}: its policy and the trigger's constraints together: {reasons}"
        ) from error


async def problem_of(
    session: AsyncSession, service: str, observed: Observed, policy: ServicePolicy
) -> DecisionProblem:
    """The decision problem of a service."""
    refused = await rollouts.rejected(session, service, observed.observed_at - REJECTED_MS)
    versions = await _configs(session, [rollout.to_version for rollout in refused])
    return DecisionProblem(
        service=service,
        incumbent=observed.incumbent,
        objectives=policy.objectives,
        constraints=policy.constraints,
        search_space=policy.search_space,
        mode=policy.mode,
        history=observed.history,
        now=observed.observed_at,
        last_change_at=observed.last_change_at,
        rejections=[
            Rejection(
                config=versions[rollout.to_version],
                at=rollout.ended_at or rollout.created_at,
                reason=_reason(rollout.rollback),
            )
            for rollout in refused
        ],
        traffic=observed.traffic,
    )


def _reason(rollback: dict[str, Any] | None) -> str:
    return str((rollback or {}).get("reason", ""))
