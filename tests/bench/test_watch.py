"""The watch's benchmark, in short; `python -m bench.watch` runs it in full."""

import json
from typing import Any

import pytest

from bench.watch import arguments_of, measured
from storage.database import Database


async def test_more_services_take_no_more_statements(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    statements = []
    for services in ("2", "9"):
        given = ["--services", services, "--minutes", "5", "--looks", "1"]
        assert await measured(database, arguments_of(given)) == 0
        printed: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert printed["services"] == int(services)
        (made,) = (gate["figure"] for gate in printed["gates"] if gate["name"] == "statements of a look")
        statements.append(made)
    assert statements[0] == statements[1]
