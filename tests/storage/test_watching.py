"""The watch: what is due is done once, within its cooldown, and nothing while it may not be."""

from collections.abc import Sequence
from typing import Any

import pytest
import pytest_asyncio

from domain.errors import Stopped
from domain.policy import ServicePolicy
from domain.rules import offers
from domain.rules.ruling import RuledBack
from storage import brakes, control, firings, going_back, rollback, rollouts, services, watching
from storage.database import Database
from storage.tables import Event, Firing, Optimization, Rollout
from tests.activities.reports import prepare
from tests.storage import records
from tests.storage.calls import call, store
from tests.storage.records import change, events, first_config, make

FAILING: dict[str, Any] = {"metric": "errors", "op": ">", "value": 0.05, "window": "1h"}
ALERT = {"type": "alert", "severity": "high"}
SWITCH = {"type": "model_switch", "provider": "openai", "model": "gpt-4o-mini"}
SPACE = {"models": [{"provider": "openai", "model": name} for name in ("gpt-4o", "gpt-4o-mini")]}


def rule(action: dict[str, Any], condition: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"id": "r", "condition": condition or FAILING, "action": action, **fields}


def trigger(cooldown_ms: int = 600_000, condition: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"condition": condition or FAILING, "cooldownMs": cooldown_ms}


@pytest_asyncio.fixture(autouse=True)
async def failing(database: Database) -> None:
    """In the last minutes a tenth of the chat's calls failed."""
    await prepare(database)
    await first_config(database, "chat")
    pool = await database.pool()
    now = round(await pool.fetchval("SELECT extract(epoch FROM clock_timestamp())") * 1000)
    at = now - 120_000
    await store(database, [call(at, status_code=500 if n < 3 else 200) for n in range(30)])


async def put(database: Database, name: str = "chat", **policy: Any) -> ServicePolicy:
    given = ServicePolicy.model_validate({"service": name, **policy})
    async with database.transaction() as session:
        await services.put_policy(session, given)
    return given


async def look(database: Database, at: int = 1) -> list[str]:
    return await watching.look(database, scheduled_at=at, step_seconds=300)


async def rows(database: Database, table: str) -> Sequence[Any]:
    pool = await database.pool()
    return list(await pool.fetch(f"SELECT * FROM {table}"))


async def runs(database: Database) -> list[Optimization]:
    return [await records.get_run(database, row["id"]) for row in await rows(database, "optimizations")]


async def alerts(database: Database) -> list[Event]:
    return list(await events(database, "alert.raised"))


async def end_run(database: Database) -> None:
    """Let the service be free again."""
    pool = await database.pool()
    await pool.execute("UPDATE optimized_services SET open = false")


async def let_pass(database: Database, seconds: int) -> None:
    """As if all that has fired and ended so far had, by so long ago."""
    pool = await database.pool()
    by = f"interval '{seconds} seconds'"
    await pool.execute(f"UPDATE firings SET fired_at = fired_at - {by}")
    await pool.execute(f"UPDATE noticed_offers SET since = since - {by}")
    await pool.execute(f"UPDATE rollouts SET ended_at = ended_at - {by}, created_at = created_at - {by}")


async def test_a_trigger_opens_one_run_and_waits_for_its_cooldown(database: Database) -> None:
    await put(database, triggers=[trigger()])
    (note,) = await look(database)
    (run,) = await runs(database)
    words = "errors.rate 0.1 > 0.05 over 1h"
    assert note == f"chat: opened {run.id}: {words}"
    assert (run.status, run.triggered_by, run.created_by) == ("queued", "threshold", "watch")
    assert run.request["services"] == ["chat"]
    (fired,) = (run.trigger_details or {})["fired"]
    assert fired["words"] == words
    assert fired["by"].startswith("trigger/")
    assert await look(database, 2) == [], "the run is open"
    await end_run(database)
    assert await look(database, 3) == [], "the cooldown runs"
    await let_pass(database, 300)
    assert await look(database, 4) == []
    await let_pass(database, 300)
    assert len(await look(database, 5)) == 1
    assert len(await runs(database)) == 2


async def test_a_look_that_is_repeated_opens_nothing_more(database: Database) -> None:
    await put(database, triggers=[trigger(cooldown_ms=0)])
    await look(database, 1)
    await end_run(database)
    await look(database, 1)
    assert len(await runs(database)) == 1
    await look(database, 2)
    assert len(await runs(database)) == 2


