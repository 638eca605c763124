"""`/audit`: who did what. Entries are written with the changes they tell of; nothing here changes them."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from api.auth import Admin
from api.body import StrictRoute
from api.paging import PageQuery
from api.server import ServerDep
from domain.base import MAX_MILLIS, Message
from storage import audit
from storage.tables import AuditEntry

router = APIRouter(prefix="/audit", tags=["audit"], route_class=StrictRoute)

Name = Annotated[str | None, Query(min_length=1, max_length=512)]
Time = Annotated[int | None, Query(ge=0, le=MAX_MILLIS, description="In ms.")]


class AuditEntryResponse(Message):
    """One change: when, who, what, to what, and by which request."""

    sequence: int
    timestamp: int
    principal_id: str
    principal_name: str
    action: str
    target: str
    request_id: str | None = None
    details: dict[str, Any] | None = None


class AuditList(Message):
    """A page of entries, the newest first, and how many there are."""

    total: int
    entries: list[AuditEntryResponse]


@router.get("", response_model_exclude_none=True)
async def list_audit_entries(
    server: ServerDep,
    _: Admin,
    page: PageQuery,
    action: audit.Action | None = None,
    target: Name = None,
    principal: Annotated[Name, Query(description="The id of a key, or `environment`.")] = None,
    start: Time = None,
    end: Time = None,
) -> AuditList:
    """What was changed over the API from `start` until before `end`, the newest first."""
    async with server.database.transaction() as session:
        total, rows = await audit.list_entries(
            session,
            action=action,
            target=target,
            principal=principal,
            start=start,
            end=end,
            limit=page.limit,
            offset=page.offset,
        )
    return AuditList(total=total, entries=[_entry(row) for row in rows])


def _entry(row: AuditEntry) -> AuditEntryResponse:
    return AuditEntryResponse(
        sequence=row.sequence,
        timestamp=row.at,
        principal_id=row.principal_id,
        principal_name=row.principal_name,
        action=row.action,
        target=row.target,
        request_id=row.request_id,
        details=row.details,
    )
