"""Temporal's schedules follow the policies and the control row, and leave an operator's pause alone."""

from datetime import timedelta

import pytest
from temporalio.client import Client, ScheduleDescription
from temporalio.service import RPCError

from domain.policy import ServicePolicy
from storage import control, services
from storage.database import Database
from tests.activities.reports import prepare, requests
from tests.storage import records
from tests.waiting import until
from worker.run import running_worker
from worker.schedules import Schedules
from workflows import ids


@pytest.fixture
def schedules(database: Database, temporal: Client, unscheduled: None) -> Schedules:
    return Schedules(database, temporal)


async def put(database: Database, name: str, every_seconds: int, *, enabled: bool = True) -> None:
    schedule = {"everySeconds": every_seconds, "enabled": enabled}
    async with database.transaction() as session:
        policy = ServicePolicy.model_validate({"service": name, "schedule": schedule})
        await services.put_policy(session, policy)


async def described(client: Client, name: str) -> ScheduleDescription | None:
    try:
        return await client.get_schedule_handle(ids.schedule(name)).describe()
    except RPCError:
        return None


async def test_there_is_a_schedule_for_each_service_that_wants_one(
    database: Database, temporal: Client, schedules: Schedules
) -> None:
    await put(database, "chat", 600)
    await put(database, "mail", 600, enabled=False)
    for _ in range(2):
        await schedules.sync()
    found = await described(temporal, "chat")
    assert found is not None
    (interval,) = found.schedule.spec.intervals
    jitter = found.schedule.spec.jitter
    assert jitter is not None
    assert (interval.every, jitter) == (timedelta(seconds=600), timedelta(seconds=60))
    assert found.schedule.policy.catchup_window == timedelta(seconds=60)
    assert not found.schedule.state.paused
    assert await described(temporal, "mail") is None


async def test_a_changed_policy_changes_its_schedule_and_a_withdrawn_one_ends_it(
    database: Database, temporal: Client, schedules: Schedules
) -> None:
    for name in ("chat", "mail", "code"):
        await put(database, name, 600)
    await schedules.sync()
    await put(database, "chat", 900)
    await put(database, "mail", 600, enabled=False)
    await schedules.sync()
    found = await described(temporal, "chat")
    assert found is not None
    assert found.schedule.spec.intervals[0].every.total_seconds() == 900
    assert await described(temporal, "mail") is None
    # Withdrawn while no worker ran: a new one finds it.
    await put(database, "code", 600, enabled=False)

    async def listed() -> bool:
        return ids.schedule("code") in [found.id async for found in await temporal.list_schedules()]

    await until(listed)
    await Schedules(database, temporal).sync()
    assert await described(temporal, "code") is None


async def test_a_pause_pauses_every_schedule_but_an_operator_s_own_stays(
    database: Database, temporal: Client, schedules: Schedules
) -> None:
    for name in ("chat", "mail"):
        await put(database, name, 600)
    await schedules.sync()
    await temporal.get_schedule_handle(ids.schedule("mail")).pause(note="holidays")

    async def states() -> list[tuple[bool, str | None]]:
        await schedules.sync()
        found = [await described(temporal, name) for name in ("chat", "mail")]
        return [(one.schedule.state.paused, one.schedule.state.note) for one in found if one is not None]

    async with database.transaction() as session:
        row = await control.pause(session, reason=None, by="ada")
    assert await states() == [(True, f"optimizer:{row.revision}"), (True, "holidays")]
    async with database.transaction() as session:
        await control.emergency_stop(session, reason="smoke", by="ada")
    assert (await states())[0] == (True, f"optimizer:{row.revision + 1}")
    async with database.transaction() as session:
        await control.resume(session, by="ada")
    assert await states() == [(False, None), (True, "holidays")]


async def test_a_tick_opens_a_run_that_is_carried_out(
    database: Database, temporal: Client, schedules: Schedules
) -> None:
    await put(database, "chat", 600)
    await records.first_config(database, "chat")
    async with running_worker(database, temporal, step_seconds=1.0):

        async def scheduled() -> bool:
            return await described(temporal, "chat") is not None

        await until(scheduled)
        await temporal.get_schedule_handle(ids.schedule("chat")).trigger()

        async def ended() -> bool:
            return len(await records.events(database, "optimization.complete")) == 1

        await until(ended)
    pool = await database.pool()
    (run,) = await pool.fetch("SELECT status, triggered_by, created_by FROM optimizations")
    assert tuple(run) == ("completed", "timer", "schedule")


async def test_the_watch_opens_a_run_for_a_trigger_that_is_carried_out(
    database: Database, temporal: Client, schedules: Schedules
) -> None:
    await prepare(database)
    await records.first_config(database, "chat")
    await requests(database, 30, version="chat@1", failed=30)
    pool = await database.pool()
    await pool.execute("UPDATE metrics SET ts = ts - interval '2 minutes'")
    condition = {"metric": "errors", "op": ">", "value": 0.5, "window": "1h"}
    given = {"service": "chat", "triggers": [{"condition": condition, "cooldownMs": 60_000}]}
    async with database.transaction() as session:
        await services.put_policy(session, ServicePolicy.model_validate(given))
    async with running_worker(database, temporal, step_seconds=1.0):

        async def ended() -> bool:
            return len(await records.events(database, "optimization.complete")) == 1

        await until(ended)
        found = await temporal.get_schedule_handle(ids.WATCH).describe()
    assert found.schedule.spec.intervals[0].every == timedelta(minutes=1)
    (run,) = await pool.fetch("SELECT status, triggered_by, created_by FROM optimizations")
    assert tuple(run) == ("completed", "threshold", "watch")
