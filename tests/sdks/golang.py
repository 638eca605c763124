"""Go, and modules of one program that use the SDK of this repository by a replace directive."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MODULE = Path(__file__).parents[2] / "sdks" / "go"
GO_MOD = """module example

go 1.21

require github.com/llm-auto-optimizer/go-sdk v0.0.0

replace github.com/llm-auto-optimizer/go-sdk => {module}
"""


def need_go() -> str:
    """The go command. Without one the test is skipped, but in CI it fails."""
    found = shutil.which("go")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("go is not installed, and CI is to test the Go SDK")
        pytest.skip("go is not installed")
    return found


def run_go(*arguments: str, folder: Path, seconds: float = 600) -> str:
    """What `go <arguments>` prints in a folder; it fails with that where go does."""
    done = subprocess.run(
        [need_go(), *arguments],
        cwd=folder,
        env={**os.environ, "GOFLAGS": "", "GOWORK": "off"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def build(source: str, folder: Path) -> Path:
    """The program of one file, built in an empty folder."""
    (folder / "go.mod").write_text(GO_MOD.format(module=MODULE), encoding="utf-8")
    (folder / "main.go").write_text(source, encoding="utf-8")
    run_go("build", "-o", "example", ".", folder=folder)
    return folder / "example"
