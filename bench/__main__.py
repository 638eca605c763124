"""Every benchmark of the hot paths, one after the other: `python -m bench`.

Each runs in a process of its own and prints its line. Then all gates are printed beside their figures; exits
with 1 where one is missed.
"""

import argparse
import json
import subprocess
import sys
from typing import Any

BENCHES = ("ingest", "kills", "config_reads", "analytics", "memory", "sdks", "rpc")


def run(name: str) -> dict[str, Any] | None:
    """The line that a benchmark prints; None where it printed none."""
    command = [sys.executable, "-m", f"bench.{name}"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    lines = ended.stdout.decode().splitlines()
    if not lines:
        return None
    print(lines[-1], flush=True)
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def row(bench: str, gate: dict[str, Any]) -> str:
    """A line of the table."""
    bound = f"at most {gate['ceiling']}" if "ceiling" in gate else f"at least {gate['floor']}"
    stretch = f", stretch {gate['stretch']}" if "stretch" in gate else ""
    told = "met" if gate["met"] else "MISSED"
    return f"{told:7}{bench}: {gate['name']} {gate['figure']} ({bound}{stretch})"


def main() -> int:
    """Run them from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("bench", nargs="*", help=f"of {', '.join(BENCHES)}; all, if none is given")
    given = parser.parse_args()
    unknown = set(given.bench) - set(BENCHES)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    found = {name: run(name) for name in BENCHES if not given.bench or name in given.bench}
    told = [line for line in found.values() if line is not None]
    judged = [(line["bench"], gate) for line in told for gate in line["gates"]]
    print()
    for bench, gate in judged:
        print(row(bench, gate))
    failed = [name for name, line in found.items() if line is None]
    for name in failed:
        print(f"FAILED {name}")
    return 0 if judged and not failed and all(gate["met"] for _, gate in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