async def test_two_that_are_due_share_a_run(database: Database) -> None:
    other = {"metric": "requests.count", "op": ">=", "value": 30, "window": "1h"}
    await put(database, triggers=[trigger(), trigger(condition=other)], rules=[rule({"type": "experiment"})])
    await look(database)
    (run,) = await runs(database)
    assert len((run.trigger_details or {})["fired"]) == 3
    assert {row["reference"] for row in await rows(database, "firings")} == {run.id}
    await end_run(database)
    assert await look(database, 2) == [], "each has its cooldown"


async def test_what_does_not_hold_for_certain_opens_nothing(database: Database) -> None:
    thin = FAILING | {"metric": "quality", "op": "<", "value": 99}
    await put(database, triggers=[trigger(condition=thin), trigger(condition={"not": thin})])
    assert await look(database) == []


async def test_not_while_a_rollout_of_the_service_is_open(database: Database) -> None:
    await put(database, triggers=[trigger()])
    deployment = (await make(database, change("chat", "gpt-4o-mini"))).deployment_id
    assert deployment is not None
    assert await look(database) == []
    async with database.transaction() as session:
        await rollback.roll_back(
            session, await rollouts.lock(session, deployment), reason="enough", automatic=False
        )
    assert len(await look(database, 2)) == 1


async def test_an_alert_is_raised_once_per_cooldown(database: Database) -> None:
    await put(database, rules=[rule(ALERT, description="too many errors", cooldownMs=60_000)])
    for at in range(3):
        await look(database, at)
    (raised,) = await alerts(database)
    assert raised.scope == "chat"
    assert raised.data == {
        "scope": "chat",
        "severity": "high",
        "reason": "rule r: errors.rate 0.1 > 0.05 over 1h",
        "details": {"rule": "r", "description": "too many errors"},
    }
    assert await runs(database) == []
    await let_pass(database, 61)
    await look(database, 4)
    assert len(await alerts(database)) == 2


async def test_while_paused_alerts_alone_are_raised_and_once_stopped_nothing(database: Database) -> None:
    rules = [rule(ALERT, id="a", cooldownMs=0), rule({"type": "rollback"}, id="b")]
    await put(database, rules=rules, triggers=[trigger()])
    async with database.transaction() as session:
        await control.pause(session, reason="a release", by="ada")
    await look(database)
    assert [found.data["reason"][:6] for found in await alerts(database)] == ["rule a"]
    assert await runs(database) == []
    async with database.transaction() as session:
        await control.emergency_stop(session, reason="fire", by="ada")
    assert await look(database, 2) == []
    assert len(await alerts(database)) == 2, "that of the stop itself"


async def test_a_rule_that_changes_the_configuration_opens_a_run(database: Database) -> None:
    await put(database, rules=[rule(SWITCH)], searchSpace=SPACE)
    await look(database)
    (run,) = await runs(database)
    assert (run.trigger_details or {})["fired"][0]["by"] == "rule/r"


async def test_a_rule_whose_change_is_served_already_stands_in_nobodys_way(database: Database) -> None:
    same = {"type": "model_switch", "provider": "openai", "model": "gpt-4o"}
    rules = [rule(same, id="served", priority=9), rule({"type": "rollback"}, id="back")]
    await put(database, rules=rules, searchSpace=SPACE)
    (note,) = await look(database)
    assert "no earlier version than chat@1" in note
    assert await runs(database) == []


# Going back


async def served_well(database: Database, *models: str) -> None:
    """The chat came to serve these, one after the other, each by a rollout that was completed."""
    for model in models:
        deployment = (await make(database, change("chat", model))).deployment_id
        assert deployment is not None
        await records.complete(database, deployment)


async def test_a_rollback_goes_to_the_last_version_known_good_before_the_present(database: Database) -> None:
    await served_well(database, "gpt-4o-mini")
    await put(database, rules=[rule({"type": "rollback"}, cooldownMs=60_000)])
    (note,) = await look(database)
    (first, second) = sorted(await rows(database, "rollouts"), key=lambda row: row["to_version"])
    assert first["status"] == "completed"
    assert (second["to_version"], second["status"], second["strategy"]) == ("chat@3", "pending", "immediate")
    assert (second["changed_by"], second["change_type"]) == (brakes.BY_RULE, "automatic")
    assert note.endswith("of chat@3, the content of chat@1, was opened.")
    (raised,) = await alerts(database)
    assert raised.data["details"] == {"rule": "r", "deploymentId": second["id"], "version": "chat@1"}
    await let_pass(database, 61)
    await records.complete(database, second["id"])
    (note,) = await look(database, 2)
    assert "no earlier version than chat@3 of another content" in note, "and not forth to what was left"


