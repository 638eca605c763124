"""From what is stored to what a decision is asked."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from domain.analysis.analysis import Analysis
from domain.analysis.standing import standing
from domain.analysis.windows import Windows
from domain.base import Message
from domain.config import LLMConfig
from domain.decision.estimates import observation_of
from domain.decision.history import Observation
from domain.decision.pooling import pool
from domain.decision.problem import DecisionProblem, Rejection, Traffic
from domain.errors import InvalidRequest
from domain.ledger.entry import Promise
from domain.optimization import OptimizationRequest
from domain.plan import OptimizationPlan
from domain.policy import ServicePolicy
from domain.reports import MAX_AHEAD_MS
from domain.scope import Scope
from storage import analysis, configs, findings, ledger, observations, rollouts, services
from storage.database import Database

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


@dataclass(frozen=True, slots=True)
class Known:
    """What is on record of a service at `now` (ms): what it serves, its reports of the last day, its traffic.

    `versions` are the configurations of the versions that `groups` name, as far as there are such versions.
    """

    now: int
    active: configs.ActiveConfig
    groups: Sequence[observations.Group]
    versions: Mapping[str, LLMConfig]
    traffic: Sequence[Traffic]
    windows: Windows | None = None


async def observe(database: Database, service: str, policy: ServicePolicy) -> Observed | None:
    """Gather a service's history of the last day; None where it serves no configuration."""
    async with database.snapshot() as session:
        active = await configs.active(session, Scope(service))
        if active is None:
            return None
        now = await rollouts.clock(session)
        groups = await observations.history(
            session, service, since=now - HISTORY_MS, until=now + MAX_AHEAD_MS
        )
        versions = await configs.named(session, [group.version for group in groups if group.version])
        # The history is that of a day, and tells the day's traffic.
        others = [window for window in traffic_windows(policy) if window != HISTORY_MS]
        traffic = [
            observations.served(groups, HISTORY_MS),
            *await observations.traffic(session, service, others),
        ]
        windows = await observations.windows(session, service)
    known = Known(
        now=now,
        active=active,
        groups=groups,
        versions=versions,
        traffic=[Traffic(window_ms=w, requests=n, cost_usd=cost) for w, n, cost in sorted(traffic)],
        windows=windows,
    )
    return await asyncio.to_thread(observed_of, known)


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


def traffic_windows(policy: ServicePolicy) -> list[int]:
    """The windows (ms) over which a policy asks for the traffic, the shortest first."""
    return sorted({c.window_ms for c in policy.constraints if c.window_ms} | {DAY_MS})


def observed_of(known: Known) -> Observed:
    """An observation per configuration; reports without a version go by their model to the incumbent."""
    active = known.active
    history, left_out = [], 0
    for group in known.groups:
        if group.version is not None and group.version in known.versions:
            config = known.versions[group.version]
        elif (group.provider, group.model) == (active.config.provider, active.config.model):
            config = active.config
        else:
            left_out += group.totals.n
            continue
        history.append(observation_of(config, group.totals, incumbent=config == active.config))
    return Observed(
        incumbent=active.config,
        incumbent_version=active.version,
        last_change_at=active.applied_at,
        observed_at=known.now,
        history=history,
        traffic=list(known.traffic),
        left_out=left_out,
        windows=known.windows,
    )


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
    """The decision problem of a service, as it is to be decided now."""
    refused = await rejections(session, service, observed.observed_at - REJECTED_MS)
    return problem(service, observed, policy, refused, await ledger.widening_of(session, service))


async def rejections(session: AsyncSession, service: str, since: int) -> list[Rejection]:
    """What the health gate took back since a time (ms), the newest first."""
    refused = await rollouts.rejected(session, service, since)
    versions = await configs.named(session, [rollout.to_version for rollout in refused])
    return [
        Rejection(
            config=versions[rollout.to_version],
            at=rollout.ended_at or rollout.created_at,
            reason=_reason(rollout.rollback),
        )
        for rollout in refused
    ]


def problem(
    service: str,
    observed: Observed,
    policy: ServicePolicy,
    refused: Sequence[Rejection],
    widening: dict[str, float],
) -> DecisionProblem:
    """The decision problem that follows from what was observed, what the gate took back of late, and how far
    predictions are to be widened.
    """
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
        rejections=list(refused),
        traffic=observed.traffic,
        widening=widening,
    )


def promise_of(plan: OptimizationPlan, observed: Observed, widening: dict[str, float]) -> Promise:
    """What a plan promises, for the ledger: its levels beside the incumbent's, which they started from."""
    pooled = pool(observed.history, observed.incumbent, observed.observed_at)
    present = pooled[0].metrics if pooled and pooled[0].incumbent else {}
    return Promise(
        predictions=plan.predictions,
        confidence=plan.confidence,
        incumbent={metric: estimate.mean for metric, estimate in present.items()},
        widening=widening,
    )


def _reason(rollback: dict[str, Any] | None) -> str:
    return str((rollback or {}).get("reason", ""))
