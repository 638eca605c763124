"""The Python SDK's distribution as applications install it, and that its oldest Python could read it."""

import sys
from pathlib import Path

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


def test_the_distribution_in_an_empty_folder(tmp_path: Path) -> None:
    run(BIN / "uv", "build", "--quiet", "--out-dir", tmp_path / "dist", cwd=SDK)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert list((tmp_path / "dist").glob("*.tar.gz"))
    run(BIN / "uv", "venv", "--quiet", "--python", sys.executable, "venv", cwd=tmp_path)
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
