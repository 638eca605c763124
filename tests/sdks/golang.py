"""Modules of one program that use the Go SDK of this repository by a replace directive."""

from pathlib import Path

from tests.sdks.tools import need, run

MODULE = Path(__file__).parents[2] / "sdks" / "go"
GO_MOD = """module example

go 1.21

require github.com/llm-auto-optimizer/go-sdk v0.0.0

replace github.com/llm-auto-optimizer/go-sdk => {module}
"""


def run_go(*arguments: str, folder: Path) -> str:
    """What `go <arguments>` prints in a folder; skipped without Go, but in CI that fails."""
    need("go")
    return run("go", *arguments, cwd=folder, GOFLAGS="", GOWORK="off")


def build(source: str, folder: Path) -> Path:
    """The program of one file, built in an empty folder."""
    (folder / "go.mod").write_text(GO_MOD.format(module=MODULE), encoding="utf-8")
    (folder / "main.go").write_text(source, encoding="utf-8")
    run_go("build", "-o", "example", ".", folder=folder)
    return folder / "example"
