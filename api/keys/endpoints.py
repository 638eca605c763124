"""`/keys`: keys made, listed without what they are, and revoked."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.auth import Admin
from api.body import StrictRoute
from api.commands import AdminActor, AdminCommand
from api.paging import PageQuery
from api.server import ServerDep
from domain.base import MAX_MILLIS, Message
from domain.config import Name
from domain.errors import Conflict, InvalidRequest
from domain.idempotency import Answer, Claim
from storage import audit, idempotency, keys
from storage.keys import KeyScope
from storage.tables import ApiKey

router = APIRouter(prefix="/keys", tags=["keys"], route_class=StrictRoute)


class KeyRequest(Message):
    """A key to be made. `expiresAt` lies ahead; without it the key holds until it is revoked."""

    name: Name
    scopes: list[KeyScope] = Field(min_length=1, max_length=len(keys.SCOPES))
    expires_at: int | None = Field(default=None, ge=0, le=MAX_MILLIS)


class KeyResponse(Message):
    """A key that was made. `key` is given here, once, and nowhere else."""

    id: str
    key: str
    name: str
    scopes: list[KeyScope]
    created_at: int


class KeyInfo(Message):
    """A key as it is listed; `revoked` is left out while it is not."""

    id: str
    name: str
    scopes: list[KeyScope]
    created_at: int
    expires_at: int | None = None
    revoked: bool | None = None


class KeyList(Message):
    """A page of keys, the newest first, and how many there are."""

    total: int
    keys: list[KeyInfo]


@router.post("", response_model=KeyResponse)
async def create_key(server: ServerDep, command: AdminCommand, body: KeyRequest) -> JSONResponse:
    """Make a key, which is known to every replica within a second.

    What it is, is kept nowhere: the same request again under its `Idempotency-Key` is a CONFLICT, whose
    `details.id` names the key that was made, to be revoked if its answer was lost.
    """
    if body.expires_at is not None and body.expires_at <= server.snapshot.now_ms():
        raise InvalidRequest("expiresAt must lie in the future")
    async with server.database.transaction() as session:
        await _require_new(session, command.claim)
        row, key = await keys.create_key(
            session, name=body.name, scopes=body.scopes, expires_at=body.expires_at
        )
        details = {"name": row.name, "scopes": row.scopes, "expiresAt": row.expires_at}
        audit.record(session, command.actor, "key.create", row.id, details)
        await idempotency.keep_answer(session, command.claim, Answer(200, {"id": row.id}))
    await server.refresh()
    made: dict[str, Any] = {
        "id": row.id,
        "key": key,
        "name": row.name,
        "scopes": row.scopes,
        "createdAt": row.created_at,
    }
    return JSONResponse(KeyResponse.model_validate(made).to_json())


async def _require_new(session: AsyncSession, claim: Claim | None) -> None:
    earlier = await idempotency.earlier_answer(session, claim)
    if earlier is not None:
        raise Conflict("the key was made already, and cannot be shown again", details=earlier.body)


@router.get("", response_model_exclude_none=True)
async def list_keys(server: ServerDep, _: Admin, page: PageQuery) -> KeyList:
    """Every key, the newest first, those that were revoked included."""
    async with server.database.transaction() as session:
        total, rows = await keys.list_keys(session, limit=page.limit, offset=page.offset)
    return KeyList(total=total, keys=[_info(row) for row in rows])


@router.delete("/{key_id}", response_model_exclude_none=True)
async def revoke_key(server: ServerDep, actor: AdminActor, key_id: str) -> KeyInfo:
    """End a key, one's own included, on every replica within a second. Again changes nothing."""
    async with server.database.transaction() as session:
        row, ended = await keys.revoke_key(session, key_id)
        if ended:
            audit.record(session, actor, "key.revoke", row.id, {"name": row.name})
    await server.refresh()
    return _info(row)


def _info(row: ApiKey) -> KeyInfo:
    return KeyInfo.model_validate(
        {
            "id": row.id,
            "name": row.name,
            "scopes": row.scopes,
            "createdAt": row.created_at,
            "expiresAt": row.expires_at,
            "revoked": None if row.revoked_at is None else True,
        }
    )
