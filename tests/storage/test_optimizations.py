"""Runs of the loop: one open per service, claimed once, ended once."""

import asyncio

import pytest

from domain.errors import Conflict, NotFound
from domain.optimization import OptimizationRequest
from storage import control, optimizations, services
from storage.database import Database
from storage.optimizations import OptimizationClosed
from storage.tables import Optimization
from tests.storage import records
from tests.storage.locks import until_waiting
from tests.storage.records import events, get_run, open_run


async def claim(database: Database, run: Optimization) -> Optimization | None:
    async with database.transaction() as session:
        return await optimizations.claim(session, run.id)


async def finish(database: Database, run: Optimization) -> None:
    async with database.transaction() as session:
        await optimizations.finish(session, run.id, decision="skip", reasoning="nothing better")


async def fail(database: Database, run: Optimization) -> bool:
    async with database.transaction() as session:
        return await optimizations.fail(session, run.id, "no data")


async def test_a_run_without_services_covers_every_known_one(database: Database) -> None:
    with pytest.raises(NotFound, match="no service is known"):
        await _open_all(database)
    async with database.transaction() as session:
        await services.note(session, ["mail", "chat"])
    run = await _open_all(database)
    assert (run.status, run.phase, run.progress) == ("queued", "observe", 0)
    assert run.request["services"] == ["chat", "mail"]
    async with database.transaction() as session:
        assert [part.service for part in await optimizations.parts(session, run.id)] == ["chat", "mail"]


async def _open_all(database: Database) -> Optimization:
    async with database.transaction() as session:
        return await optimizations.open_optimization(
            session, OptimizationRequest(), triggered_by="manual", by="ada"
        )


async def test_an_unknown_service_is_named_and_nothing_is_opened(database: Database) -> None:
    async with database.transaction() as session:
        await services.note(session, ["chat"])
    request = OptimizationRequest(services=["chat", "mail", "code"])

    async def attempt() -> None:
        async with database.transaction() as session:
            await optimizations.open_optimization(session, request, triggered_by="manual", by="ada")

    with pytest.raises(NotFound, match=r"code, mail$"):
        await attempt()
    async with database.transaction() as session:
        assert (await optimizations.list_runs(session, service=None, limit=9, offset=0))[0] == 0


async def test_a_service_has_one_open_run_and_a_second_names_it(database: Database) -> None:
    run = await open_run(database, "chat", "mail")
    with pytest.raises(Conflict, match=f"mail by {run.id}") as refused:
        await open_run(database, "code", "mail")
    assert refused.value.details == {"held": {"mail": run.id}}
    # Nothing of the refused one is left, so that what it shared with nobody is free.
    await open_run(database, "code")
    await finish(database, run)
    await open_run(database, "chat", "mail")


async def test_twenty_at_once_open_one(database: Database) -> None:
    async with database.transaction() as session:
        await services.note(session, ["chat", "mail"])
    wanted = [("chat",), ("mail",), ("chat", "mail"), ("mail", "chat")] * 5
    results = await asyncio.gather(*(open_run(database, *names) for names in wanted), return_exceptions=True)
    opened = [result for result in results if isinstance(result, Optimization)]
    covered = sorted(service for run in opened for service in run.request["services"])
    assert covered in (["chat", "mail"], ["chat"], ["mail"])
    assert sum(isinstance(result, Conflict) for result in results) == len(wanted) - len(opened)


async def test_a_tick_that_comes_twice_opens_one_run(database: Database) -> None:
    first = await open_run(database, "chat", triggered_by="timer", trigger_key="schedule/chat/1")
    again = await open_run(database, "chat", triggered_by="timer", trigger_key="schedule/chat/1")
    assert again.id == first.id
    await finish(database, first)
    assert (await open_run(database, "chat", trigger_key="schedule/chat/1")).id == first.id
    assert (await open_run(database, "chat", trigger_key="schedule/chat/2")).id != first.id


async def test_a_run_is_claimed_by_its_workflow(database: Database) -> None:
    run = await open_run(database, "chat")
    started = set()
    for _ in range(2):
        assert await claim(database, run) is not None
        row = await get_run(database, run.id)
        assert (row.status, row.dispatched) == ("running", True)
        started.add(row.started_at)
    assert len(started) == 1
    assert None not in started
    await fail(database, run)
    with pytest.raises(OptimizationClosed, match="no data"):
        await claim(database, run)


