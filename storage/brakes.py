"""Where the brakes of services stand, read from the rollouts that there were."""

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.brakes import Brakes, Ended, brakes
from domain.policy import ServicePolicy
from storage import firings, rollouts
from storage.events import alert
from storage.tables import Rollout, db_clock

BY_RULE = "rule"
"""Who goes back where a rule has it so; with the change type `automatic` no person can be meant."""

_TAKEN_BACK = and_(Rollout.status == "rolled_back", Rollout.rollback["automatic"].as_boolean())
_GONE_BACK = and_(Rollout.change_type == "automatic", Rollout.changed_by == BY_RULE)
_JUDGED = and_(
    Rollout.change_type == "automatic",
    Rollout.changed_by != BY_RULE,
    or_(Rollout.status.in_(("completed", "failed")), _TAKEN_BACK),
)


async def of_services(session: AsyncSession, policies: Mapping[str, ServicePolicy]) -> dict[str, Brakes]:
    """By service, where its brakes stand. What a person, a pause or a stop ended is no failure."""
    now = await rollouts.clock(session)
    ended = await _ended(session, policies)
    taken_back = await _rollbacks(session, policies)
    return {
        name: brakes(ended[name], taken_back[name], policy, now) for name, policy in sorted(policies.items())
    }


async def of_service(session: AsyncSession, policy: ServicePolicy) -> Brakes:
    """Where the brakes of a policy's service stand."""
    return (await of_services(session, {policy.service: policy}))[policy.service]


async def announce(session: AsyncSession, service: str, stands: Brakes) -> bool:
    """Raise an alert that no automatic rollout is opened, once for each time that it came to that."""
    refusal = stands.refusal
    if refusal is None:
        return False
    opened = stands.breaker == "open"
    kind = "breaker" if opened else "rollbacks-per-day"
    # A limit of its own time: it has one until a rollback is more than 24 h ago, then it may come again.
    reference = stands.failures[0] if opened else str(stands.room_at)
    new = await firings.record(
        session, service, f"brake/{kind}", action="alert", words=refusal, reference=reference
    )
    if new:
        alert(session, service, "high", refusal, stands.to_json())
    return new


async def _ended(session: AsyncSession, policies: Mapping[str, ServicePolicy]) -> dict[str, list[Ended]]:
    most = max((policy.breaker_after for policy in policies.values()), default=0)
    newest = func.row_number().over(partition_by=Rollout.scope, order_by=Rollout.ended_at.desc())
    ranked = (
        select(Rollout.id, Rollout.scope, Rollout.status, Rollout.ended_at, newest.label("rank"))
        .where(Rollout.scope.in_(policies), Rollout.ended_at.is_not(None), _JUDGED)
        .subquery()
    )
    query = select(ranked).where(ranked.c.rank <= most).order_by(ranked.c.scope, ranked.c.rank)
    found: dict[str, list[Ended]] = defaultdict(list)
    for row in await session.execute(query):
        found[row.scope].append(Ended(row.id, row.ended_at, row.status != "completed"))
    return found


async def _rollbacks(session: AsyncSession, policies: Mapping[str, ServicePolicy]) -> dict[str, list[int]]:
    """When each service went back within the last 24 h: by its gate, or by a rule."""
    a_day_ago = db_clock(-86_400.0)
    at = func.coalesce(Rollout.ended_at, Rollout.created_at, type_=Rollout.ended_at.type)
    query = select(Rollout.scope, at.label("at")).where(
        Rollout.scope.in_(policies),
        or_(
            and_(_TAKEN_BACK, Rollout.ended_at > a_day_ago),
            and_(_GONE_BACK, Rollout.created_at > a_day_ago),
        ),
    )
    found: dict[str, list[int]] = defaultdict(list)
    for row in await session.execute(query):
        found[row.scope].append(row.at)
    return found
