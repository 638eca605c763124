"""Who did what: an entry is written in the transaction of the change, and never again touched."""

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from storage.keys import Principal
from storage.tables import AuditEntry

Action = Literal[
    "config.update",
    "config.rollback",
    "config.refused",
    "optimization.trigger",
    "deployment.pause",
    "deployment.resume",
    "deployment.approve",
    "deployment.promote",
    "deployment.abort",
    "service.policy",
    "baseline.set",
    "baseline.remove",
    "admin.pause",
    "admin.resume",
    "admin.emergency-stop",
    "key.create",
    "key.revoke",
    "webhook.create",
    "webhook.update",
    "webhook.delete",
    "webhook.redeliver",
]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and by which request."""

    principal: Principal
    request_id: str

    @property
    def name(self) -> str:
        """As whoever made a change is shown."""
        return self.principal.name


def record(
    session: AsyncSession, actor: Actor, action: Action, target: str, details: dict[str, Any] | None = None
) -> None:
    """Add an entry. `target` is the id or scope acted upon; `details` are short, and hold no secret."""
    present = {name: value for name, value in (details or {}).items() if value is not None}
    session.add(
        AuditEntry(
            principal_id=actor.principal.id,
            principal_name=actor.principal.name,
            action=action,
            target=target,
            request_id=actor.request_id,
            details=present or None,
        )
    )


async def list_entries(
    session: AsyncSession,
    *,
    action: Action | None = None,
    target: str | None = None,
    principal: str | None = None,
    start: int | None = None,
    end: int | None = None,
    limit: int,
    offset: int,
) -> tuple[int, list[AuditEntry]]:
    """How many entries there are of an action, on a target, by a principal's id, within [start, end) (ms);
    and a page of them, the newest first.
    """
    query = select(AuditEntry)
    if action is not None:
        query = query.where(AuditEntry.action == action)
    if target is not None:
        query = query.where(AuditEntry.target == target)
    if principal is not None:
        query = query.where(AuditEntry.principal_id == principal)
    if start is not None:
        query = query.where(AuditEntry.at >= start)
    if end is not None:
        query = query.where(AuditEntry.at < end)
    total = (await session.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
    page = query.order_by(AuditEntry.sequence.desc()).limit(limit).offset(offset)
    return total, list((await session.execute(page)).scalars())
