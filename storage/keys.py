"""API keys, of which only hashes are kept."""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.errors import Forbidden, InvalidRequest, NotFound
from domain.ids import new_id
from storage.tables import ApiKey, db_now

KeyScope = Literal["ingest", "read", "write", "admin"]
SCOPES: tuple[KeyScope, ...] = ("ingest", "read", "write", "admin")
_PREFIX = "lao_"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking, and what they may. `expires_at` in ms."""

    id: str
    name: str
    scopes: frozenset[str]
    expires_at: int | None = None

    def may(self, scope: KeyScope) -> bool:
        """Whether the scope is granted; admin grants all."""
        return scope in self.scopes or "admin" in self.scopes

    def require(self, scope: KeyScope) -> None:
        """Require the scope.

        Raises:
            Forbidden: it is not granted.
        """
        if not self.may(scope):
            raise Forbidden(f"the API key {self.name!r} lacks the scope {scope!r}")


def digest_of(key: str) -> str:
    """What is stored of a key. Keys have 256 random bits, so that a plain hash is enough."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


async def create_key(
    session: AsyncSession, *, name: str, scopes: Iterable[KeyScope], expires_at: int | None = None
) -> tuple[ApiKey, str]:
    """A new key's row, and the key itself, which nobody can see again.

    Raises:
        InvalidRequest: no scope, or one that does not exist.
    """
    wanted = sorted(set(scopes))
    unknown = [scope for scope in wanted if scope not in SCOPES]
    if unknown or not wanted:
        raise InvalidRequest(f"scopes must be some of {', '.join(SCOPES)}")
    key = _PREFIX + secrets.token_urlsafe(32)
    row = ApiKey(
        id=new_id("key"), name=name, digest=digest_of(key), scopes=list(wanted), expires_at=expires_at
    )
    session.add(row)
    await session.flush()
    await session.refresh(row)
    return row, key


async def list_keys(session: AsyncSession, *, limit: int, offset: int) -> tuple[int, list[ApiKey]]:
    """How many keys there are, those that were revoked included, and a page of them, the newest first."""
    total = (await session.execute(select(func.count()).select_from(ApiKey))).scalar_one()
    page = select(ApiKey).order_by(ApiKey.created_at.desc(), ApiKey.id.desc()).limit(limit).offset(offset)
    return total, list((await session.execute(page)).scalars())


async def revoke_key(session: AsyncSession, key_id: str) -> tuple[ApiKey, bool]:
    """End a key, and tell whether this did it: it may have been ended before.

    Raises:
        NotFound: there is none of that id.
    """
    row = await session.get(ApiKey, key_id, with_for_update=True)
    if row is None:
        raise NotFound(f"no key {key_id!r}")
    if row.revoked_at is not None:
        return row, False
    row.revoked_at = db_now()
    await session.flush()
    await session.refresh(row)
    return row, True
