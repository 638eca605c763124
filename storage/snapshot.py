"""All that a read or a request's key needs, in memory: PostgreSQL is told from, and may be away."""

import asyncio
import contextlib
import json
import logging
import time
from dataclasses import dataclass
from typing import Any

import asyncpg

from domain.deployment import OPEN_STATUSES
from domain.errors import DatabaseError
from domain.policy import CandidateModel
from domain.serving import Canary, Served, ServingTable
from storage.broadcast import Broadcast
from storage.database import Database, unreachable_as_database_error
from storage.keys import Principal
from storage.tasks import stop

CHANNEL = "optimizer"
RELEVANT = frozenset({"control", "scopes", "rollouts", "api_keys", "services"})
POLL_SECONDS = 2.0
RETRY_SECONDS = 0.5
LOAD_SECONDS = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ControlState:
    """The control row: `running`, `paused` or `stopped`."""

    state: str
    epoch: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent reading. Prices are those of the policies, by service, provider and model."""

    serving: ServingTable
    keys: dict[str, Principal]
    control: ControlState
    prices: dict[tuple[str, str, str], CandidateModel]


class LiveSnapshot:
    """The newest snapshot, read again at each notification, after a lost connection, and every 2 seconds.

    With PostgreSQL away it stays as it was. Time is the database's, carried on by the local monotonic clock.
    """

    def __init__(self, database: Database, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._database = database
        self._poll_seconds = poll_seconds
        self._current: Snapshot | None = None
        self._offset_ms = time.time() * 1000 - _monotonic_ms()
        self.changed = Broadcast()
        """Tells of each new snapshot."""
        self._notification = asyncio.Event()
        self._loading = asyncio.Lock()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read once, where PostgreSQL can be reached, and go on in the background."""
        with contextlib.suppress(DatabaseError):
            await self.refresh()
        self._task = asyncio.create_task(self._run(), name="config-snapshot")

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            await stop([self._task])
        self._disconnect()

    @property
    def current(self) -> Snapshot:
        """The newest snapshot.

        Raises:
            DatabaseError: PostgreSQL has not been reached since the start.
        """
        if self._current is None:
            raise DatabaseError("PostgreSQL has not been reached yet", retry_after=1)
        return self._current

    @property
    def loaded(self) -> bool:
        """Whether there is a snapshot to serve from."""
        return self._current is not None

    def now_ms(self) -> int:
        """The present time by the database's clock."""
        return int(_monotonic_ms() + self._offset_ms)

    def price_override(self, service: str, provider: str, model: str) -> CandidateModel | None:
        """A policy's own prices of a model, where it has any."""
        return self._current.prices.get((service, provider, model)) if self._current else None

    async def refresh(self) -> None:
        """Read now: what was committed before is seen after.

        Raises:
            DatabaseError: PostgreSQL is out of reach.
        """
        async with self._loading:
            try:
                with unreachable_as_database_error():
                    async with asyncio.timeout(LOAD_SECONDS):
                        await self._load()
            except BaseException:
                # Cut off in the middle, it might not hear of changes any more.
                self._disconnect()
                raise

    async def _run(self) -> None:
        pause = self._poll_seconds
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._notification.wait()
            self._notification.clear()
            try:
                await self.refresh()
                pause = self._poll_seconds
            except Exception as error:
                log.warning("serving from memory: %s", error, exc_info=not isinstance(error, DatabaseError))
                pause = RETRY_SECONDS

    async def _load(self) -> None:
        connection = await self._listening()
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            asked = _monotonic_ms()
            now_ms: float = await connection.fetchval(
                "SELECT extract(epoch FROM clock_timestamp())::float8 * 1000"
            )
            self._offset_ms = now_ms - (asked + _monotonic_ms()) / 2
            loaded = await read_snapshot(connection)
        if loaded != self._current:
            self._current = loaded
            self.changed.tell()

    async def _listening(self) -> "asyncpg.Connection[asyncpg.Record]":
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._database.connect()
            self._connection.add_termination_listener(self._ended)
            await self._connection.add_listener(CHANNEL, self._notified)
        return self._connection

    def _notified(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        if payload in RELEVANT:
            self._notification.set()

    def _ended(self, _connection: object) -> None:
        self._notification.set()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.remove_termination_listener(self._ended)
            self._connection.terminate()
            self._connection = None


async def read_snapshot(connection: "asyncpg.Connection[asyncpg.Record]") -> Snapshot:
    """Read everything, in the caller's transaction."""
    scopes = await connection.fetch(_SCOPES)
    active = {row["scope"]: _served(row, "") for row in scopes}
    known = {served.version: served for served in active.values()}
    canaries = {
        row["scope"]: Canary(
            deployment_id=row["id"],
            traffic_percent=row["traffic_percent"],
            watched_until=row["watched_until"] or 0,
            control=known.get(row["from_version"]) or _served(row, "from_"),
            canary=_served(row, "to_"),
        )
        for row in await connection.fetch(_ROLLOUTS, list(OPEN_STATUSES))
    }
    keys = {
        row["digest"]: Principal(row["id"], row["name"], frozenset(row["scopes"]), row["expires_at"])
        for row in await connection.fetch(_KEYS)
    }
    control = await connection.fetchrow("SELECT state, epoch, reason FROM control")
    if control is None:
        raise RuntimeError("the control row is missing")
    prices = _prices(await connection.fetch(_MODELS))
    return Snapshot(ServingTable(active, canaries), keys, ControlState(*control), prices)


def _millis(column: str) -> str:
    return f"floor(extract(epoch FROM {column}) * 1000)::bigint"


_SCOPES = f"""
    SELECT s.scope, v.version, v.config, {_millis("coalesce(s.applied_at, v.created_at)")} AS applied_at,
           coalesce(s.applied_by, v.created_by) AS applied_by
    FROM scopes s JOIN config_versions v ON v.version = s.active_version
"""
# An immediate rollout has moved the active flag already: it has no share beside a control.
_ROLLOUTS = f"""
    SELECT r.id, r.scope, r.traffic_percent, {_millis("r.watched_until")} AS watched_until,
           v.version AS from_version, v.config AS from_config,
           {_millis("v.created_at")} AS from_applied_at, v.created_by AS from_applied_by,
           c.version AS to_version, c.config AS to_config,
           {_millis("coalesce(r.started_at, r.created_at)")} AS to_applied_at, r.changed_by AS to_applied_by
    FROM rollouts r
    JOIN config_versions v ON v.version = r.from_version
    JOIN config_versions c ON c.version = r.to_version
    WHERE r.status = ANY($1) AND r.traffic_percent > 0 AND r.strategy <> 'immediate'
"""
_KEYS = f"""
    SELECT digest, id, name, scopes, {_millis("expires_at")} AS expires_at
    FROM api_keys WHERE revoked_at IS NULL
"""
_MODELS = """
    SELECT name, policy -> 'searchSpace' -> 'models' AS models
    FROM services WHERE policy -> 'searchSpace' -> 'models' IS NOT NULL
"""


def _served(row: asyncpg.Record, prefix: str) -> Served:
    return Served(
        version=row[f"{prefix}version"],
        config=json.loads(row[f"{prefix}config"]),
        applied_at=row[f"{prefix}applied_at"],
        applied_by=row[f"{prefix}applied_by"],
    )


def _prices(rows: list[asyncpg.Record]) -> dict[tuple[str, str, str], CandidateModel]:
    listed: list[tuple[str, list[dict[str, Any]]]] = [
        (row["name"], json.loads(row["models"])) for row in rows
    ]
    models = [(name, CandidateModel.model_validate(model)) for name, given in listed for model in given]
    return {
        (name, model.provider, model.model): model
        for name, model in models
        if model.price_per_m_tok_in is not None or model.price_per_m_tok_out is not None
    }


def _monotonic_ms() -> float:
    return time.monotonic() * 1000
