"""Known services and their policies."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Text, func, select, text
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.errors import NotFound
from domain.policy import ServicePolicy
from storage.tables import ScopeState, Service, db_now


async def note(session: AsyncSession, names: Iterable[str]) -> None:
    """Make services known, those that are not yet."""
    rows = [{"name": name} for name in sorted(set(names))]
    if rows:
        await session.execute(insert(Service).values(rows).on_conflict_do_nothing())


async def get(session: AsyncSession, name: str) -> Service:
    """A known service.

    Raises:
        NotFound: nobody has heard of it.
    """
    row = await session.get(Service, name)
    if row is None:
        raise NotFound(f"unknown service {name!r}")
    return row


async def list_services(session: AsyncSession, *, limit: int, offset: int) -> tuple[int, list[Service]]:
    """How many services are known, and a page of them by name."""
    total = (await session.execute(select(func.count()).select_from(Service))).scalar_one()
    page = select(Service).order_by(Service.name).limit(limit).offset(offset)
    return total, list((await session.execute(page)).scalars())


async def names_after(session: AsyncSession, name: str, limit: int) -> list[str]:
    """The next known services by name."""
    query = select(Service.name).where(Service.name > name).order_by(Service.name).limit(limit)
    return list((await session.execute(query)).scalars())


async def put_policy(session: AsyncSession, policy: ServicePolicy) -> None:
    """Replace a service's policy by the fields that were given; what was not takes its default."""
    given = {key: value for key, value in policy.given().items() if key != "service"}
    values = {"name": policy.service, "policy": given}
    statement = insert(Service).values(values)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=[Service.name], set_={"policy": given, "updated_at": db_now()}
        )
    )


async def policy_of(session: AsyncSession, name: str | None, *, step_seconds: float) -> ServicePolicy:
    """A service's policy with every default filled in; the defaults alone for None or an unknown service.

    `step_seconds` is the server's default for the length of a step.
    """
    row = None if name is None else await session.get(Service, name)
    return resolve(name or "global", row.policy if row else {}, step_seconds=step_seconds)


def resolve(name: str, given: dict[str, Any], *, step_seconds: float) -> ServicePolicy:
    """A stored policy with every default filled in. A step is never shorter than the policy's own checks."""
    rollout = given.get("rollout", {})
    rollout = {"stepSeconds": max(step_seconds, rollout.get("checkSeconds", 0))} | rollout
    return ServicePolicy.model_validate({**given, "service": name, "rollout": rollout})


async def watched(session: AsyncSession, *, step_seconds: float) -> dict[str, ServicePolicy]:
    """By name, the policies that have rules, triggers or a schedule: what there is to watch for."""
    query = text("""
        SELECT name, policy FROM services
        WHERE jsonb_array_length(policy -> 'rules') > 0 OR jsonb_array_length(policy -> 'triggers') > 0
           OR (policy -> 'schedule' ->> 'enabled')::boolean
        ORDER BY name
    """).columns(name=Text, policy=JSONB)
    rows = await session.execute(query)
    return {row.name: resolve(row.name, row.policy, step_seconds=step_seconds) for row in rows}


async def longest_retention(session: AsyncSession) -> int:
    """For how many days some service wants its reports kept."""
    days = Service.policy["retentionDays"].as_integer()
    default: int = ServicePolicy.model_fields["retention_days"].default
    return max(default, (await session.execute(select(func.max(days)))).scalar_one() or 0)


async def shorter_retentions(session: AsyncSession) -> dict[str, int]:
    """For how many days reports are kept of the services that want it for less than the longest."""
    longest = await longest_retention(session)
    default: int = ServicePolicy.model_fields["retention_days"].default
    days = func.coalesce(Service.policy["retentionDays"].as_integer(), default)
    rows = await session.execute(select(Service.name, days.label("days")).where(days < longest))
    return {row.name: row.days for row in rows}


async def inheriting(session: AsyncSession) -> list[Service]:
    """The services without a configuration of their own, which serve the global one."""
    owned = select(ScopeState.scope).where(ScopeState.active_version.is_not(None))
    return list((await session.execute(select(Service).where(Service.name.not_in(owned)))).scalars())
