"""A look at a rollout: what it counts, for whom, and how often."""

from typing import Any

import pytest
import pytest_asyncio

from activities import checks
from domain.gate.state import GateState
from domain.policy import ServicePolicy
from storage import control, ledger
from storage.database import Database
from storage.rollouts import LeaseLapsed, RolloutClosed
from storage.tables import Rollout
from tests.activities.reports import prepare, requests, score
from tests.storage.records import AT, change, config, enter, first_config, get_rollout, lapse, make
from workflows import messages as m

OLD, NEW = config(), config("gpt-4o-mini")


@pytest.fixture(autouse=True)
def no_arrival_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are committed before the look that is to see them."""
    monkeypatch.setattr(checks, "ARRIVAL_MARGIN_MS", 0)


@pytest_asyncio.fixture
async def deployment_id(database: Database) -> str:
    """A canary of another model, with half of the traffic."""
    await prepare(database)
    await first_config(database, "chat")
    return await canary(database, "chat")


async def canary(database: Database, scope: str, **given: Any) -> str:
    policy = ServicePolicy.model_validate({"service": "chat", "rollout": {"steps": [50, 100]}})
    opened = await make(database, change(scope, config=NEW, policy=policy, **given))
    assert opened.deployment_id is not None
    await enter(database, opened.deployment_id)
    return opened.deployment_id


async def look(database: Database, deployment_id: str, number: int = 1, **given: Any) -> m.CheckResult:
    fields: dict[str, Any] = {"step": 0, "step_end": False, "extension": 0, "at": AT, "fence": 0} | given
    async with database.transaction() as session:
        return await checks.check(session, m.CheckInput(deployment_id=deployment_id, number=number, **fields))


async def gate(database: Database, deployment_id: str) -> GateState:
    row = await get_rollout(database, deployment_id)
    return GateState.model_validate(row.gate_state)


async def counts(database: Database, deployment_id: str) -> tuple[int, int]:
    """Requests of control and of the canary that were counted in the present share."""
    split = (await gate(database, deployment_id)).split
    return split.control, split.canary


async def test_the_same_number_again_gives_what_it_gave_and_counts_nothing_twice(
    database: Database, deployment_id: str
) -> None:
    await requests(database, 30, version="chat@1")
    await requests(database, 20, version="chat@2", of=NEW)
    first = await look(database, deployment_id, 1)
    before = await get_rollout(database, deployment_id)
    await requests(database, 50, version="chat@2", of=NEW, failed=50)
    again = await look(database, deployment_id, 1)
    after = await get_rollout(database, deployment_id)
    assert again == first
    assert (after.gate_state, after.bucket_until) == (before.gate_state, before.bucket_until)
    assert await counts(database, deployment_id) == (30, 20)

    await look(database, deployment_id, 2)
    assert await counts(database, deployment_id) == (30, 70)


async def test_a_report_counts_in_one_look_alone(database: Database, deployment_id: str) -> None:
    for number in range(1, 4):
        await requests(database, 10, version="chat@1")
        await look(database, deployment_id, number)
        assert await counts(database, deployment_id) == (10 * number, 0)


async def test_a_bucket_never_mixes_two_shares(database: Database, deployment_id: str) -> None:
    await requests(database, 40, version="chat@1")
    await look(database, deployment_id, 1)
    # These arrive in the first step, and nobody looks before the second begins.
    await requests(database, 40, version="chat@1")
    await enter(database, deployment_id, step=1)
    await requests(database, 3, version="chat@1")
    await requests(database, 7, version="chat@2", of=NEW)
    await look(database, deployment_id, 2, step=1)
    split = (await gate(database, deployment_id)).split
    assert (split.share, split.control, split.canary) == (95, 3, 7)


async def test_what_may_still_be_under_way_is_left_to_the_next_look(
    database: Database, deployment_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "ARRIVAL_MARGIN_MS", 3_600_000)
    await requests(database, 10, version="chat@1")
    await look(database, deployment_id, 1)
    assert await counts(database, deployment_id) == (0, 0)
    monkeypatch.setattr(checks, "ARRIVAL_MARGIN_MS", 0)
    await look(database, deployment_id, 2)
    assert await counts(database, deployment_id) == (10, 0)


async def test_reports_count_for_the_arm_whose_version_they_name(
    database: Database, deployment_id: str
) -> None:
    # The version goes before the model: an application may report what the provider called it.
    await requests(database, 5, version="chat@1", of=NEW)
    await requests(database, 6, version="chat@2", of=OLD)
    await requests(database, 100, version="chat@7", of=NEW)
    await look(database, deployment_id)
    assert await counts(database, deployment_id) == (5, 6)


async def test_without_a_version_they_count_by_model_where_that_tells_the_arms_apart(
    database: Database, deployment_id: str
) -> None:
    await requests(database, 5, version=None, of=OLD)
    await requests(database, 6, version=None, of=NEW)
    await requests(database, 100, version=None, of=config("gpt-4.1"))
    await look(database, deployment_id)
    assert await counts(database, deployment_id) == (5, 6)


async def test_without_a_version_they_count_for_neither_arm_where_both_have_one_model(
    database: Database,
) -> None:
    await prepare(database)
    await first_config(database, "chat")
    opened = await make(database, change("chat", config=config(temperature=0.1)))
    assert opened.deployment_id is not None
    await enter(database, opened.deployment_id)
    await requests(database, 100, version=None)
    await requests(database, 5, version="chat@1")
    await look(database, opened.deployment_id)
    assert await counts(database, opened.deployment_id) == (5, 0)


async def test_another_service_counts_for_nothing(database: Database, deployment_id: str) -> None:
    await requests(database, 100, version="chat@1", service="search")
    await look(database, deployment_id)
    assert await counts(database, deployment_id) == (0, 0)


async def test_an_endpoint_with_a_configuration_of_its_own_is_left_out(
    database: Database, deployment_id: str
) -> None:
    await first_config(database, "chat:summarize")
    await requests(database, 50, version="chat@1", endpoint="summarize", request_id="its")
    await score(database, 1.0, request_id="its")
    await requests(database, 5, version="chat@1")
    await look(database, deployment_id)
    assert await counts(database, deployment_id) == (5, 0)
    assert (await gate(database, deployment_id)).quality.pair.control.n == 0


async def test_a_rollout_of_an_endpoint_counts_that_endpoint_alone(database: Database) -> None:
    await prepare(database)
    await first_config(database, "chat")
    opened = await canary(database, "chat:answer")
    await requests(database, 5, version="chat@1", endpoint="answer")
    await requests(database, 6, version="chat:answer@1", endpoint="answer", of=NEW)
    await requests(database, 100, version="chat@1", endpoint="summarize")
    await look(database, opened)
    assert await counts(database, opened) == (5, 6)


async def test_a_rollout_of_all_compares_within_each_service_that_inherits(database: Database) -> None:
    await prepare(database)
    await first_config(database, "global")
    await first_config(database, "own")
    opened = await canary(database, "global")
    # Pooled, the canary would look slow: it has the slow service's traffic, and control the quick one's.
    for service, latency_ms, old, new in (("quick", 100.0, 90, 10), ("slow", 900.0, 10, 90)):
        await requests(database, old, version="global@1", service=service, latency_ms=latency_ms)
        await requests(database, new, version="global@2", service=service, latency_ms=latency_ms, of=NEW)
    await requests(database, 500, version="global@1", service="own")
    await look(database, opened)
    assert await counts(database, opened) == (100, 100)
    pair = (await gate(database, opened)).latency.pair
    assert pair.canary_mean == pytest.approx(pair.control_mean)


async def test_a_score_is_joined_to_its_request(database: Database, deployment_id: str) -> None:
    await requests(database, version="chat@1", request_id="a")
    await requests(database, version="chat@2", of=NEW, request_id="b")
    await requests(database, version=None, of=NEW, request_id="c")
    await requests(database, version="chat@1", service="search", request_id="d")
    await score(database, 80.0, request_id="a")
    await score(database, 60.0, request_id="b")
    await score(database, 70.0, request_id="c")
    await score(database, 1.0, request_id="d")
    await score(database, 2.0, request_id="unheard-of")
    await score(database, 3.0)
    await look(database, deployment_id)
    pair = (await gate(database, deployment_id)).quality.pair
    assert (pair.control.n, pair.canary.n) == (1, 2)
    assert (pair.control_mean, pair.canary_mean) == pytest.approx((80.0, 65.0))


async def test_a_score_may_name_its_version_and_come_after_its_request(
    database: Database, deployment_id: str
) -> None:
    await requests(database, version="chat@2", of=NEW, request_id="late")
    await look(database, deployment_id, 1)
    await score(database, 60.0, request_id="late")
    await score(database, 90.0, version="chat@1")
    await look(database, deployment_id, 2)
    pair = (await gate(database, deployment_id)).quality.pair
    assert (pair.control.n, pair.canary.n) == (1, 1)


async def test_latency_is_of_successes_and_cost_of_what_is_priced(
    database: Database, deployment_id: str
) -> None:
    for version, of in (("chat@1", OLD), ("chat@2", NEW)):
        await requests(database, 4, version=version, of=of, failed=3)
        await requests(database, 2, version=version, of=of, cost_usd=None)
    await look(database, deployment_id)
    state = await gate(database, deployment_id)
    assert (state.errors.errors, state.errors.n) == (3, 6)
    assert state.latency.pair.canary.n == 3
    assert state.cost.pair.canary.n == 4


async def test_a_look_renews_the_watch_and_tells_of_a_pause(database: Database, deployment_id: str) -> None:
    before = (await get_rollout(database, deployment_id)).watched_until
    assert before is not None
    assert not (await look(database, deployment_id, 1)).all_paused
    async with database.transaction() as session:
        revision = (await control.pause(session, reason=None, by="ada")).revision
    paused = await look(database, deployment_id, 2)
    assert (paused.all_paused, paused.revision) == (True, revision)
    after = (await get_rollout(database, deployment_id)).watched_until
    assert after is not None
    assert after > before


async def test_who_lost_the_rollout_may_not_look(database: Database, deployment_id: str) -> None:
    with pytest.raises(RolloutClosed):
        await look(database, deployment_id, fence=1)


async def test_a_lapsed_watch_is_not_renewed(database: Database, deployment_id: str) -> None:
    await lapse(database, deployment_id)
    lapsed: Rollout = await get_rollout(database, deployment_id)
    with pytest.raises(LeaseLapsed):
        await look(database, deployment_id)
    assert (await get_rollout(database, deployment_id)).watched_until == lapsed.watched_until


async def test_measured_improvements_are_fractions_of_control_and_positive_where_better(
    database: Database, deployment_id: str
) -> None:
    await requests(database, 40, version="chat@1", latency_ms=400.0, cost_usd=0.004)
    await requests(database, 40, version="chat@2", of=NEW, latency_ms=500.0, cost_usd=0.001)
    await score(database, 80.0, version="chat@1")
    await score(database, 88.0, version="chat@2")
    await look(database, deployment_id)
    async with database.transaction() as session:
        improvements = (await ledger.improvements(session, [deployment_id]))[deployment_id]
    assert improvements["cost.avg"] == pytest.approx(0.75)
    assert improvements["latency.avg"] == pytest.approx(-0.25)
    assert improvements["quality.avg"] == pytest.approx(0.1)


async def test_the_table_names_each_guardrail_with_both_arms_figures(
    database: Database, deployment_id: str
) -> None:
    await requests(database, 50, version="chat@1", latency_ms=400.0)
    await requests(database, 50, version="chat@2", of=NEW, latency_ms=500.0)
    table = (await look(database, deployment_id)).table
    assert "| latency.avg | 400 (n 50) | 500 (n 50) | 100 (" in table
    assert "| quality.avg | – (n 0) | – (n 0) | – | 1 |" in table
