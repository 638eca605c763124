"""The audit log: written with the change, read by what was done, and never changed."""

from typing import Any

import asyncpg
import pytest

from domain.policy import ServicePolicy
from storage import audit, services
from storage.audit import Actor
from storage.database import Database
from storage.keys import Principal

ADA = Actor(Principal("key_ada", "Ada", frozenset({"admin"})), "req_1")
BOB = Actor(Principal("key_bob", "Bob", frozenset({"write"})), "req_2")


async def record(database: Database, actor: Actor, action: audit.Action, target: str) -> int:
    """The time of the entry."""
    async with database.transaction() as session:
        audit.record(session, actor, action, target, {"reason": "because", "version": None})
    async with database.transaction() as session:
        _, (entry,) = await audit.list_entries(session, limit=1, offset=0)
    return entry.at


async def targets(database: Database, **wanted: Any) -> list[str]:
    async with database.transaction() as session:
        total, entries = await audit.list_entries(session, limit=10, offset=0, **wanted)
    assert total == len(entries)
    return [entry.target for entry in entries]


async def test_entries_are_found_by_what_was_done_by_whom_to_what_and_when(database: Database) -> None:
    await record(database, ADA, "config.update", "chat")
    await record(database, BOB, "config.update", "mail")
    second = await record(database, ADA, "service.policy", "chat")
    assert await targets(database) == ["chat", "mail", "chat"]
    assert await targets(database, action="config.update") == ["mail", "chat"]
    assert await targets(database, target="chat") == ["chat", "chat"]
    assert await targets(database, principal="key_bob") == ["mail"]
    assert await targets(database, action="config.update", principal="key_ada") == ["chat"]
    assert await targets(database, start=second + 1) == []
    assert await targets(database, end=1) == []
    assert len(await targets(database, start=1, end=second + 1)) == 3
    async with database.transaction() as session:
        total, (middle,) = await audit.list_entries(session, limit=1, offset=1)
    assert (total, middle.sequence, middle.target) == (3, 2, "mail")
    assert (middle.principal_id, middle.principal_name, middle.request_id) == ("key_bob", "Bob", "req_2")
    assert middle.details == {"reason": "because"}


async def test_an_entry_stands_and_falls_with_its_change(database: Database) -> None:
    async def fail_after_changing() -> None:
        async with database.transaction() as session:
            await services.put_policy(session, ServicePolicy(service="chat"))
            audit.record(session, ADA, "service.policy", "chat")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail_after_changing()
    assert await targets(database) == []


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_log SET principal_name = 'Eve'", "DELETE FROM audit_log WHERE target = 'chat'"],
)
async def test_postgresql_itself_refuses_to_touch_an_entry(database: Database, statement: str) -> None:
    await record(database, ADA, "config.update", "chat")
    pool = await database.pool()
    with pytest.raises(asyncpg.PostgresError, match="append-only"):
        await pool.execute(statement)
    assert await targets(database, principal="key_ada") == ["chat"]
