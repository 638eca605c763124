"""What must survive the sidecar: reports on their way, answers to their callers, the last configurations.

All in one SQLite database, in WAL mode and synced at each commit. Nothing here is asynchronous: `Writer` has
one thread do it.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from domain.errors import Conflict, OptimizerError, RateLimited
from domain.idempotency import Answer, Claim
from domain.ids import new_id

Kind = Literal["metrics", "evaluations"]
"""What a batch holds, named as in its JSON."""

CHUNK_BYTES = 256 * 1024
DELIVERY_ITEMS = 5_000
"""As many as the server writes in one transaction."""
DELIVERY_BYTES = 960 * 1024
"""Proxies pass a megabyte, unless they are told to pass more."""
KEPT_ANSWERS_MS = 24 * 3_600_000
KEPT_ANSWERS_BYTES = 64 * 1024 * 1024
ANSWER_BYTES = 200
"""What an answer takes beside itself: its key and fingerprint."""
LOCK_SECONDS = 5.0

_SCHEMA = """
-- The one under way, of all chunks up to its last.
CREATE TABLE IF NOT EXISTS deliveries (
    last INTEGER PRIMARY KEY, key TEXT NOT NULL, kind TEXT NOT NULL, uncertain_since INTEGER
);
CREATE TABLE IF NOT EXISTS chunks (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, items INTEGER NOT NULL, body BLOB NOT NULL
);
-- Each at the sum of its bytes and those of all before it.
CREATE TABLE IF NOT EXISTS answers (
    place INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, fingerprint TEXT NOT NULL,
    answer TEXT NOT NULL, created_at INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS answers_created_at ON answers (created_at);
CREATE TABLE IF NOT EXISTS configs (
    server TEXT NOT NULL, service TEXT NOT NULL, endpoint TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (server, service, endpoint)
);
"""


class InUse(Exception):
    """Another process has the spool."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may wait at most."""

    items: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some items of a batch, as JSON joined by commas."""

    kind: Kind
    items: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """A caller's batch: its good items, what the caller is to be told, and the caller's claim, if any."""

    chunks: Sequence[Chunk]
    answer: Answer
    claim: Claim | None
    at_ms: int

    @property
    def items(self) -> int:
        """How many items."""
        return sum(chunk.items for chunk in self.chunks)

    @property
    def bytes(self) -> int:
        """How many bytes."""
        return sum(len(chunk.body) for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A batch for the server, which keeps its key, its items and so its body for as long as it is there.

    `last` is its last chunk, `size` in bytes as `Bounds` has them. `uncertain_since` (ms since the epoch) is
    when the first try began of which it is not known that it failed, None where all are known to have.
    """

    last: int
    key: str
    kind: Kind
    items: int
    size: int
    body: bytes
    uncertain_since: int | None


Outcome = Answer | OptimizerError


def chunks_of(kind: Kind, items: Iterable[bytes]) -> list[Chunk]:
    """Encoded items in chunks of `CHUNK_BYTES` or one item."""
    chunks: list[Chunk] = []
    held: list[bytes] = []
    size = 0
    for item in items:
        if held and size + len(item) > CHUNK_BYTES:
            chunks.append(Chunk(kind, len(held), b",".join(held)))
            held, size = [], 0
        held.append(item)
        size += len(item) + 1
    if held:
        chunks.append(Chunk(kind, len(held), b",".join(held)))
    return chunks


class Spool:
    """The database; one process has it at a time. Belongs to one thread.

    Raises:
        InUse: another process has it.
        sqlite3.OperationalError: it cannot be opened or written, here and wherever it is.
        sqlite3.DatabaseError: it is damaged.
    """

    def __init__(self, path: Path, bounds: Bounds) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.bounds = bounds
        self._db = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)
        try:
            # Held until the process ends, however it does.
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            self.items, self.bytes = self._db.execute(
                "SELECT coalesce(sum(items), 0), coalesce(sum(length(body)), 0) FROM chunks"
            ).fetchone()
        except sqlite3.Error as error:
            self._db.close()
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                raise InUse("another sidecar uses it") from error
            raise

    def take(self, batches: Sequence[Taken]) -> list[Outcome]:
        """Keep batches in one transaction; gives each one's answer, or why it was not kept."""
        before = self.items, self.bytes
        try:
            with self._transaction():
                outcomes = [self._take(batch) for batch in batches]
                oldest = max((batch.at_ms for batch in batches), default=0) - KEPT_ANSWERS_MS
                self._db.execute("DELETE FROM answers WHERE created_at < ?", (oldest,))
                self._db.execute(
                    "DELETE FROM answers WHERE place <= (SELECT max(place) FROM answers) - ?",
                    (KEPT_ANSWERS_BYTES,),
                )
        except BaseException:
            self.items, self.bytes = before
            raise
        return outcomes

    def _take(self, batch: Taken) -> Outcome:
        claim = batch.claim
        if claim is not None:
            known = self._db.execute(
                "SELECT fingerprint, answer FROM answers WHERE key = ? AND created_at >= ?",
                (claim.key, batch.at_ms - KEPT_ANSWERS_MS),
            ).fetchone()
            if known is not None and known[0] != claim.fingerprint:
                return Conflict("the Idempotency-Key was used for another request")
            if known is not None:
                return Answer(200, json.loads(known[1]))
        if self.items + batch.items > self.bounds.items or self.bytes + batch.bytes > self.bounds.bytes:
            return RateLimited(f"{self.items} reports wait for the server already", retry_after=1)
        self._db.executemany(
            "INSERT INTO chunks (kind, items, body) VALUES (?, ?, ?)",
            [(chunk.kind, chunk.items, chunk.body) for chunk in batch.chunks],
        )
        if claim is not None:
            answer = json.dumps(batch.answer.body)
            self._db.execute(
                "INSERT OR REPLACE INTO answers (place, key, fingerprint, answer, created_at) "
                "VALUES ((SELECT coalesce(max(place), 0) FROM answers) + ?, ?, ?, ?, ?)",
                (ANSWER_BYTES + len(answer), claim.key, claim.fingerprint, answer, batch.at_ms),
            )
        self.items += batch.items
        self.bytes += batch.bytes
        return batch.answer

    def next_delivery(self) -> Delivery | None:
        """The delivery under way, else a new one of what waits for longest, None where nothing does."""
        with self._transaction():
            row = self._db.execute("SELECT last, key, kind, uncertain_since FROM deliveries").fetchone()
            row = row or self._new_delivery()
        if row is None:
            return None
        last, key, kind, uncertain_since = row
        found = self._db.execute("SELECT items, body FROM chunks WHERE id <= ? ORDER BY id", (last,))
        items, bodies = zip(*found.fetchall(), strict=True)
        body = b'{"%b":[%b]}' % (kind.encode(), b",".join(bodies))
        return Delivery(last, key, kind, sum(items), sum(map(len, bodies)), body, uncertain_since)

    def _new_delivery(self) -> tuple[int, str, Kind, None] | None:
        last, kind, items, size = 0, None, 0, 0
        with closing(
            self._db.execute("SELECT id, kind, items, length(body) FROM chunks ORDER BY id")
        ) as waiting:
            for number, its_kind, its_items, its_size in waiting:
                items, size = items + its_items, size + its_size
                if last and (its_kind != kind or items > DELIVERY_ITEMS or size > DELIVERY_BYTES):
                    break
                last, kind = number, its_kind
        if kind is None:
            return None
        key = new_id("sdc")
        self._db.execute("INSERT INTO deliveries (last, key, kind) VALUES (?, ?, ?)", (last, key, kind))
        return last, key, kind, None

    def mark_uncertain(self, since_ms: int | None) -> None:
        """Note when the first try began of which it is not known that it failed, None for no such try."""
        self._db.execute("UPDATE deliveries SET uncertain_since = ?", (since_ms,))

    def finish(self, delivery: Delivery) -> None:
        """Forget a delivery and its items."""
        with self._transaction():
            self._db.execute("DELETE FROM chunks WHERE id <= ?", (delivery.last,))
            self._db.execute("DELETE FROM deliveries")
        self.items -= delivery.items
        self.bytes -= delivery.size

    def save_config(self, server: str, service: str, endpoint: str, body: dict[str, Any]) -> None:
        """Keep a scope's configuration in place of the last one; empty names are of the global scope."""
        self._db.execute(
            "INSERT OR REPLACE INTO configs (server, service, endpoint, body) VALUES (?, ?, ?, ?)",
            (server, service, endpoint, json.dumps(body)),
        )

    def forget_config(self, server: str, service: str, endpoint: str) -> None:
        """Keep it no longer."""
        self._db.execute(
            "DELETE FROM configs WHERE server = ? AND service = ? AND endpoint = ?",
            (server, service, endpoint),
        )

    def configs(self, server: str) -> list[tuple[str, str, str]]:
        """What was kept of a server: service, endpoint and answer in JSON."""
        found = self._db.execute("SELECT service, endpoint, body FROM configs WHERE server = ?", (server,))
        return found.fetchall()

    def close(self) -> None:
        """Let another process have it."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # A commit that failed, for want of room say, may have ended the transaction already.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
