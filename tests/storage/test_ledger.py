"""The ledger: whole whatever becomes of a rollout, and what follows from it."""

from collections.abc import Awaitable, Callable
from math import log

import pytest
from sqlalchemy import select

from domain.gate.state import GateState
from domain.policy import ServicePolicy
from storage import control, ledger, optimizations, reconciler, rollouts, savings
from storage.database import Database
from storage.ledger import Selection
from storage.tables import LedgerRollout
from tests.activities.reports import prepare, requests
from tests.storage import records
from tests.storage.ledgers import (
    ended,
    entries,
    level,
    measured,
    of_cost,
    opened,
    take_back,
)

End = Callable[[Database, str], Awaitable[None]]


async def of_rollout(database: Database, deployment_id: str) -> LedgerRollout:
    async with database.transaction() as session:
        query = select(LedgerRollout).where(LedgerRollout.deployment_id == deployment_id)
        return (await session.execute(query)).scalar_one()


async def fail(database: Database, deployment_id: str) -> None:
    async with database.transaction() as session:
        await rollouts.fail(session, await rollouts.lock(session, deployment_id), "gone")


async def stop(database: Database, _: str) -> None:
    async with database.transaction() as session:
        await control.emergency_stop(session, reason="fire", by="ada")


async def lapse(database: Database, deployment_id: str) -> None:
    await records.enter(database, deployment_id)
    await records.lapse(database, deployment_id)
    assert len(await reconciler.roll_back_lapsed(database)) == 1


async def harm(database: Database, deployment_id: str) -> None:
    await take_back(database, deployment_id, harm=True)


ENDS: dict[str, tuple[End, str, bool]] = {
    "completed": (records.complete, "completed", False),
    "by hand": (take_back, "rolled_back", False),
    "for harm": (harm, "rolled_back", True),
    "unwatched": (lapse, "rolled_back", False),
    "failed": (fail, "failed", False),
    "stopped": (stop, "rolled_back", False),
}


async def test_a_promise_is_written_as_the_rollout_is_opened(database: Database) -> None:
    promise = of_cost(
        predictions={"cost.avg": level(0.005, 0.004, 0.006), "quality.avg": level(80.0, 78.0, 82.0)},
        widening={"cost.avg": 1.4},
    )
    rollout = await opened(database, "chat", promise)
    cost, quality = await entries(database, metric=None)
    assert (cost.deployment_id, cost.service, cost.scope, cost.metric) == (
        *(rollout.id, "chat", "chat"),
        "cost.avg",
    )
    assert cost.opened_at == rollout.created_at
    assert (cost.predicted, cost.incumbent, cost.widening) == (level(0.005, 0.004, 0.006), 0.01, 1.4)
    assert (quality.incumbent, quality.widening) == (None, 1.0)
    for entry in (cost, quality):
        assert (entry.outcome, entry.settled_at, entry.measured, entry.comparison) == (None,) * 4
    assert (await of_rollout(database, rollout.id)).confidence == 0.9


@pytest.mark.parametrize("how", ENDS)
async def test_an_entry_is_whole_however_the_rollout_ends(database: Database, how: str) -> None:
    end, outcome, stopped = ENDS[how]
    rollout = await opened(database, "chat", of_cost())
    await measured(database, rollout.id, cost=(0.02, 0.012))
    await end(database, rollout.id)
    (entry,) = await entries(database)
    assert (entry.outcome, entry.stopped) == (outcome, stopped)
    assert entry.settled_at == (await records.get_rollout(database, rollout.id)).ended_at
    assert entry.measured is not None
    assert (entry.measured.control, entry.measured.canary) == pytest.approx((0.02, 0.012))
    assert entry.improvement == pytest.approx(0.4)
    assert entry.comparison is not None
    assert entry.comparison.predicted == pytest.approx(log(0.5))
    assert entry.comparison.measured == pytest.approx(log(0.6))
    assert not entry.comparison.held
    told = await of_rollout(database, rollout.id)
    assert told.came_true is True
    assert told.utility == pytest.approx(-log(0.6))


