"""The commands, of which each brings no more than it needs."""

import subprocess
import sys

from typer.testing import CliRunner

from cli.main import COMMANDS, app

HEAVY = ("numpy", "scipy", "temporalio", "sqlalchemy", "asyncpg", "alembic", "grpc", "google.protobuf")
LOADED = f"""
import sys
from cli.main import app
try:
    app(["sidecar", "--help"])
except SystemExit:
    pass
import api.sidecar.app
print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""


def test_every_command_is_there() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    for name in COMMANDS:
        assert f" {name} " in shown
        assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0
    assert CliRunner().invoke(app, ["other"]).exit_code == 2


def test_a_sidecar_loads_neither_numbers_nor_databases() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
