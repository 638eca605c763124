"""Who is asking, and whether they may: API keys as bearer tokens."""

import hmac
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.rate_limits import Policy, RateLimiter
from domain.errors import Unauthorized
from storage.keys import KeyScope, Principal, digest_of
from storage.snapshot import LiveSnapshot, Snapshot

ENVIRONMENT = Principal("environment", "admin", frozenset({"admin"}))
"""Whoever holds the key in the server's environment."""

REMEMBERED = 10_000
MAX_REMEMBERED_BYTES = 256

_bearer = HTTPBearer(scheme_name="ApiKey", auto_error=False, description="An API key.")


class Authenticator:
    """Tells who holds a key, from memory alone."""

    def __init__(self, snapshot: LiveSnapshot, admin_key: str | None) -> None:
        self._snapshot = snapshot
        self._admin_digest = digest_of(admin_key) if admin_key else None
        self._seen: Snapshot | None = None
        self._remembered: dict[bytes, Principal] = {}

    def principal(self, key: str) -> Principal | None:
        """The key's holder; None where it is unknown, revoked or expired.

        Raises:
            DatabaseError: the keys have not been read yet.
        """
        digest = digest_of(key)
        if self._admin_digest is not None and hmac.compare_digest(digest, self._admin_digest):
            return ENVIRONMENT
        found = self._snapshot.current.keys.get(digest)
        if found is None or (found.expires_at is not None and found.expires_at <= self._snapshot.now_ms()):
            return None
        return found

    def from_header(self, header: bytes) -> Principal | None:
        """The holder of the key in an `Authorization` header, None where that settles nothing.

        Holders are remembered by header until the snapshot, and with it perhaps a key, changes.
        """
        if not self._snapshot.loaded:
            return None
        current = self._snapshot.current
        if current is not self._seen or len(self._remembered) >= REMEMBERED:
            self._remembered, self._seen = {}, current
        found = self._remembered.get(header)
        if found is not None:
            expires = found.expires_at
            return found if expires is None or expires > self._snapshot.now_ms() else None
        kind, _, key = header.decode("latin-1").partition(" ")
        found = self.principal(key.strip()) if kind.lower() == "bearer" and key else None
        if found is not None and len(header) <= MAX_REMEMBERED_BYTES:
            self._remembered[header] = found
        return found


async def identify(
    authenticator: Authenticator, limiter: RateLimiter, key: str | None, address: str
) -> Principal:
    """The holder of a key that came from an address.

    Raises:
        Unauthorized: there is no key, or none that is known.
        RateLimited: the address brings too many of such.
        DatabaseError: the keys have not been read yet.
    """
    if not key:
        raise Unauthorized("an API key is needed: Authorization: Bearer <key>")
    principal = authenticator.principal(key)
    if principal is None:
        await limiter.admit_wrong_key(address)
        raise Unauthorized("the API key is unknown, revoked or expired")
    return principal


class Requires:
    """A dependency that gives the caller, who must hold a scope and keep to its rate limit."""

    def __init__(self, scope: KeyScope, *, limited: bool = True) -> None:
        self.scope = scope
        self._limited = limited

    async def __call__(
        self,
        request: Request,
        _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    ) -> Principal:
        return await self.authorise(request)

    async def authorise(self, request: Request) -> Principal:
        """The caller, judged once however often this is asked of a request.

        Raises:
            Unauthorized: there is no key, or none that is known.
            Forbidden: the key lacks the scope.
            RateLimited: it asks too often.
        """
        judged: dict[Requires, Principal] = request.scope.setdefault("judged", {})
        if self not in judged:
            judged[self] = await self._judge(request)
        return judged[self]

    async def _judge(self, request: Request) -> Principal:
        credentials = await _bearer(request)
        key = credentials.credentials if credentials is not None else None
        address = request.client.host if request.client else ""
        limiter: RateLimiter = request.state.server.limiter
        principal = await identify(request.state.server.authenticator, limiter, key, address)
        if self._limited:
            await limiter.admit(request, self._policy(request.method), principal.id)
        principal.require(self.scope)
        return principal

    def _policy(self, method: str) -> Policy:
        if self.scope == "ingest":
            return "reports"
        return "reads" if self.scope == "read" or method == "GET" else "writes"


Reader = Annotated[Principal, Security(Requires("read"), scopes=["read"])]
ConfigReader = Annotated[Principal, Security(Requires("read", limited=False), scopes=["read"])]
Admin = Annotated[Principal, Security(Requires("admin"), scopes=["admin"])]
