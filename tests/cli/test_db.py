"""`llm-optimizer db`: what it does, and what it says where it cannot."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from cli.main import app
from infra.embedded import EmbeddedStack
from storage.database import Database
from tests.activities.reports import prepare
from tests.storage.calls import call, roll_up, store

SINCE = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"


async def test_rollups_are_forgotten_to_be_made_again(
    database: Database, stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    await prepare(database)
    await store(database, [call()] * 3, ago_ms=5_000)
    await roll_up(database)
    monkeypatch.setenv("DATABASE_URL", stack.database_url)
    command = ["db", "rebuild-rollups", "--since", SINCE]
    ended = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert ended.exit_code == 0, ended.output
    assert SINCE in ended.stderr
    pool = await database.pool()
    assert await pool.fetchval("SELECT count(*) FROM rollup_minutes") == 0
    assert await roll_up(database) == 3


@pytest.mark.parametrize(
    ("environment", "arguments", "code", "named"),
    [
        ({}, ["--since", SINCE], 2, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"}, ["--since", SINCE], 1, "cannot be reached"),
        ({}, ["--since", "yesterday"], 2, "--since"),
        ({}, [], 2, "--since"),
    ],
)
def test_what_is_wrong_is_said(
    environment: dict[str, str],
    arguments: list[str],
    code: int,
    named: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ended = CliRunner().invoke(app, ["db", "rebuild-rollups", *arguments])
    assert ended.exit_code == code
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr
