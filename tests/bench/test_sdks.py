"""The benchmark of the SDKs, which takes its figures from all three."""

import json
import sys
from pathlib import Path

from tests.sdks.tools import need, run


def test_every_sdk_is_measured() -> None:
    need("node", "npm", "go")
    printed = run(sys.executable, "-m", "bench", "sdks", cwd=Path(__file__).parents[2])
    found = next(json.loads(line) for line in printed.splitlines() if line.startswith("{"))
    assert {gate["name"].partition(":")[0] for gate in found["gates"]} == {"python", "node", "go"}
    assert len(found["gates"]) == 6
    assert all(gate["met"] for gate in found["gates"]), found["gates"]