@pytest.mark.parametrize("how", ["by hand", "failed", "stopped"])
async def test_an_end_before_any_check_leaves_the_promise_unmeasured(database: Database, how: str) -> None:
    end, outcome, _ = ENDS[how]
    rollout = await opened(database, "chat", of_cost())
    await end(database, rollout.id)
    (entry,) = await entries(database)
    assert (entry.outcome, entry.measured, entry.comparison) == (outcome, None, None)
    assert (await of_rollout(database, rollout.id)).came_true is None


async def test_a_second_end_changes_nothing(database: Database) -> None:
    rollout = await opened(database, "chat", of_cost())
    await records.complete(database, rollout.id)
    (before,) = await entries(database)
    await take_back(database, rollout.id, harm=True)
    assert await entries(database) == [before]


async def test_each_check_replaces_what_the_one_before_had_measured(database: Database) -> None:
    rollout = await opened(database, "chat", of_cost())
    await measured(database, rollout.id, cost=(0.01, 0.004))
    await measured(database, rollout.id, cost=(0.01, 0.008))
    (entry,) = await entries(database)
    assert entry.improvement == pytest.approx(0.2)
    assert entry.predicted == of_cost().predictions["cost.avg"]


async def test_a_metric_that_is_missing_is_left_unmeasured_and_the_plan_unscored(database: Database) -> None:
    both = of_cost(predictions={"cost.avg": level(0.005, 0.004, 0.006), "quality.avg": level(80, 78, 82)})
    goals = [
        {"metric": "cost", "goal": "minimize", "weight": 0.5},
        {"metric": "quality", "goal": "maximize", "weight": 0.5},
    ]
    rollout = await opened(database, "chat", both, objectives=goals)
    await measured(database, rollout.id, cost=(0.01, 0.005))
    await records.complete(database, rollout.id)
    found = {entry.metric: entry for entry in await entries(database, metric=None)}
    assert set(found) == {"cost.avg", "quality.avg", "errors.rate"}
    assert found["cost.avg"].comparison is not None
    assert (found["quality.avg"].measured, found["quality.avg"].comparison) == (None, None)
    assert found["errors.rate"].predicted is None
    async with database.transaction() as session:
        assert await ledger.confidences(session, Selection()) == []


async def test_a_look_without_any_value_measures_nothing(database: Database) -> None:
    rollout = await opened(database, "chat", of_cost())
    async with database.transaction() as session:
        row = await rollouts.lock(session, rollout.id)
        await ledger.record(session, row, GateState(), ServicePolicy(service="chat"))
    (entry,) = await entries(database, metric=None)
    assert entry.measured is None


async def test_a_change_by_hand_is_measured_though_nothing_was_promised(database: Database) -> None:
    await records.first_config(database, "chat")
    outcome = await records.make(database, records.change("chat", "gpt-5"))
    assert outcome.deployment_id is not None
    await measured(database, outcome.deployment_id, cost=(0.01, 0.009))
    (entry,) = await entries(database)
    assert (entry.predicted, entry.comparison) == (None, None)
    assert entry.improvement == pytest.approx(0.1)


async def test_improvements_are_seen_while_the_rollout_runs_and_after(database: Database) -> None:
    rollout = await opened(database, "chat", of_cost())
    assert rollout.optimization_id is not None
    for end in (None, records.complete):
        if end is not None:
            await end(database, rollout.id)
        else:
            await measured(database, rollout.id, cost=(0.01, 0.007))
        async with database.transaction() as session:
            run = await optimizations.get(session, rollout.optimization_id)
            result = (await optimizations.status(session, run)).result
        assert result is not None
        # Without an error in control there is no fraction of it.
        assert result.improvements == pytest.approx({"cost.avg": 0.3})


async def test_a_run_that_ends_after_its_rollout_was_measured_tells_the_improvements(
    database: Database,
) -> None:
    await records.first_config(database, "chat")
    run = await records.open_run(database, "chat")
    rollout = await records.open_for_run(database, run, "chat", "gpt-5")
    await measured(database, rollout.id, cost=(0.01, 0.007))
    async with database.transaction() as session:
        (await optimizations.part(session, run.id, "chat")).deployment_id = rollout.id
        await optimizations.finish(session, run.id, decision="optimize", reasoning="cheaper")
    (event,) = await records.events(database, "optimization.complete")
    assert event.data["improvements"]["cost.avg"] == pytest.approx(0.3)


