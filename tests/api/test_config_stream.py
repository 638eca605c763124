"""`/config/stream`: the answer of a read, pushed at each change."""

import httpx

from domain.assignment import assigned_to_canary
from storage.database import Database
from tests.api.answers import done, refused
from tests.api.conftest import Served
from tests.api.streams import streaming
from tests.storage.records import change, config, enter, first_config, make

PATH = "/api/v1/config/stream"


async def test_the_stream_begins_with_the_present_and_brings_each_change(
    client: httpx.AsyncClient, database: Database
) -> None:
    # Over the API, which shows at once what it has changed.
    update = {"config": config("gpt-4o").to_json(), "reason": "first"}
    done(await client.post("/api/v1/config/update", json=update))
    async with (
        streaming(client, PATH) as of_all,
        streaming(client, PATH, params={"service": "chat", "endpoint": "/a"}) as of_endpoint,
    ):
        event = await of_all.next()
        assert event.event == "config"
        assert event.json() == done(await client.get("/api/v1/config/current"))
        assert (await of_endpoint.next()).json()["version"] == "global@1"
        await first_config(database, "mail", "other")
        await first_config(database, "chat", "gpt-4o-mini")
        changed = (await of_endpoint.next()).json()
        assert (changed["version"], changed["overrides"]) == ("chat@1", {"model": "gpt-4o-mini"})
        await first_config(database, "chat:/a", "o3")
        assert (await of_endpoint.next()).json()["config"]["model"] == "o3"
        await first_config(database, "global", "gpt-5")
        assert (await of_all.next()).json()["version"] == "global@2", "no other change was sent here"


async def test_units_get_their_side_of_a_rollout_until_its_watch_lapses(
    served: Served, database: Database
) -> None:
    await first_config(database, "chat", "gpt-4o")
    opened = await make(database, change("chat", "gpt-4o-mini"))
    assert opened.deployment_id is not None
    await enter(database, opened.deployment_id, 2)
    units = [f"user-{number}" for number in range(20)]
    given_canary = next(u for u in units if assigned_to_canary(opened.deployment_id, u, 50))
    given_control = next(u for u in units if not assigned_to_canary(opened.deployment_id, u, 50))
    async with (
        served() as one,
        served() as two,
        streaming(one, PATH, params={"service": "chat", "unit": given_canary}) as canary,
        streaming(two, PATH, params={"service": "chat", "unit": given_control}) as control,
        streaming(two, PATH, params={"service": "chat"}) as anybody,
    ):
        first = (await canary.next()).json()
        assert (first["version"], first["rollout"]["trafficPercent"]) == ("chat@2", 50)
        assert (await control.next()).json()["version"] == "chat@1"
        drawn = (await anybody.next()).json()["version"]
        pool = await database.pool()
        await pool.execute("UPDATE rollouts SET watched_until = watched_until + interval '1 second'")
        renewed = (await anybody.next()).json()
        assert renewed["version"] == drawn, "a stream keeps its draw"
        assert renewed["rollout"]["watchedUntil"] == first["rollout"]["watchedUntil"] + 1000
        assert (await canary.next()).json()["version"] == "chat@2"
        # From here on nothing happens but that the time runs out.
        await pool.execute("UPDATE rollouts SET watched_until = clock_timestamp() + interval '300 ms'")
        assert (await canary.next()).json()["version"] == "chat@2"
        lapsed = (await canary.next()).json()
    assert lapsed["version"] == "chat@1"
    assert "rollout" not in lapsed


async def test_there_is_no_stream_of_nothing(client: httpx.AsyncClient) -> None:
    refused(await client.get(PATH, params={"service": "chat"}), 404, "NOT_FOUND")
    refused(await client.get(PATH, params={"endpoint": "/a"}), 400, "INVALID_REQUEST")
    refused(await client.get(PATH, params={"other": "x"}), 400, "INVALID_REQUEST")
