"""A service goes back to what served it well: its open rollout is taken back, or an old version deployed."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.config import LLMConfig
from domain.plan import ValidationResult
from domain.policy import ServicePolicy
from domain.rollout_plan import plan_rollout
from domain.rules.ruling import RuledBack
from domain.scope import Scope
from storage import configs, control, rollback, rollouts
from storage.brakes import BY_RULE
from storage.events import alert
from storage.tables import ConfigVersion, Rollout, ScopeState
from storage.validation import validate

_FARTHEST = 50
"""How many versions are looked at on the way back."""


@dataclass(frozen=True, slots=True)
class WentBack:
    """What came of it, in words. `taken_back` is the open rollout that was ended, `deployment` the one that
    was opened and whose workflow is to be started after the commit.
    """

    note: str
    taken_back: Rollout | None = None
    deployment: Rollout | None = None

    @property
    def rollout_id(self) -> str | None:
        """The rollout by which it went back."""
        found = self.deployment or self.taken_back
        return found.id if found else None


async def go_back(
    session: AsyncSession,
    ruled: RuledBack,
    policy: ServicePolicy,
    *,
    optimization_id: str | None = None,
    epoch: int | None = None,
) -> WentBack:
    """Do what a rule wants, and raise an alert of it.

    An open rollout of the service is the first to go: what was served before it is served again at once.
    Without one, the version that is named, or the last known good of another content than the present one,
    is deployed at once: a canary would leave the rest with the harm. A cooldown between changes does not
    hold here; every other hard constraint does.

    Raises:
        Stopped: an emergency stop holds.
        Conflict: a rollout of another scope is in the way.
    """
    service = policy.service
    await control.require_running(session, epoch)
    held = await rollouts.lock_open_on(session, service)
    if held is not None:
        await rollback.roll_back(session, held, reason=ruled.reasoning, automatic=True)
        _tell(session, service, ruled, {"deploymentId": held.id, "version": held.from_version})
        return WentBack(f"Rollout {held.id} was taken back.", taken_back=held)
    target = await _target(session, service, ruled.to_version)
    if isinstance(target, str):
        note = f"Not gone back: {target}."
        alert(session, service, "high", f"{ruled.reasoning} {note}", {"rule": ruled.rule})
        return WentBack(note)
    config = LLMConfig.model_validate(target.config)
    refused = await _refused(session, service, config, policy)
    if refused is not None:
        alert(session, service, "high", "a rollback was refused", refused.to_json())
        return WentBack(f"Not gone back to {target.version}: {refused.refusal}.")
    opened = await rollouts.open_rollout(
        session,
        rollouts.NewRollout(
            scope=service,
            config=config,
            plan=plan_rollout(policy.rollout, "immediate", None),
            policy=policy,
            change_type="automatic",
            by=BY_RULE,
            reason=ruled.reasoning,
            derived_from=target.version,
            optimization_id=optimization_id,
        ),
        epoch=epoch,
    )
    _tell(session, service, ruled, {"deploymentId": opened.id, "version": target.version})
    note = f"Rollout {opened.id} of {opened.to_version}, the content of {target.version}, was opened."
    return WentBack(note, deployment=opened)


def _tell(session: AsyncSession, service: str, ruled: RuledBack, details: dict[str, str]) -> None:
    alert(session, service, "high", ruled.reasoning, {"rule": ruled.rule, **details})


async def _refused(
    session: AsyncSession, service: str, config: LLMConfig, policy: ServicePolicy
) -> ValidationResult | None:
    """The constraints that forbid a configuration, that on how soon a change may come left out."""
    bounds = [
        constraint.model_copy(update={"cooldown_ms": None})
        for constraint in policy.constraints
        if constraint.metric is not None or constraint.models is not None
    ]
    timeless = policy.model_copy(update={"constraints": bounds})
    result = await validate(session, Scope(service), config, timeless)
    return None if result.is_valid else result


async def _target(session: AsyncSession, service: str, named: str | None) -> ConfigVersion | str:
    """The version to go back to, or why there is none."""
    present = await configs.active(session, Scope(service))
    if present is None:
        return "nothing is served"
    if named is not None:
        version = await session.get(ConfigVersion, named)
        if version is None:
            return f"there is no version {named}"
        same = LLMConfig.model_validate(version.config) == present.config
        return f"{present.version} with the content of {named} is served already" if same else version
    if present.inherited:
        return f"{service} has no configuration of its own, and serves {present.version}"
    found = await _last_good(session, service, present)
    return found or f"no earlier version than {present.version} of another content is known good"


async def _last_good(
    session: AsyncSession, service: str, present: configs.ActiveConfig
) -> ConfigVersion | None:
    """The last version known good of another content than the present.

    That is the scope's own where it is not the one that is served, else one that the present one goes back
    to step by step. By that line, rather than by time, a version that was left is not come back to.
    """
    state = await session.get(ScopeState, service)
    name = state.known_good_version if state else None
    if name == present.version:
        name = (await configs.get_version(session, present.version)).derived_from
    for _ in range(_FARTHEST):
        version = None if name is None else await session.get(ConfigVersion, name)
        if version is None:
            return None
        other = LLMConfig.model_validate(version.config) != present.config
        if other and await _is_good(session, version):
            return version
        name = version.derived_from
    return None


async def _is_good(session: AsyncSession, version: ConfigVersion) -> bool:
    """Whether a version was served without a rollout, or its rollout was completed."""
    if version.deployment_id is None:
        return True
    query = select(Rollout.status).where(Rollout.id == version.deployment_id)
    return (await session.execute(query)).scalar_one_or_none() == "completed"
