"""Changes by hand: the contract's rules on scopes and versions, one by one."""

import asyncio
from typing import Any

import pytest

from domain.errors import Conflict, NotFound, PreconditionFailed, Stopped
from domain.policy import ServicePolicy, Strategy
from domain.rollout_plan import plan_rollout
from storage import changes, configs, control, rollback, rollouts
from storage.changes import ChangeOutcome
from storage.database import Database
from storage.tables import ScopeState
from tests.storage import records
from tests.storage.records import change, config, events, make, served


async def roll_back(database: Database, deployment_id: str) -> None:
    async with database.transaction() as session:
        row = await rollouts.lock(session, deployment_id)
        await rollback.roll_back(session, row, reason="harm", automatic=True)


@pytest.mark.parametrize("scope", ["global", "chat", "chat:/answer"])
@pytest.mark.parametrize("strategy", ["canary", "gradual", "immediate"])
async def test_a_first_configuration_with_nothing_to_inherit_is_served_at_once(
    database: Database, scope: str, strategy: Strategy
) -> None:
    outcome = await make(database, change(scope, strategy=strategy))
    assert outcome == ChangeOutcome(f"{scope}@1")
    assert await served(database, scope) == f"{scope}@1"
    assert await records.known_good(database, scope) == f"{scope}@1"
    (event,) = await events(database)
    assert (event.type, event.scope) == ("config.changed", scope)
    assert (event.data["newVersion"], event.data["changedBy"]) == (f"{scope}@1", "ada")


async def test_an_equal_configuration_is_a_no_op_that_says_so(database: Database) -> None:
    await make(database, change("chat"))
    same = config().model_copy(update={"top_k": None})
    assert await make(database, change("chat", config=same)) == ChangeOutcome("chat@1", unchanged=True)
    # What is inherited is equal too: the service does not get a version of its own.
    await make(database, change("global"))
    assert await make(database, change("mail")) == ChangeOutcome("global@1", unchanged=True)
    assert await records.versions(database) == ["chat@1", "global@1"]
    assert len(await events(database)) == 2


async def test_a_change_makes_the_next_version_with_who_why_and_from_what(database: Database) -> None:
    await make(database, change("chat"))
    outcome = await make(database, change("chat", "gpt-4o-mini", reason="try it", by="bob"))
    assert (outcome.version, outcome.unchanged) == ("chat@2", False)
    async with database.transaction() as session:
        version = await configs.get_version(session, "chat@2")
    assert (version.created_by, version.reason, version.change_type) == ("bob", "try it", "manual")
    assert (version.derived_from, version.deployment_id) == ("chat@1", outcome.deployment_id)
    assert version.config["model"] == "gpt-4o-mini"
    assert await served(database, "chat") == "chat@1"


async def test_going_back_makes_a_new_version_derived_from_the_old_one(database: Database) -> None:
    await make(database, change("chat"))
    forward = await make(database, change("chat", "gpt-4o-mini"))
    assert forward.deployment_id is not None
    await records.complete(database, forward.deployment_id)
    back = await make(database, change("chat", derived_from="chat@1"))
    assert back.version == "chat@3"
    async with database.transaction() as session:
        first, third = [await configs.get_version(session, name) for name in ("chat@1", "chat@3")]
    assert third.config == first.config
    assert third.derived_from == "chat@1"


async def test_versions_are_counted_per_scope_and_never_used_again(database: Database) -> None:
    await make(database, change("global"))
    for number in (1, 2, 3):
        outcome = await make(database, change("chat", f"model-{number}"))
        assert outcome.version == f"chat@{number}"
        assert outcome.deployment_id is not None
        await roll_back(database, outcome.deployment_id)
    assert await records.versions(database) == ["global@1", "chat@1", "chat@2", "chat@3"]


