"""The Go SDK: its own tests, and as a module that an application takes in."""

from pathlib import Path

from tests.sdks.golang import MODULE, build, run_go
from tests.sdks.tools import run, serving

USE = """package main

import (
	"context"
	"fmt"
	"log"
	"os"

	optimizer "github.com/llm-auto-optimizer/go-sdk"
)

func main() {
	client := optimizer.NewClient(optimizer.Config{Endpoint: os.Args[1]})
	err := client.Track(context.Background(), "chat", "/api/chat",
		func(ctx context.Context, tracker *optimizer.RequestTracker) error {
			config, err := tracker.Config(ctx)
			if err == nil {
				fmt.Println(config.Version, config.Model)
			}
			tracker.SetTokens(1, 2)
			return err
		})
	if err == nil {
		err = client.Close(context.Background())
	}
	if err != nil {
		log.Fatal(err)
	}
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
    program = build(USE, tmp_path)
    with serving() as served:
        assert run(program, served.address, cwd=tmp_path) == "chat@1 gpt-4o\n"
    assert [report["tags"] for report in served.reports] == [{"configVersion": "chat@1"}]
