"""A request that takes too long is given up, and changes nothing; an answer that has begun is not cut."""

import asyncio

import httpx
from sqlalchemy import text
from starlette.types import Receive, Scope, Send

from api.context import Bodies, RequestContext
from api.instruments import Instruments
from api.protocols import failure
from storage.database import Database
from tests.api.answers import done, refused
from tests.api.conftest import ADMIN_KEY, Served

PAUSE = "/api/v1/admin/pause"


async def test_a_request_that_hangs_is_given_up_and_changes_nothing(
    served: Served, database: Database
) -> None:
    async with served(request_seconds=0.5) as client:
        async with database.transaction() as session:
            await session.execute(text("LOCK TABLE control IN EXCLUSIVE MODE"))
            answer = await client.post(PAUSE, json={"reason": "slow"}, headers={"Idempotency-Key": "p"})
            refused(answer, 504, "TIMEOUT")
            assert answer.headers["retry-after"] == "1"
            done(await client.get("/api/v1/services"))
        again = await client.post(PAUSE, json={"reason": "slow"}, headers={"Idempotency-Key": "p"})
        assert done(again)["reason"] == "slow"


async def test_a_body_that_never_comes_is_not_waited_for(served: Served) -> None:
    async with served(request_seconds=0.5) as client:
        url = client.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(
            b"POST /api/v1/metrics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer " + ADMIN_KEY.encode() + b"\r\nContent-Length: 100\r\n\r\n{"
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n"), 60)
        assert head.startswith(b"HTTP/1.1 504")
        writer.close()
        await writer.wait_closed()


async def test_an_answer_that_has_begun_takes_its_time() -> None:
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.2)
        await send({"type": "http.response.body", "body": b"late"})

    limited = RequestContext(
        stream, instruments=Instruments(), bodies=Bodies(1, 1), seconds=0.05, failure=failure
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(limited), base_url="http://here") as client:
        assert (await client.get("/")).content == b"late"
