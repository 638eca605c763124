"""Versions, what a scope inherits, and what is told when the active flag moves."""

import pytest

from domain.errors import NotFound
from domain.scope import parse_scope
from storage import configs
from storage.database import Database
from tests.storage import records
from tests.storage.records import config, events


async def active(database: Database, scope: str) -> configs.ActiveConfig | None:
    async with database.transaction() as session:
        return await configs.active(session, parse_scope(scope))


async def test_a_scope_serves_its_own_or_its_nearest_parent_s(database: Database) -> None:
    assert await active(database, "chat:/answer") is None
    for owner, model in (("global", "a"), ("chat", "b"), ("chat:/answer", "c")):
        await records.first_config(database, owner, model)
        found = await active(database, "chat:/answer")
        assert found is not None
        assert (found.scope, found.owner, found.config.model) == ("chat:/answer", owner, model)
        assert found.inherited is (owner != "chat:/answer")
    other = await active(database, "mail:/answer")
    assert other is not None
    assert (other.owner, other.version, other.applied_by) == ("global", "global@1", "ada")


async def test_a_known_scope_without_a_version_of_its_own_inherits(database: Database) -> None:
    await records.first_config(database, "global")
    async with database.transaction() as session:
        state = await configs.lock_scope(session, "chat")
        assert (state.active_version, state.last_number) == (None, 0)
    found = await active(database, "chat")
    assert found is not None
    assert found.inherited


async def serve(database: Database, scope: str, version: str | None, previous: str, *, good: bool) -> None:
    async with database.transaction() as session:
        state = await configs.lock_scope(session, scope)
        await configs.serve(
            session,
            state,
            version,
            previous=previous,
            by="bob",
            change_type="automatic",
            reason="better",
            good=good,
        )


async def add_version(database: Database, scope: str, model: str) -> str:
    async with database.transaction() as session:
        state = await configs.lock_scope(session, scope)
        version = await configs.create_version(
            session, state, config(model), by="bob", change_type="automatic", reason="better"
        )
        return version.version


async def test_moving_the_active_flag_tells_both_configurations(database: Database) -> None:
    await records.first_config(database, "chat")
    await add_version(database, "chat", "gpt-5")
    await serve(database, "chat", "chat@2", "chat@1", good=False)
    event = (await events(database, "config.changed"))[-1]
    assert event.scope == "chat"
    assert event.data == {
        "previousVersion": "chat@1",
        "newVersion": "chat@2",
        "previousConfig": config().to_json(),
        "newConfig": config("gpt-5").to_json(),
        "changeType": "automatic",
        "changedBy": "bob",
        "reason": "better",
    }
    assert await records.known_good(database, "chat") == "chat@1"


async def test_finding_a_version_good_that_is_served_tells_nothing(database: Database) -> None:
    await records.first_config(database, "chat")
    await add_version(database, "chat", "gpt-5")
    await serve(database, "chat", "chat@2", "chat@1", good=False)
    before = await active(database, "chat")
    await serve(database, "chat", "chat@2", "chat@2", good=True)
    assert await records.known_good(database, "chat") == "chat@2"
    assert await active(database, "chat") == before
    assert len(await events(database, "config.changed")) == 2


async def test_inheriting_again_tells_what_is_inherited(database: Database) -> None:
    await records.first_config(database, "global", "a")
    await records.first_config(database, "chat", "b")
    await serve(database, "chat", None, "chat@1", good=False)
    event = (await events(database, "config.changed", scope="chat"))[-1]
    assert (event.data["previousVersion"], event.data["newVersion"]) == ("chat@1", "global@1")
    assert event.data["newConfig"]["model"] == "a"


async def test_versions_are_listed_newest_first_by_page(database: Database) -> None:
    for model in ("a", "b", "c"):
        await add_version(database, "chat", model)
    await add_version(database, "mail", "d")
    async with database.transaction() as session:
        total, rows = await configs.list_versions(session, "chat", limit=2, offset=1)
        assert (total, [row.version for row in rows]) == (3, ["chat@2", "chat@1"])
        total, rows = await configs.list_versions(session, None, limit=1, offset=0)
        assert (total, [row.version for row in rows]) == (4, ["mail@1"])
        with pytest.raises(NotFound, match="chat@9"):
            await configs.get_version(session, "chat@9")


async def test_what_is_good_already_is_not_restored(database: Database) -> None:
    await records.first_config(database, "chat")
    before = await active(database, "chat")
    async with database.transaction() as session:
        await configs.restore_known_good(session, reason="smoke", by="ada")
    assert await active(database, "chat") == before
    assert len(await events(database)) == 1
