"""What the three SDKs cost an application: `python -m bench.sdks`.

That is the caller's time for a tracked call (its configuration by unit while a rollout runs, what it used,
its report queued) beside a bare one, and the memory of 10,000 metrics that wait. The server has no database
for reports: they pile up. Node and Go are told of, and left out, where they are missing; in CI that fails.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.gates import Gate, concluded

HERE = Path(__file__).parent
SDKS = HERE.parents[1] / "sdks"
QUEUED_MB = 20
GO_MOD = """module bench

go 1.21

require github.com/llm-auto-optimizer/go-sdk v0.0.0

replace github.com/llm-auto-optimizer/go-sdk => {sdk}
"""


def printed(*command: str | Path, folder: Path = HERE) -> str:
    """What a command prints; what it complains of goes on to whoever runs this."""
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout


def python() -> str:
    """The Python SDK's figures."""
    return printed(sys.executable, "-m", "bench.sdks.python", folder=HERE.parents[1])


def node() -> str:
    """The TypeScript SDK's figures, of the package as its lock file builds it."""
    sdk = SDKS / "typescript"
    if not (sdk / "node_modules").exists():
        printed("npm", "ci", "--no-audit", "--no-fund", folder=sdk)
    printed("npm", "run", "--silent", "build", folder=sdk)
    return printed("node", "--expose-gc", HERE / "node.mjs", sdk)


def go() -> str:
    """The Go SDK's figures."""
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder)
        (module / "go.mod").write_text(GO_MOD.format(sdk=SDKS / "go"), encoding="utf-8")
        shutil.copy(HERE / "go" / "main.go", module)
        return printed("go", "run", ".", HERE / "scenario.json", folder=module)


# What measures, the most that a tracked call may take beyond a bare one (us), and what it needs.
MEASURED = {"python": (python, 50, ()), "node": (node, 10, ("node", "npm")), "go": (go, 10, ("go",))}


def main() -> int:
    """Prints the figures beside their gates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sdk", nargs="*", help="python, node or go; all, if none is given")
    given = parser.parse_args()
    gates, figures = [], {}
    for name, (measure, most, needed) in MEASURED.items():
        if given.sdk and name not in given.sdk:
            continue
        missing = [tool for tool in needed if shutil.which(tool) is None]
        if missing:
            print(f"{name}: left out, {' and '.join(missing)} not installed", file=sys.stderr)
            if os.environ.get("CI"):
                return 1
            continue
        found = json.loads(measure().splitlines()[-1])
        beyond = found["trackedUs"] - found["bareUs"]
        gates += [
            Gate(f"{name}: tracked call beyond a bare one, us", round(beyond, 2), most, ceiling=True),
            Gate(f"{name}: 10,000 queued metrics, MB", round(found["queuedMB"], 2), QUEUED_MB, ceiling=True),
        ]
        ratio = round(found["trackedUs"] / found["bareUs"])
        figures[name] = {key: round(value, 4) for key, value in found.items()} | {"ratioToBareCall": ratio}
    return concluded("sdks", gates, **figures)


if __name__ == "__main__":
    sys.exit(main())
