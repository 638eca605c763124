import asyncio
import re
import subprocess
from pathlib import Path

import pytest

from infra import temporal_build
from infra.errors import StackError
from infra.temporal_build import build, built_before, go_environment, source_key


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A program that is small and needs no module."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "go.mod").write_text("module small\n\ngo 1.21\n")
    (folder / "go.sum").touch()
    (folder / "main.go").write_text('package main\n\nfunc main() { println("small") }\n')
    return folder


def said_by(program: Path) -> str:
    return subprocess.run([program], check=True, stderr=subprocess.PIPE, text=True).stderr


async def test_two_builders_at_once_build_once(sources: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert built_before(cache, sources) is None
    one: list[str] = []
    other: list[str] = []
    first, second = await asyncio.gather(
        build(cache, one.append, sources), build(cache, other.append, sources)
    )
    assert first == second == built_before(cache, sources)
    assert said_by(first) == "small\n"
    assert "takes some minutes, this once" in one[0]
    assert other == ["another process is building the Temporal server; waiting for it"]
    assert {file.name for file in first.parent.iterdir()} == {"temporal-devserver", "lock", "build.log"}


async def test_what_was_built_is_not_built_again(sources: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    first = await build(tmp_path, lines.append, sources)
    born = first.stat().st_mtime_ns
    lines.clear()
    assert await build(tmp_path, lines.append, sources) == first
    assert first.stat().st_mtime_ns == born
    assert lines == []


async def test_a_long_build_tells_how_far_it_is(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporal_build, "PROGRESS_SECONDS", 0.001)
    lines: list[str] = []
    await build(tmp_path, lines.append, sources)
    progress = re.compile(
        r"building the Temporal server: compiling, \d+ of up to [1-9]\d* packages, 0:\d\d min"
    )
    assert any(progress.fullmatch(line) for line in lines)


async def test_a_failed_build_shows_what_go_said_and_leaves_no_program(sources: Path, tmp_path: Path) -> None:
    (sources / "main.go").write_text("package main\n\nfunc main() { undefinedThing() }\n")
    with pytest.raises(StackError, match="undefinedThing"):
        await build(tmp_path, print, sources)
    assert built_before(tmp_path, sources) is None


def test_the_key_follows_the_sources(sources: Path) -> None:
    key = source_key(sources)
    assert source_key(sources) == key
    (sources / "main.go").write_text("package main\n\nfunc main() {}\n")
    assert source_key(sources) != key


def test_settings_that_would_change_the_build_are_left_out() -> None:
    given = {
        "GOFLAGS": "-mod=mod",
        "GOOS": "plan9",
        "GOARCH": "arm",
        "GOPROXY": "https://proxy",
        "GOWORK": "x",
    }
    kept = go_environment(given)
    assert kept["GOPROXY"] == "https://proxy"
    assert "GOOS" not in kept
    assert "GOARCH" not in kept
    assert "-mod=mod" not in kept["GOFLAGS"]
    assert kept["GOWORK"] == "off"
