"""The Python SDK's distribution as applications install it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sdks.tools import run, serving

ROOT = Path(__file__).parents[2]
SDK = ROOT / "sdks" / "python"
BIN = Path(sys.executable).parent
USE = """
import sys

from llm_auto_optimizer import OptimizerClient

with OptimizerClient(endpoint=sys.argv[1]) as client:
    with client.track_request(service="chat", endpoint="/api/chat") as tracker:
        print(tracker.config.version, tracker.config.model)
        tracker.set_tokens(input=1, output=2)
"""


def need_interpreter(python: str) -> None:
    """Skips the test where there is none of that name; `make lint` checks for the oldest in any case."""
    try:
        subprocess.run([python, "--version"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"{python} not installed; `make lint` checks that it would do")


@pytest.mark.parametrize("interpreter", [sys.executable, "python3.9"], ids=["this Python", "the oldest"])
def test_the_distribution_in_an_empty_folder(tmp_path: Path, interpreter: str) -> None:
    need_interpreter(interpreter)
    run(BIN / "uv", "build", "--quiet", "--out-dir", tmp_path / "dist", cwd=SDK)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert list((tmp_path / "dist").glob("*.tar.gz"))
    run(BIN / "uv", "venv", "--quiet", "--python", interpreter, "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(BIN / "uv", "pip", "install", "--quiet", "--python", python, wheel, cwd=tmp_path)
    (tmp_path / "use.py").write_text(USE, encoding="utf-8")
    with serving() as served:
        assert run(python, "use.py", served.address, cwd=tmp_path) == "chat@1 gpt-4o\n"
    assert [report["tags"] for report in served.reports] == [{"configVersion": "chat@1"}]
    # It brings httpx, mmh3 and what httpx needs.
    brought = run(BIN / "uv", "pip", "list", "--format", "freeze", "--python", python, cwd=tmp_path)
    names = {line.partition("==")[0] for line in brought.splitlines() if "==" in line}
    assert names <= {
        *("llm-auto-optimizer", "httpx", "mmh3", "httpcore", "h11", "anyio", "idna", "certifi"),
        *("sniffio", "typing-extensions", "truststore"),
    }
