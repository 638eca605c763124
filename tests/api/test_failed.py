"""What was waited for and failed: OPTIMIZATION_FAILED, DEPLOYMENT_FAILED, ROLLBACK_FAILED."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest_asyncio
from sqlalchemy import select
from temporalio.client import Client

from storage import rollouts
from storage.database import Database
from storage.tables import Rollout
from tests.api.answers import done, refused
from tests.api.conftest import CONFIG
from tests.waiting import until
from worker.run import running_worker

UPDATE = {"service": "chat", "config": CONFIG, "reason": "first"}
IMMEDIATE = UPDATE | {"config": CONFIG | {"topK": 5}, "deploymentStrategy": "immediate"}


@pytest_asyncio.fixture
async def worker(database: Database, temporal: Client) -> AsyncIterator[None]:
    async with running_worker(database, temporal, step_seconds=600.0):
        yield


@pytest_asyncio.fixture
async def chat(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client where the service `chat` has a configuration."""
    done(await client.post("/api/v1/config/update", json=UPDATE))
    return client


async def test_a_run_that_fails_while_its_plan_is_waited_for(chat: httpx.AsyncClient) -> None:
    waiting = asyncio.create_task(chat.post("/api/v1/optimize/trigger", params={"wait": 20}, json={}))

    async def opened() -> bool:
        return bool(done(await chat.get("/api/v1/optimize"))["total"])

    await until(opened)
    done(await chat.post("/api/v1/admin/emergency-stop", json={"reason": "answers are wrong"}))
    error = refused(await waiting, 500, "OPTIMIZATION_FAILED")
    assert "answers are wrong" in error["message"]
    run = done(await chat.get(f"/api/v1/optimize/{error['details']['optimizationId']}"))
    assert (run["status"], run["error"]) == ("failed", error["message"])


async def test_an_immediate_change_that_fails_before_it_is_served(
    chat: httpx.AsyncClient, database: Database
) -> None:
    waiting = asyncio.create_task(chat.post("/api/v1/config/update", json=IMMEDIATE))

    async def broke() -> bool:
        async with database.transaction() as session:
            row = (await session.execute(select(Rollout).with_for_update())).scalar_one_or_none()
            if row is None:
                return False
            await rollouts.fail(session, row, "its workflow broke")
            return True

    await until(broke)
    error = refused(await waiting, 500, "DEPLOYMENT_FAILED")
    assert "its workflow broke" in error["message"]
    deployment = done(await chat.get(f"/api/v1/deployments/{error['details']['deploymentId']}"))
    assert deployment["status"] == "failed"
    (event,) = done(await chat.get("/api/v1/events", params={"type": "deployment.failed"}))["events"]
    assert set(event["data"]) == {"deploymentId", "configVersion", "strategy", "progress", "error"}
    assert event["data"]["error"] == "its workflow broke"
    assert done(await chat.get("/api/v1/config/service/chat"))["version"] == "chat@1"


async def test_a_rollout_that_fails_while_it_is_taken_back(
    chat: httpx.AsyncClient, database: Database, worker: Any
) -> None:
    deployment = done(await chat.post("/api/v1/config/update", json=IMMEDIATE))["deploymentId"]
    pool = await database.pool()
    await pool.execute("""
        CREATE FUNCTION break_rollback() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN NEW.status := 'failed'; NEW.error := 'broken'; RETURN NEW; END $$;
        CREATE TRIGGER break_rollback BEFORE UPDATE ON rollouts FOR EACH ROW
        WHEN (NEW.status = 'rolled_back') EXECUTE FUNCTION break_rollback();
    """)
    try:
        error = refused(await chat.post(f"/api/v1/deployments/{deployment}/abort"), 500, "ROLLBACK_FAILED")
    finally:
        await pool.execute("DROP FUNCTION break_rollback() CASCADE")
    assert error["details"] == {"deploymentId": deployment}
    assert "broken" in error["message"]
