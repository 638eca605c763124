"""A change of a configuration by hand: the rules of who may change what, and when."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from domain.config import LLMConfig
from domain.errors import PreconditionFailed, Stopped
from domain.policy import ServicePolicy, Strategy
from domain.rollout_plan import plan_rollout
from domain.scope import Scope
from storage import configs, control, rollouts
from storage.tables import ScopeState


@dataclass(frozen=True, slots=True)
class Change:
    """A wanted change. `may_mend` allows an immediate one during an emergency stop.

    `expected_version` is the version that must be served at present, where the caller named one.
    """

    scope: Scope
    config: LLMConfig
    strategy: Strategy
    policy: ServicePolicy
    reason: str
    by: str
    may_mend: bool = False
    requests_per_second: float | None = None
    expected_version: str | None = None
    derived_from: str | None = None


@dataclass(frozen=True, slots=True)
class ChangeOutcome:
    """The version that is, or will be, served. A `deployment_id` is to be started after the commit."""

    version: str
    deployment_id: str | None = None
    unchanged: bool = False


async def change_config(session: AsyncSession, change: Change) -> ChangeOutcome:
    """Make the change: at once, by a rollout whose row this opens, or not at all where nothing would change.

    Raises:
        Stopped: an emergency stop holds and the change may not mend.
        Conflict: a rollout is open that the change would meet.
        PreconditionFailed: another version is served than the caller expects.
    """
    row = await control.hold(session)
    stopped = row.state == "stopped"
    if stopped and not (change.strategy == "immediate" and change.may_mend):
        raise Stopped(f"emergency stop: {row.reason}. Only an immediate update by an admin goes through")
    name = str(change.scope)
    if not stopped:
        await rollouts.require_no_other(session, name)
    state = await configs.lock_scope(session, name)
    present = await configs.active(session, change.scope)
    _require_expected(change, present)
    if present is None:
        version = await configs.apply_first(
            session, state, change.config, by=change.by, change_type="manual", reason=change.reason
        )
        return ChangeOutcome(version.version)
    if present.config == change.config:
        return ChangeOutcome(present.version, unchanged=True)
    if stopped:
        return await _mend(session, change, state, present)
    rollout = await rollouts.open_rollout(
        session,
        rollouts.NewRollout(
            scope=name,
            config=change.config,
            plan=plan_rollout(change.policy.rollout, change.strategy, change.requests_per_second),
            policy=change.policy,
            change_type="manual",
            by=change.by,
            reason=change.reason,
            derived_from=change.derived_from,
        ),
    )
    return ChangeOutcome(rollout.to_version, rollout.id)


def _require_expected(change: Change, present: configs.ActiveConfig | None) -> None:
    served = present.version if present else None
    if change.expected_version is not None and change.expected_version != served:
        raise PreconditionFailed(f"{change.scope} serves {served}, not {change.expected_version}")


async def _mend(
    session: AsyncSession, change: Change, state: ScopeState, present: configs.ActiveConfig
) -> ChangeOutcome:
    """During an emergency stop: served at once, without a workflow."""
    version = await configs.create_version(
        session,
        state,
        change.config,
        by=change.by,
        change_type="manual",
        reason=change.reason,
        derived_from=change.derived_from or present.version,
    )
    await configs.serve(
        session,
        state,
        version.version,
        previous=present.version,
        by=change.by,
        change_type="manual",
        reason=change.reason,
        good=True,
    )
    return ChangeOutcome(version.version)
