"""What replicas serve from memory: it follows the database, and outlives it."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from domain.config import LLMConfig
from domain.errors import DatabaseError
from domain.policy import ServicePolicy, Strategy
from domain.rollout_plan import plan_rollout
from domain.scope import Scope
from infra.embedded import EmbeddedStack, started
from storage import configs, control, keys, rollback, rollouts, services
from storage.database import Database
from storage.snapshot import LiveSnapshot, Snapshot

CONFIG = LLMConfig(
    provider="openai",
    model="gpt-4o",
    temperature=0.5,
    top_p=1.0,
    max_tokens=100,
    streaming=False,
    function_calling=False,
    vision_enabled=False,
)


async def first_config(database: Database, scope: str, config: LLMConfig = CONFIG) -> str:
    async with database.transaction() as session:
        state = await configs.lock_scope(session, scope)
        version = await configs.apply_first(
            session, state, config, by="ada", change_type="manual", reason="first"
        )
        return version.version


async def open_rollout(database: Database, strategy: Strategy = "canary") -> str:
    policy = ServicePolicy(service="chat")
    async with database.transaction() as session:
        row = await rollouts.open_rollout(
            session,
            rollouts.NewRollout(
                scope="chat",
                config=CONFIG.model_copy(update={"model": "gpt-4o-mini"}),
                plan=plan_rollout(policy.rollout, strategy, None),
                policy=policy,
                change_type="manual",
                by="ada",
                reason="cheaper",
            ),
        )
        begun = await rollouts.begin(session, row.id)
        assert begun is not None
        await rollouts.enter_step(session, row.id, fence=begun.fence, step=0, at=1_760_000_000_000)
        return row.id


async def until(live: LiveSnapshot, condition: Callable[[Snapshot], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            if condition(live.current):
                return
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def live(database: Database) -> AsyncIterator[LiveSnapshot]:
    # So rarely polled that only a notification can bring a change in time.
    started = LiveSnapshot(database, poll_seconds=3600)
    await started.start()
    yield started
    await started.close()


async def test_a_change_is_heard_of(database: Database, live: LiveSnapshot) -> None:
    assert live.current.serving.resolve(Scope("chat")) is None
    version = await first_config(database, "global")
    await until(live, lambda now: now.serving.resolve(Scope("chat")) is not None)
    served = live.current.serving.resolve(Scope("chat"))
    assert served is not None
    assert (served.control.version, served.control.applied_by) == (version, "ada")
    assert served.control.config == CONFIG.to_json()
    assert abs(served.control.applied_at - live.now_ms()) < 60_000


async def test_a_change_is_found_by_polling_where_the_notification_was_lost(database: Database) -> None:
    live = LiveSnapshot(database, poll_seconds=0.05)
    await live.start()
    connection = await database.connect()
    await connection.execute("ALTER TABLE control DISABLE TRIGGER ALL; UPDATE control SET state = 'paused'")
    await connection.execute("ALTER TABLE control ENABLE TRIGGER ALL")
    await connection.close()
    await until(live, lambda now: now.control.state == "paused")
    await live.close()


async def test_a_share_is_served_with_both_arms_and_its_watch(database: Database, live: LiveSnapshot) -> None:
    control_version = await first_config(database, "global")
    deployment = await open_rollout(database)
    await until(live, lambda now: "chat" in now.serving.canaries)
    canary = live.current.serving.canaries["chat"]
    assert (canary.deployment_id, canary.traffic_percent) == (deployment, 5.0)
    assert (canary.control.version, canary.canary.version) == (control_version, "chat@1")
    assert canary.control.config["model"] == "gpt-4o"
    assert canary.canary.config["model"] == "gpt-4o-mini"
    assert 0 < canary.watched_until - live.now_ms() <= 90_000
    async with database.transaction() as session:
        row = await rollouts.lock(session, deployment)
        await rollback.roll_back(session, row, reason="harm", automatic=True)
    await until(live, lambda now: not now.serving.canaries)


async def test_an_immediate_rollout_has_no_share_beside_a_control(
    database: Database, live: LiveSnapshot
) -> None:
    await first_config(database, "chat")
    await open_rollout(database, "immediate")
    await until(live, lambda now: now.serving.active["chat"].version == "chat@2")
    assert live.current.serving.canaries == {}


async def test_keys_come_and_go(database: Database, live: LiveSnapshot) -> None:
    async with database.transaction() as session:
        row, key = await keys.create_key(session, name="app", scopes=["ingest", "read"])
        assert key not in repr(vars(row))
    await until(live, lambda now: keys.digest_of(key) in now.keys)
    principal = live.current.keys[keys.digest_of(key)]
    assert [principal.may(scope) for scope in keys.SCOPES] == [True, True, False, False]
    async with database.transaction() as session:
        revoked, ended = await keys.revoke_key(session, row.id)
        assert (revoked.id, ended) == (row.id, True)
        assert await keys.revoke_key(session, row.id) == (revoked, False)
    await until(live, lambda now: not now.keys)


async def test_policies_bring_their_prices(database: Database, live: LiveSnapshot) -> None:
    policy = ServicePolicy.model_validate(
        {
            "service": "chat",
            "searchSpace": {
                "models": [
                    {"provider": "acme", "model": "a", "pricePerMTokIn": 1.0},
                    {"provider": "acme", "model": "b"},
                ]
            },
        }
    )
    async with database.transaction() as session:
        await services.put_policy(session, policy)
    await until(live, lambda now: bool(now.prices))
    own = live.price_override("chat", "acme", "a")
    assert own is not None
    assert own.price_per_m_tok_in == 1.0
    assert live.price_override("chat", "acme", "b") is None
    assert live.price_override("other", "acme", "a") is None


async def test_a_stop_is_heard_of(database: Database, live: LiveSnapshot) -> None:
    await first_config(database, "chat")
    await open_rollout(database)
    await until(live, lambda now: bool(now.serving.canaries))
    async with database.transaction() as session:
        await control.emergency_stop(session, reason="smoke", by="ada")
    await until(live, lambda now: now.control.state == "stopped")
    assert live.current.serving.canaries == {}


async def test_it_outlives_the_database(stack: EmbeddedStack, database: Database, live: LiveSnapshot) -> None:
    await first_config(database, "chat")
    await until(live, lambda now: "chat" in now.serving.active)
    await started(stack.postgres).kill()
    try:
        with pytest.raises(DatabaseError):
            await live.refresh()
        assert live.current.serving.active["chat"].version == "chat@1"
        late = LiveSnapshot(database)
        await late.start()
        with pytest.raises(DatabaseError):
            _ = late.current
        await late.close()
    finally:
        await started(stack.postgres).start()
    await first_config(database, "mail")
    await until(live, lambda now: "mail" in now.serving.active)