async def test_no_version_is_ever_edited(database: Database) -> None:
    async def contents() -> dict[str, dict[str, Any]]:
        async with database.transaction() as session:
            _, rows = await configs.list_versions(session, "chat", limit=100, offset=0)
            return {row.version: {**row.config, "by": row.created_by, "at": row.created_at} for row in rows}

    seen: dict[str, dict[str, Any]] = {}
    await make(database, change("chat"))
    for model, finish in (("a", records.complete), ("b", roll_back), ("c", records.complete)):
        outcome = await make(database, change("chat", model))
        assert outcome.deployment_id is not None
        await finish(database, outcome.deployment_id)
        present = await contents()
        assert seen.items() <= present.items()
        seen = present
    assert list(seen) == ["chat@4", "chat@3", "chat@2", "chat@1"]


@pytest.mark.parametrize("strategy", ["canary", "immediate"])
async def test_an_update_of_a_scope_under_rollout_names_the_rollout(
    database: Database, strategy: Strategy
) -> None:
    await make(database, change("chat"))
    outcome = await make(database, change("chat", "gpt-4o-mini"))
    with pytest.raises(Conflict, match=rf"{outcome.deployment_id} of chat@2") as refused:
        await make(database, change("chat", "gpt-5", strategy=strategy))
    assert refused.value.details == {
        "deploymentId": outcome.deployment_id,
        "scope": "chat",
        "status": "pending",
    }
    # Even one that would change nothing: what is served may change any moment.
    with pytest.raises(Conflict):
        await make(database, change("chat"))
    assert await records.versions(database) == ["chat@1", "chat@2"]


async def test_a_service_that_inherits_is_compared_with_global_and_inherits_again(database: Database) -> None:
    await make(database, change("global"))
    outcome = await make(database, change("chat", "gpt-4o-mini"))
    assert outcome.version == "chat@1"
    assert outcome.deployment_id is not None
    row = await records.get_rollout(database, outcome.deployment_id)
    assert (row.from_version, row.to_version) == ("global@1", "chat@1")
    await records.enter(database, outcome.deployment_id)
    await roll_back(database, outcome.deployment_id)
    assert await served(database, "chat") == "global@1"
    of_global = await make(database, change("global", "gpt-5"))
    assert of_global.deployment_id is not None
    await records.complete(database, of_global.deployment_id)
    assert await served(database, "chat") == "global@2"


async def test_an_immediate_change_of_what_is_inherited_is_taken_back_to_inheriting(
    database: Database,
) -> None:
    await make(database, change("global"))
    outcome = await make(database, change("chat", "gpt-4o-mini", strategy="immediate"))
    assert outcome.deployment_id is not None
    await records.enter(database, outcome.deployment_id)
    assert await served(database, "chat") == "chat@1"
    await roll_back(database, outcome.deployment_id)
    assert await served(database, "chat") == "global@1"
    changed = await events(database, "config.changed", scope="chat")
    assert [(event.data["previousVersion"], event.data["newVersion"]) for event in changed] == [
        ("global@1", "chat@1"),
        ("chat@1", "global@1"),
    ]


# (scope under rollout, scope to be changed, those with a configuration of their own): do they meet?
EXCLUSION = [
    ("global", "chat", [], True),
    ("chat", "global", [], True),
    ("global", "chat", ["chat"], False),
    ("chat", "global", ["chat"], False),
    ("chat", "mail", [], False),
    ("global", "chat:/answer", [], True),
    ("chat:/answer", "global", [], True),
    ("chat", "chat:/answer", ["chat"], True),
    ("chat:/answer", "chat", ["chat"], True),
    ("chat", "chat:/answer", ["chat", "chat:/answer"], False),
    ("chat:/answer", "chat", ["chat", "chat:/answer"], False),
    # The service stands between the endpoint and global.
    ("global", "chat:/answer", ["chat"], False),
    ("chat:/answer", "global", ["chat"], False),
    ("chat:/answer", "chat:/ask", ["chat"], False),
    ("chat:/answer", "mail:/answer", [], False),
]


