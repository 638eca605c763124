"""The Go SDK by its own tests, and as a module that an application takes in."""

import subprocess
from pathlib import Path

from tests.sdks.golang import MODULE, build, run_go

PROGRAM = """package main

import (
	"context"
	"errors"
	"fmt"

	optimizer "github.com/llm-auto-optimizer/go-sdk"
)

func main() {
	client := optimizer.NewClient(optimizer.Config{Endpoint: "http://127.0.0.1:1", Retries: -1})
	defer client.Close(context.Background())
	_, err := client.GetConfig(context.Background())
	fmt.Println(errors.Is(err, optimizer.ErrNoAnswer), client.DroppedReports())
}
"""


def test_its_own_tests() -> None:
    run_go("vet", "./...", folder=MODULE)
    run_go("test", "-race", "./...", folder=MODULE)


def test_it_needs_the_standard_library_alone() -> None:
    needed = run_go(
        "list", "-deps", "-test", "-f", "{{with .Module}}{{.Path}}{{end}}", "./...", folder=MODULE
    )
    assert set(needed.split()) == {"github.com/llm-auto-optimizer/go-sdk"}


def test_a_program_that_uses_it(tmp_path: Path) -> None:
    program = build(PROGRAM, tmp_path)
    done = subprocess.run([program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "true 0\n"
