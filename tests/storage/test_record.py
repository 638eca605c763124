"""The record of a service: what counted for it at each moment, and the rollouts that touched it."""

from collections.abc import Sequence

import pytest
import pytest_asyncio

from activities import checks
from storage import observations, record, served
from storage.database import Database
from storage.record import Extent, Record
from tests.storage.calls import roll_up
from tests.storage.past import HOUR_MS, canary, had, now, open_days, pass_hours
from tests.storage.records import change, complete, enter, first_config, make

DAY_MS = 24 * HOUR_MS


@pytest_asyncio.fixture(autouse=True)
async def days(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "ARRIVAL_MARGIN_MS", 0)
    await open_days(database)


async def read(database: Database, hours_ago: Sequence[float]) -> tuple[Record, int]:
    """The record for some moments, by the minute, and the time."""
    moment = await now(database)
    moments = [moment - round(hours * HOUR_MS) for hours in hours_ago]
    extent = Extent(moments, DAY_MS, 60_000, DAY_MS, 60_000, moment)
    async with database.snapshot() as session:
        return await record.read(session, await served.read(session, "chat"), extent), moment


async def test_an_endpoint_counts_until_it_has_a_configuration_of_its_own(database: Database) -> None:
    await first_config(database, "chat")
    await pass_hours(database, 3)
    await first_config(database, "chat:summarize")
    await pass_hours(database, 2)
    await had(database, [4, 3], "chat@1", n=10)
    await had(database, [4.5, 1], None, n=5, endpoint="summarize")
    await roll_up(database)
    found, moment = await read(database, [2.5, 0])
    before = moment - round(2.5 * HOUR_MS)
    assert [group.totals.n for group in found.history(0, before, at=before)] == [10 + 10, 5]
    assert [group.totals.n for group in found.history(0, moment, at=moment)] == [20]
    assert [n for _, n, _ in found.traffic(before, [HOUR_MS, DAY_MS])] == [10, 25]
    ((length, n, cost),) = found.traffic(moment, [DAY_MS])
    assert (length, n) == (DAY_MS, 20)
    assert cost == pytest.approx(0.2, rel=0.02)
    async with database.transaction() as session:
        (live,) = await observations.history(session, "chat", since=moment - DAY_MS, until=moment)
    (replayed,) = found.history(moment - DAY_MS, moment, at=moment)
    assert (replayed.version, replayed.totals.n, replayed.totals.last_at) == (
        live.version,
        live.totals.n,
        live.totals.last_at,
    )


async def test_a_version_s_first_report_is_found_also_after_the_last_moment(database: Database) -> None:
    await first_config(database, "chat")
    await had(database, [5, 2, 1], "chat@1", n=1)
    found, moment = await read(database, [4])
    at = moment - 4 * HOUR_MS
    first = found.first_report(["chat@1"], at, at=at)
    assert first is not None
    assert moment - 3 * HOUR_MS <= first <= moment - 2 * HOUR_MS
    assert found.first_report(["chat@2"], at, at=at) is None
    assert found.first_report(["chat@1"], moment, at=at) is None
    assert found.versions.keys() == {"chat@1"}


async def test_rollouts_of_what_the_service_served_are_its_own(database: Database) -> None:
    await first_config(database, "global")
    inherited = await make(database, change("global", "gpt-5"))
    assert inherited.deployment_id is not None
    await complete(database, inherited.deployment_id)
    await pass_hours(database, 2)
    own = await canary(database, "gpt-4o-mini", cost_usd=0.001)
    await complete(database, own)
    await pass_hours(database, 2)
    foreign = await make(database, change("global", "gpt-4o"))
    assert foreign.deployment_id is not None
    await enter(database, foreign.deployment_id)
    never_served = await make(database, change("chat", "gpt-5"))
    assert never_served.deployment_id is not None
    found, _ = await read(database, [0])
    assert [trial.deployment_id for trial in found.trials] == [inherited.deployment_id, own]
    trial = found.trials[1]
    assert (trial.before.model, trial.after.model, trial.status) == ("gpt-5", "gpt-4o-mini", "completed")
    assert (trial.harmed, trial.reason) == (False, None)
    cost = next(reading for reading in trial.readings if reading.metric == "cost.avg")
    assert (cost.control, cost.canary) == pytest.approx((0.01, 0.001), rel=0.01)


async def test_the_first_hour_with_a_request(database: Database) -> None:
    await had(database, [30, 3], "chat@1", n=1)
    moment = await now(database)
    async with database.snapshot() as session:
        first = await record.first_hour(session, "chat", moment - 5 * DAY_MS, moment)
        later = await record.first_hour(session, "chat", moment - 2 * DAY_MS, moment - 40 * HOUR_MS)
        nobody = await record.first_hour(session, "nobody", moment - 5 * DAY_MS, moment)
    assert first == (moment - 30 * HOUR_MS) // HOUR_MS * HOUR_MS
    assert later is None
    assert nobody is None