async def test_a_rollback_takes_back_an_open_rollout_first(database: Database) -> None:
    deployment = (await make(database, change("chat", "gpt-4o-mini"))).deployment_id
    assert deployment is not None
    await records.enter(database, deployment)
    await put(database, rules=[rule({"type": "rollback"})])
    assert await look(database) == [
        f"chat: Rule r: errors.rate 0.1 > 0.05 over 1h. Rollout {deployment} was taken back."
    ]
    row = await records.get_rollout(database, deployment)
    assert (row.status, row.traffic_percent) == ("rolled_back", 0)
    assert await records.served(database, "chat") == "chat@1"
    assert await look(database, 2) == []


async def test_a_rollback_to_a_version_that_is_named(database: Database) -> None:
    await served_well(database, "gpt-4o-mini", "gpt-4.1")
    await put(database, rules=[rule({"type": "rollback", "toVersion": "chat@1"})])
    (note,) = await look(database)
    assert note.endswith("the content of chat@1, was opened.")


async def test_a_rollback_heeds_no_cooldown_but_every_other_hard_constraint(database: Database) -> None:
    await served_well(database, "gpt-4o-mini")
    soon = {"type": "hard", "cooldownMs": 86_400_000}
    policy = await put(database, constraints=[soon | {"models": ["gpt-4o-mini"]}])
    ruled = RuledBack(rule="r", reasoning="Rule r: it hurts.")
    async with database.transaction() as session:
        went = await going_back.go_back(session, ruled, policy)
    assert went.rollout_id is None
    assert went.note.startswith("Not gone back to chat@1: openai/gpt-4o is not among the allowed models")
    (raised,) = await alerts(database)
    assert raised.data["reason"] == "a rollback was refused"
    policy = await put(database, constraints=[soon])
    async with database.transaction() as session:
        assert (await going_back.go_back(session, ruled, policy)).deployment is not None


async def test_what_is_inherited_is_not_gone_back_from(database: Database) -> None:
    await first_config(database, "global")
    policy = await put(database, "mail")
    async with database.transaction() as session:
        went = await going_back.go_back(session, RuledBack(rule="r", reasoning="why."), policy)
    assert went.note == "Not gone back: mail has no configuration of its own, and serves global@1."
    async with database.transaction() as session:
        await control.emergency_stop(session, reason="fire", by="ada")
    async with database.transaction() as session:
        with pytest.raises(Stopped):
            await going_back.go_back(session, RuledBack(rule="r", reasoning="why."), policy)


# Models and prices


def priced(price: float, *more: str) -> dict[str, Any]:
    models = [{"provider": "openai", "model": "gpt-4o", "pricePerMTokIn": price, "pricePerMTokOut": 10}]
    return {"models": [*models, *({"provider": "openai", "model": name} for name in more)]}


