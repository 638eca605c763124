from pathlib import Path

import pytest

from infra import temporal_build
from infra.errors import BinaryNotFound
from infra.temporal_binary import Unsuitable, find_temporal, server_version


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing in the cache, nowhere to download from, and one folder on PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return programs


def put_program(path: Path, answer: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
    return path


async def test_a_new_one_on_path_is_taken(bare: Path) -> None:
    program = put_program(bare / "temporal", "temporal version 1.9.0 (Server 1.32.0, UI 2.54.1)")
    assert await find_temporal(print) == program
    assert await server_version(program) == (1, 32, 0)


async def test_an_older_one_on_path_is_passed_over_for_one_built_before(bare: Path, tmp_path: Path) -> None:
    put_program(bare / "temporal", "temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)")
    cache = tmp_path / "cache" / "llm-auto-optimizer"
    key = temporal_build.source_key()
    built = put_program(cache / "temporal-devserver" / key / "temporal-devserver", "x (Server 1.32.0)")
    assert await find_temporal(print) == built


async def test_where_nothing_works_each_way_is_named_with_its_remedy(bare: Path, tmp_path: Path) -> None:
    old = put_program(bare / "temporal", "temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)")
    downloaded = tmp_path / "cache" / "llm-auto-optimizer" / "temporal-cli" / "temporal-sdk-python-1"
    put_program(downloaded, "temporal version 1.3.0 (Server 1.27.1, UI 2.36.0)")
    lines: list[str] = []
    with pytest.raises(BinaryNotFound) as failure:
        await find_temporal(lines.append)
    on_path, built, before, download, go = failure.value.tried
    assert on_path == f"temporal on PATH: {old} is server 1.29.1, and 1.32 or later is needed"
    assert built.startswith("built before")
    assert str(tmp_path / "cache") in built
    assert "1.27.1" in before
    assert download.startswith("the download by temporalio: ")
    assert go == "a build by Go: there is no go on PATH"
    assert all(attempt in str(failure.value) for attempt in failure.value.tried)
    assert "TEMPORAL_ADDRESS" in str(failure.value)
    assert lines == ["downloading the Temporal CLI"]


async def test_a_program_that_names_no_version_is_unsuitable(bare: Path) -> None:
    program = put_program(bare / "temporal", "something else")
    with pytest.raises(Unsuitable, match="names no server version"):
        await server_version(program)
