"""The product as users start it: `llm-optimizer dev`, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

START_SECONDS = 60


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The addresses that `dev --json` prints, while it runs."""
    folder: Path = tmp_path_factory.mktemp("product")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPTIMIZER_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "dev", "--json", "--port", "0", "--data-dir", str(folder)],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"dev ended with code {process.wait(START_SECONDS)}"
        yield json.loads(line)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        process.stdout.close()