async def test_entries_are_found_by_service_and_time(database: Database) -> None:
    for service in ("chat", "mail", "chat:answer"):
        if service == "chat:answer":
            await records.first_config(database, service)
            outcome = await records.make(database, records.change(service, "gpt-5"))
            assert outcome.deployment_id is not None
            await measured(database, outcome.deployment_id, cost=(0.01, 0.009))
        else:
            await opened(database, service, of_cost())
    everything = await entries(database)
    assert [entry.scope for entry in everything] == ["chat:answer", "mail", "chat"]
    of_chat = await entries(database, services=["chat"])
    assert [entry.scope for entry in of_chat] == ["chat:answer", "chat"]
    middle = everything[1].opened_at
    assert [e.scope for e in await entries(database, start=middle)] == ["chat:answer", "mail"]
    assert [e.scope for e in await entries(database, end=middle)] == ["chat"]


async def test_predictions_that_prove_too_sure_are_widened_most_where_they_were(database: Database) -> None:
    async with database.transaction() as session:
        assert await ledger.widening_of(session, "chat") == {}
    sure = of_cost(half=0.0002)
    for number in range(4):
        await ended(database, "chat", sure, cost=(0.01, 0.0065), number=number)
    for number in range(2):
        await ended(database, "mail", sure, cost=(0.01, 0.005), number=number)
    async with database.transaction() as session:
        found = await ledger.widenings(session, ["chat", "mail", "new"])
        assert await ledger.widening_of(session, "chat") == found.services["chat"]
    chat, mail, new = (found.services[name]["cost.avg"] for name in ("chat", "mail", "new"))
    assert chat == 4.0
    assert new == pytest.approx(found.overall["cost.avg"])
    assert 1.0 < mail < new <= chat


async def test_what_has_not_ended_or_was_not_promised_widens_nothing(database: Database) -> None:
    rollout = await opened(database, "chat", of_cost(half=0.0001))
    await measured(database, rollout.id, cost=(0.01, 0.05))
    async with database.transaction() as session:
        assert await ledger.widening_of(session, "chat") == {}


async def test_only_the_newest_predictions_widen(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        await ended(database, "chat", of_cost(half=0.0002), cost=(0.01, 0.008), number=number)
    async with database.transaction() as session:
        assert await ledger.widening_of(session, "chat") != {}
    monkeypatch.setattr(ledger, "RECENT", 2)
    for number in range(2, 4):
        await ended(database, "chat", of_cost(), cost=(0.01, 0.005), number=number)
    async with database.transaction() as session:
        assert await ledger.widening_of(session, "chat") == {}


async def test_savings_count_the_requests_that_the_new_version_answered(database: Database) -> None:
    await prepare(database)
    rollout = await opened(database, "chat", of_cost())
    await measured(database, rollout.id, cost=(0.01, 0.006), n=100)
    await records.complete(database, rollout.id)
    await requests(database, 250, version="chat@2")
    await requests(database, 30, version="chat@1")
    await requests(database, 40, version=None)
    await requests(database, 50, version="chat@2", service="mail")
    async with database.transaction() as session:
        (found,) = await savings.read(session, Selection())
        assert await savings.read(session, Selection(services=["mail"])) == []
    assert (found.from_version, found.to_version, found.status) == ("chat@1", "chat@2", "completed")
    assert found.measured is not None
    assert found.projected is not None
    assert (found.measured.requests, found.projected.requests) == (100, 150)
    assert found.measured.usd == pytest.approx(0.4)
    assert found.projected.usd == pytest.approx(0.6)
    assert found.measured.low < found.measured.usd < found.measured.high


async def test_a_rollout_for_all_counts_whoever_is_served_its_version(database: Database) -> None:
    await prepare(database)
    await records.first_config(database, "global")
    outcome = await records.make(database, records.change("global", "gpt-5"))
    assert outcome.deployment_id is not None
    await measured(database, outcome.deployment_id, cost=(0.01, 0.006), n=100)
    for service in ("chat", "mail"):
        await requests(database, 80, version="global@2", service=service)
    async with database.transaction() as session:
        (found,) = await savings.read(session, Selection(services=["global"]))
    assert found.projected is not None
    assert found.projected.requests == 60
    assert found.promised is None
