"""Policies keep what was given, and take defaults for the rest."""

import pytest

from domain.errors import NotFound
from domain.policy import ServicePolicy
from storage import services
from storage.database import Database


async def test_a_policy_keeps_what_was_given_alone(database: Database) -> None:
    given = {"service": "chat", "rollout": {"steps": [10, 100]}, "automatic": False}
    async with database.transaction() as session:
        await services.put_policy(session, ServicePolicy.model_validate(given))
        row = await services.get(session, "chat")
        assert row.policy == {"rollout": {"steps": [10.0, 100.0]}, "automatic": False}
        policy = await services.policy_of(session, "chat", step_seconds=7.0)
    assert (policy.rollout.step_seconds, policy.rollout.check_seconds) == (7.0, 0.7)
    assert (policy.rollout.steps, policy.automatic) == ([10, 100], False)


async def test_a_given_step_wins_over_the_default_and_a_check_over_a_shorter_step() -> None:
    longer = services.resolve("chat", {"rollout": {"stepSeconds": 60}}, step_seconds=7.0)
    assert longer.rollout.step_seconds == 60
    checked = services.resolve("chat", {"rollout": {"checkSeconds": 30}}, step_seconds=7.0)
    assert (checked.rollout.step_seconds, checked.rollout.check_seconds) == (30, 30)


async def test_an_unknown_service_has_the_defaults_and_no_row(database: Database) -> None:
    async with database.transaction() as session:
        assert (await services.policy_of(session, "nobody", step_seconds=300)).service == "nobody"
        with pytest.raises(NotFound):
            await services.get(session, "nobody")


async def test_services_are_noted_once_and_keep_their_policy(database: Database) -> None:
    async with database.transaction() as session:
        await services.put_policy(session, ServicePolicy(service="b", automatic=False))
        await services.note(session, ["b", "a", "a"])
        await services.note(session, [])
        total, page = await services.list_services(session, limit=1, offset=1)
        assert total == 2
        assert [(row.name, row.policy) for row in page] == [("b", {"automatic": False})]