@pytest.mark.parametrize(("running", "wanted", "owned", "meet"), EXCLUSION)
async def test_a_rollout_excludes_those_that_inherit_from_each_other(
    database: Database, running: str, wanted: str, owned: list[str], meet: bool
) -> None:
    for scope in ("global", *owned):
        await records.first_config(database, scope)
    opened = await make(database, change(running, "gpt-4o-mini"))
    assert opened.deployment_id is not None
    if meet:
        with pytest.raises(Conflict, match=f"open on {running}$"):
            await make(database, change(wanted, "gpt-5"))
    else:
        assert (await make(database, change(wanted, "gpt-5"))).deployment_id is not None


async def test_an_endpoint_has_versions_of_its_own(database: Database) -> None:
    await make(database, change("chat"))
    outcome = await make(database, change("chat:/v1/a@b:c", "gpt-4o-mini"))
    assert outcome.version == "chat:/v1/a@b:c@1"
    assert outcome.deployment_id is not None
    row = await records.get_rollout(database, outcome.deployment_id)
    assert (row.from_version, row.scope) == ("chat@1", "chat:/v1/a@b:c")
    await records.complete(database, outcome.deployment_id)
    assert await served(database, "chat:/v1/a@b:c") == "chat:/v1/a@b:c@1"
    assert await served(database, "chat") == await served(database, "chat:/other") == "chat@1"


async def test_an_update_while_paused_is_taken_and_stays_pending(database: Database) -> None:
    await make(database, change("chat"))
    async with database.transaction() as session:
        await control.pause(session, reason=None, by="ada")
    outcome = await make(database, change("chat", "gpt-4o-mini", strategy="immediate"))
    assert outcome.deployment_id is not None
    async with database.transaction() as session:
        assert await rollouts.begin(session, outcome.deployment_id) is None
    assert (await records.get_rollout(database, outcome.deployment_id)).status == "pending"
    assert await served(database, "chat") == "chat@1"
    async with database.transaction() as session:
        await control.resume(session, by="ada")
    await records.enter(database, outcome.deployment_id)
    assert await served(database, "chat") == "chat@2"


async def stop(database: Database) -> None:
    async with database.transaction() as session:
        await control.emergency_stop(session, reason="smoke", by="ada")


@pytest.mark.parametrize(
    ("strategy", "may_mend"), [("canary", True), ("gradual", True), ("immediate", False)]
)
async def test_nothing_but_a_mend_goes_through_an_emergency_stop(
    database: Database, strategy: Strategy, may_mend: bool
) -> None:
    await make(database, change("chat"))
    await stop(database)
    for scope in ("chat", "mail"):
        with pytest.raises(Stopped, match="smoke"):
            await make(database, change(scope, "gpt-5", strategy=strategy, may_mend=may_mend))
    assert await records.versions(database) == ["chat@1"]


async def test_an_admin_mends_during_an_emergency_stop(database: Database) -> None:
    await make(database, change("global"))
    await stop(database)
    mended = await make(database, change("chat", "gpt-5", strategy="immediate", may_mend=True))
    assert mended == ChangeOutcome("chat@1")
    assert await served(database, "chat") == await records.known_good(database, "chat") == "chat@1"
    (changed,) = await events(database, "config.changed", scope="chat")
    assert (changed.data["previousVersion"], changed.data["newVersion"]) == ("global@1", "chat@1")
    again = await make(database, change("chat", "gpt-5", strategy="immediate", may_mend=True))
    assert again == ChangeOutcome("chat@1", unchanged=True)
    first = await make(database, change("mail:/a", "gpt-6", strategy="immediate", may_mend=True))
    assert first == ChangeOutcome("mail:/a@1")


