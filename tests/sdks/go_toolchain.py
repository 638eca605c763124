"""Go programs that use the SDK of this repository."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SDK = Path(__file__).parents[2] / "sdks" / "go"


def go(*arguments: str, cwd: Path) -> str:
    """The output of a go command. Without go, a test fails in CI and is skipped elsewhere."""
    program = shutil.which("go")
    if program is None:
        message = "go is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    done = subprocess.run(
        [program, *arguments], cwd=cwd, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, folder: Path) -> Path:
    """The program of one source file, built in an empty folder as an application would."""
    shutil.copy(source, folder / "main.go")
    (folder / "go.mod").write_text(
        "module application\n\ngo 1.21\n\n"
        "require github.com/llm-auto-optimizer/go-sdk v0.0.0\n\n"
        f"replace github.com/llm-auto-optimizer/go-sdk => {SDK}\n"
    )
    go("build", "-o", "application", ".", cwd=folder)
    return folder / "application"
