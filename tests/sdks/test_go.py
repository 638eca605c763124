"""The Go SDK keeps its own tests, and builds into an application's program."""

import subprocess
from pathlib import Path

from tests.sdks.go_toolchain import SDK, build, go

APPLICATION = """package main

import (
	"context"
	"errors"
	"fmt"

	optimizer "github.com/llm-auto-optimizer/go-sdk"
)

func main() {
	client := optimizer.NewClient(optimizer.Config{Endpoint: "http://127.0.0.1:1", Retries: -1})
	defer client.Close(context.Background())
	_, err := client.GetHealth(context.Background())
	fmt.Println(errors.Is(err, optimizer.ErrNoAnswer))
}
"""


def test_its_own_tests_pass_under_the_race_detector() -> None:
    go("vet", "./...", cwd=SDK)
    assert go("test", "-race", "-count=1", "./...", cwd=SDK).startswith("ok")


def test_an_application_builds_with_it(tmp_path: Path) -> None:
    source = tmp_path / "source.go"
    source.write_text(APPLICATION)
    folder = tmp_path / "application"
    folder.mkdir()
    program = build(source, folder)
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "true\n"