async def test_a_pause_holds_a_run_before_its_claim_and_before_each_phase(database: Database) -> None:
    run = await open_run(database, "chat")

    async def begin_phase() -> bool:
        async with database.transaction() as session:
            return await optimizations.begin_phase(session, run.id, phase="analyze", progress=30)

    async with database.transaction() as session:
        await control.pause(session, reason=None, by="ada")
    assert await claim(database, run) is None
    assert not await begin_phase()
    row = await get_run(database, run.id)
    assert (row.status, row.phase, row.progress) == ("queued", "observe", 0)
    async with database.transaction() as session:
        await control.resume(session, by="ada")
    assert await claim(database, run) is not None
    assert await begin_phase()
    row = await get_run(database, run.id)
    assert (row.status, row.phase, row.progress) == ("running", "analyze", 30)


async def test_the_first_end_of_a_run_holds(database: Database) -> None:
    run = await open_run(database, "chat")
    await claim(database, run)
    await finish(database, run)
    assert await fail(database, run) is False
    await finish(database, run)
    row = await get_run(database, run.id)
    assert (row.status, row.progress, row.decision, row.error) == ("completed", 100, "skip", None)
    (event,) = await events(database, "optimization.complete")
    assert event.scope == "chat"
    assert row.started_at is not None
    assert row.ended_at is not None
    assert event.data == {
        "optimizationId": run.id,
        "decision": "skip",
        "duration": row.ended_at - row.started_at,
        "changesApplied": False,
    }


async def test_a_run_that_fails_withdraws_what_has_not_begun(database: Database) -> None:
    for scope in ("chat", "mail"):
        await records.first_config(database, scope)
    run = await open_run(database, "chat", "mail")
    pending = await records.open_for_run(database, run, "chat", "gpt-5")
    begun = await records.open_for_run(database, run, "mail", "gpt-5")
    await records.enter(database, begun.id)
    assert await fail(database, run)
    assert (await records.get_rollout(database, pending.id)).status == "rolled_back"
    assert (await records.get_rollout(database, begun.id)).status == "running"
    (event,) = await events(database, "optimization.complete")
    assert (event.scope, event.data["changesApplied"]) == ("global", False)


async def test_a_refused_start_ends_a_queued_run_alone(database: Database) -> None:
    async def refuse(run: Optimization) -> bool:
        async with database.transaction() as session:
            return await optimizations.refuse(session, run.id, "Temporal cannot be reached")

    queued, running = await open_run(database, "chat"), await open_run(database, "mail")
    assert await refuse(queued)
    assert not await refuse(queued)
    await claim(database, running)
    assert not await refuse(running)
    assert (await get_run(database, queued.id)).status == "failed"
    assert (await get_run(database, running.id)).status == "running"


async def test_a_claim_that_comes_while_a_start_is_refused_is_not_undone(database: Database) -> None:
    run = await open_run(database, "chat")
    async with asyncio.TaskGroup() as group, database.transaction() as session:
        await optimizations.claim(session, run.id)
        refusing = group.create_task(_refuse(database, run))
        await until_waiting(database)
    assert refusing.result() is False
    assert (await get_run(database, run.id)).status == "running"


async def _refuse(database: Database, run: Optimization) -> bool:
    async with database.transaction() as session:
        return await optimizations.refuse(session, run.id, "Temporal cannot be reached")


async def test_a_completed_run_is_shown_with_its_rollouts_as_they_are_now(database: Database) -> None:
    await records.first_config(database, "chat")
    run = await open_run(database, "chat")
    await claim(database, run)
    opened = await records.open_for_run(database, run, "chat", "gpt-5")
    async with database.transaction() as session:
        shown = await optimizations.status(session, await optimizations.get(session, run.id))
    assert (shown.status, shown.result) == ("running", None)
    await finish(database, run)
    for status, move in (("pending", None), ("running", records.enter), ("completed", records.complete)):
        if move is not None:
            await move(database, opened.id)
        async with database.transaction() as session:
            shown = await optimizations.status(session, await optimizations.get(session, run.id))
        assert shown.result is not None
        (deployment,) = shown.result.deployments
        assert (deployment.deployment_id, deployment.config_version) == (opened.id, "chat@2")
        assert (deployment.status, shown.result.changes_applied) == (status, True)


async def test_runs_are_listed_newest_first_by_service(database: Database) -> None:
    runs = [await open_run(database, name) for name in ("chat", "mail", "code")]
    async with database.transaction() as session:
        total, page = await optimizations.list_runs(session, service=None, limit=2, offset=0)
        assert (total, [run.id for run in page]) == (3, [runs[2].id, runs[1].id])
        total, page = await optimizations.list_runs(session, service="mail", limit=2, offset=0)
        assert (total, [run.id for run in page]) == (1, [runs[1].id])
        with pytest.raises(NotFound):
            await optimizations.get(session, "opt_unknown")
        with pytest.raises(NotFound, match="does not cover mail"):
            await optimizations.part(session, runs[0].id, "mail")