async def test_a_change_of_prices_opens_one_run_once_it_has_stood_still(database: Database) -> None:
    scheduled: dict[str, Any] = {"schedule": {"enabled": True}}
    await put(database, searchSpace=priced(2.5), **scheduled)
    assert await look(database) == []
    await put(database, searchSpace=priced(2), **scheduled)
    assert await look(database, 2) == []
    await let_pass(database, 100)
    await put(database, searchSpace=priced(2, "gpt-4o-mini"), **scheduled)
    assert await look(database, 3) == [], "it has changed again"
    await let_pass(database, offers.SETTLED_MS // 2000)
    assert await look(database, 4) == []
    await let_pass(database, offers.SETTLED_MS // 2000)
    (note,) = await look(database, 5)
    (run,) = await runs(database)
    assert (run.triggered_by, run.created_by) == ("event", "watch")
    words = (run.trigger_details or {})["reason"]
    assert words.startswith("new model openai/gpt-4o-mini at $")
    assert words.endswith(
        "price of openai/gpt-4o from $2.5/$10 per million tokens to $2/$10 per million tokens"
    )
    assert note == f"chat: opened {run.id}: {words}"
    await end_run(database)
    await let_pass(database, 1000)
    assert await look(database, 6) == []


async def test_news_waits_for_a_service_that_is_busy(database: Database) -> None:
    await put(database, searchSpace=priced(2.5), triggers=[trigger(condition=FAILING | {"value": 0.9})])
    await look(database)
    await put(database, searchSpace=priced(2), triggers=[trigger(condition=FAILING | {"value": 0.9})])
    await look(database, 2)
    await let_pass(database, 200)
    await records.open_run(database, "chat")
    assert await look(database, 3) == []
    await end_run(database)
    assert len(await look(database, 4)) == 1


async def test_prices_of_a_service_that_people_optimize_are_not_watched(database: Database) -> None:
    await put(database, searchSpace=priced(2.5), schedule={"enabled": True})
    await look(database)
    assert len(await rows(database, "noticed_offers")) == 1
    await put(database, searchSpace=priced(2.5))
    await look(database, 2)
    assert await rows(database, "noticed_offers") == []


# Brakes


async def automatic(database: Database, *outcomes: str) -> list[Rollout]:
    """Automatic rollouts of the chat, one after the other, and how each ended."""
    found = []
    for number, outcome in enumerate(outcomes):
        run = await records.open_run(database, "chat")
        row = await records.open_for_run(database, run, "chat", f"gpt-{number}")
        await end_run(database)
        if outcome == "completed":
            await records.complete(database, row.id)
        else:
            await records.enter(database, row.id)
            async with database.transaction() as session:
                locked = await rollouts.lock(session, row.id)
                gate = outcome == "failed"
                await rollback.roll_back(session, locked, reason="harm", automatic=gate)
        found.append(await records.get_rollout(database, row.id))
    return found


async def stands(database: Database, **policy: Any) -> Any:
    given = ServicePolicy.model_validate({"service": "chat", **policy})
    async with database.transaction() as session:
        return await brakes.of_service(session, given)


async def test_the_breaker_counts_failures_in_a_row_as_the_rollouts_tell(database: Database) -> None:
    await automatic(database, "failed", "completed", "failed", "aborted", "failed")
    found = await stands(database)
    assert (found.breaker, len(found.failures), found.rollbacks) == ("closed", 2, 3)
    (last,) = await automatic(database, "failed")
    found = await stands(database)
    assert (found.breaker, found.failures[0]) == ("open", last.id)
    await let_pass(database, 3601)
    assert (await stands(database)).breaker == "half-open"
    await automatic(database, "completed")
    assert (await stands(database)).breaker == "closed"


async def test_that_the_brakes_hold_is_told_once(database: Database) -> None:
    await put(database, maxRollbacksPerDay=4)
    failed = await automatic(database, "failed", "failed", "failed")
    (note,) = await look(database)
    assert note.startswith("chat: the circuit breaker is open: 3 automatic rollouts in a row failed")
    assert await look(database, 2) == []
    (raised,) = await alerts(database)
    assert (raised.scope, raised.data["severity"]) == ("chat", "high")
    assert raised.data["details"]["failures"] == [row.id for row in reversed(failed)]
    assert raised.data["details"]["openUntil"] == (failed[-1].ended_at or 0) + 3_600_000
    await let_pass(database, 3601)
    assert await look(database, 3) == []
    (again,) = await automatic(database, "failed")
    (note,) = await look(database, 4)
    assert f"in a row failed ({again.id}, {failed[2].id}, {failed[1].id})" in note


async def test_rollbacks_of_a_day_are_counted_until_they_are_a_day_ago(database: Database) -> None:
    await automatic(database, "failed", "aborted", "failed")
    found = await stands(database, maxRollbacksPerDay=2, breakerAfter=9)
    assert (found.rollbacks, found.limited) == (2, True)
    assert found.refusal.startswith("2 rollbacks within 24 h")
    await let_pass(database, 86_401)
    found = await stands(database, maxRollbacksPerDay=2, breakerAfter=9)
    assert (found.rollbacks, found.refusal) == (0, None)


async def test_old_firings_are_forgotten_but_for_the_last_of_each(database: Database) -> None:
    async with database.transaction() as session:
        for reference in ("a", "b"):
            await firings.record(session, "chat", "rule/r", action="alert", words="w", reference=reference)
        assert not await firings.record(
            session, "chat", "rule/r", action="alert", words="w", reference="a"
        ), "by one reference it is kept once"
    pool = await database.pool()
    await pool.execute("UPDATE firings SET fired_at = now() - interval '40 days' WHERE reference = 'a'")
    await pool.execute("UPDATE firings SET fired_at = now() - interval '39 days' WHERE reference = 'b'")
    async with database.transaction() as session:
        await firings.purge(session)
        found = await firings.latest(session, "chat")
    assert [row["reference"] for row in await rows(database, "firings")] == ["b"]
    assert isinstance(found["rule/r"], Firing)
