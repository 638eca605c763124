"""The outbox: an event is written in the transaction of the change that it reports."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from domain.events import EventType
from domain.ids import new_id
from storage.tables import Event


def emit(session: AsyncSession, type_: EventType, scope: str, data: dict[str, Any]) -> None:
    """Add an event about a scope; `data` is JSON-ready camelCase, with absent fields left out."""
    present = {name: value for name, value in data.items() if value is not None}
    session.add(Event(id=new_id("evt"), type=type_, scope=scope, data=present))


def alert(session: AsyncSession, scope: str, severity: str, reason: str, details: Any = None) -> None:
    """Add an `alert.raised`."""
    emit(
        session,
        "alert.raised",
        scope,
        {"scope": scope, "severity": severity, "reason": reason, "details": details},
    )
