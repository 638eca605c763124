from pathlib import Path

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError

from infra.embedded import EmbeddedStack
from infra.errors import BinaryNotFound
from infra.redis_server import find_redis


async def test_nobody_gets_in_without_the_password(stack: EmbeddedStack) -> None:
    assert stack.redis is not None
    once = Retry(NoBackoff(), retries=0)
    async with redis.asyncio.Redis(host="127.0.0.1", port=stack.redis.ports[0], retry=once) as client:
        with pytest.raises(AuthenticationError):
            await client.ping()


def test_the_one_on_path_is_the_second_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "redis-server"
    own.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_redis() != own
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert find_redis() == own


def test_none_at_all_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(BinaryNotFound, match="REDIS_URL") as failure:
        find_redis()
    assert len(failure.value.tried) == 2
