"""Workflows import nothing that the sandbox would load twice, and nothing that does I/O."""

import subprocess
import sys

SHOW = """
import sys
import workflows.optimization, workflows.rollout, workflows.loop
print("\\n".join(sorted(sys.modules)))
"""


def test_workflows_import_neither_numpy_nor_anything_that_does_io() -> None:
    shown = subprocess.run([sys.executable, "-c", SHOW], check=True, capture_output=True, text=True)
    loaded = shown.stdout.split()
    assert "workflows.rollout" in loaded
    tops = {name.partition(".")[0] for name in loaded}
    forbidden = {"numpy", "scipy", "sklearn", "sqlalchemy", "asyncpg", "redis", "fastapi", "httpx"}
    assert not tops & (forbidden | {"storage", "activities", "worker", "api", "cli", "infra"})
    assert not [name for name in loaded if name.startswith(("domain.gate", "domain.decision"))]