async def test_a_change_requires_the_version_that_the_caller_saw(database: Database) -> None:
    await make(database, change("chat"))
    for scope, expected in (("chat", "chat@2"), ("mail", "mail@1")):
        with pytest.raises(PreconditionFailed):
            await make(database, change(scope, "gpt-5", expected_version=expected))
    await stop(database)
    with pytest.raises(PreconditionFailed):
        await make(
            database,
            change("chat", "gpt-5", strategy="immediate", may_mend=True, expected_version="chat@2"),
        )
    async with database.transaction() as session:
        await control.resume(session, by="ada")
    assert (await make(database, change("chat", "gpt-5", expected_version="chat@1"))).version == "chat@2"


async def test_no_rollout_is_opened_where_nothing_is_served(database: Database) -> None:
    policy = ServicePolicy(service="chat")
    new = rollouts.NewRollout(
        scope="chat",
        config=config(),
        plan=plan_rollout(policy.rollout, "canary", None),
        policy=policy,
        change_type="manual",
        by="ada",
        reason="cheaper",
    )
    with pytest.raises(NotFound, match="no configuration to compare with"):
        async with database.transaction() as session:
            await rollouts.open_rollout(session, new)


async def test_fifty_changes_at_once_open_one_rollout(database: Database) -> None:
    await make(database, change("chat"))
    wanted = [change("chat", f"model-{number}") for number in range(50)]
    results = await asyncio.gather(*(make(database, one) for one in wanted), return_exceptions=True)
    made = [result for result in results if isinstance(result, ChangeOutcome)]
    assert len(made) == 1
    assert made[0].version == "chat@2"
    refused = [result for result in results if isinstance(result, Conflict)]
    assert len(refused) == 49
    assert {str(made[0].deployment_id)} == {result.details["deploymentId"] for result in refused}
    assert await records.versions(database) == ["chat@1", "chat@2"]


async def test_fifty_first_configurations_at_once_are_one(database: Database) -> None:
    wanted = [change("chat", f"model-{number}") for number in range(50)]
    results = await asyncio.gather(*(make(database, one) for one in wanted), return_exceptions=True)
    made = [result for result in results if isinstance(result, ChangeOutcome)]
    # The first is served at once, the second opens a rollout, and the others meet that.
    assert sorted((outcome.version, outcome.deployment_id is None) for outcome in made) == [
        ("chat@1", True),
        ("chat@2", False),
    ]
    assert sum(isinstance(result, Conflict) for result in results) == 48


async def test_changes_of_fifty_scopes_at_once_do_not_meet(database: Database) -> None:
    scopes = [f"chat-{number}" for number in range(50)]
    await asyncio.gather(*(make(database, change(scope)) for scope in scopes))
    outcomes = await asyncio.gather(*(make(database, change(scope, "gpt-5")) for scope in scopes))
    assert {outcome.version for outcome in outcomes} == {f"{scope}@2" for scope in scopes}


async def test_what_a_transaction_read_before_it_had_the_lock_is_read_again(database: Database) -> None:
    """A request reads what a scope serves to validate a change, and meanwhile another change is made."""
    await make(database, change("chat"))
    async with database.transaction() as session:
        # As long as the row is referred to, the session gives it again without reading it.
        state = await session.get(ScopeState, "chat")
        other = await make(database, change("chat", "gpt-5"))
        assert other.deployment_id is not None
        await records.complete(database, other.deployment_id)
        outcome = await changes.change_config(session, change("chat", "gpt-6"))
    assert state is not None
    assert outcome.version == "chat@3"
    row = await records.get_rollout(database, str(outcome.deployment_id))
    assert row.from_version == "chat@2"


async def test_a_change_that_fails_leaves_nothing(database: Database) -> None:
    await make(database, change("chat"))
    before = (await records.event_types(database), await records.versions(database))

    async def fail_after_changing() -> None:
        async with database.transaction() as session:
            await changes.change_config(session, change("chat", "gpt-5"))
            await changes.change_config(session, change("mail"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail_after_changing()
    assert (await records.event_types(database), await records.versions(database)) == before
    assert (await make(database, change("chat", "gpt-6"))).version == "chat@2"
