"""The application over HTTP, as uvicorn serves it, on the real stack."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest
import pytest_asyncio
from temporalio.client import Client

from api.app import create_app
from api.connections import Limits
from api.serve import server_for
from api.temporal import Connect
from domain.rate_limits import RateLimits
from infra.embedded import EmbeddedStack
from storage import keys
from storage.database import Database

ADMIN_KEY = "admin-key-of-the-tests"
CONFIG = {
    "provider": "openai",
    "model": "gpt-4o",
    "temperature": 0.5,
    "topP": 1.0,
    "maxTokens": 100,
    "streaming": False,
    "functionCalling": False,
    "visionEnabled": False,
}

# One key asks for all the tests do.
UNLIMITED = RateLimits(reports=0, reads=0, writes=0, wrong_keys=0)

Served = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def served(stack: EmbeddedStack, database: Database, temporal: Client) -> Served:
    """Serves an application, with other arguments than usual where given, and gives a client for it."""

    async def connect() -> Client:
        return temporal

    @asynccontextmanager
    async def serve(
        *,
        database: Database = database,
        connect_temporal: Connect = connect,
        limits: Limits | None = None,
        **options: Any,
    ) -> AsyncIterator[httpx.AsyncClient]:
        usual: dict[str, Any] = {
            "admin_key": ADMIN_KEY,
            "redis_url": stack.redis_url,
            "step_seconds": 3.0,
            "rate_limits": UNLIMITED,
            # Tests ask at once for what they have just reported.
            "answer_seconds": 0.0,
        }
        app = create_app(database, connect_temporal, version="1.2.3", **(usual | options))
        server = server_for(app, host="127.0.0.1", port=0, limits=limits)
        task = asyncio.create_task(server.serve())
        while not server.started:
            assert not task.done(), "the server did not start"
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        address = f"http://127.0.0.1:{port}"
        try:
            async with httpx.AsyncClient(base_url=address, headers=headers, timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            await task

    return serve


@pytest_asyncio.fixture
async def client(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the admin key."""
    async with served() as opened:
        yield opened


@pytest_asyncio.fixture
async def key_with(client: httpx.AsyncClient, database: Database) -> Callable[..., Any]:
    """Makes a key with scopes, known to the server when it is given."""

    async def make(*scopes: keys.KeyScope, **options: Any) -> str:
        async with database.transaction() as session:
            _, key = await keys.create_key(session, name="+".join(scopes), scopes=scopes, **options)
        async with asyncio.timeout(10):
            while True:
                answer = await client.get("/api/v1/services", headers={"Authorization": f"Bearer {key}"})
                if answer.status_code != 401 or options.get("expires_at"):
                    return key
                await asyncio.sleep(0.01)

    return make
