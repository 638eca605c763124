"""An application on the Go SDK against the real product: configurations, reports, a rollout."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx

from tests.sdks.golang import build

SOURCE = Path(__file__).parent / "go_sdk" / "main.go"
SERVICE = "go-chat"
CALLS = 41


def test_an_application_lives_through_a_rollout(product: dict[str, Any], tmp_path: Path) -> None:
    program = build(SOURCE.read_text(encoding="utf-8"), tmp_path)
    process = subprocess.Popen(
        [program, product["api"], SERVICE],
        env={**os.environ, "OPTIMIZER_API_KEY": product["key"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    output = process.stdout
    assert output is not None

    def seen() -> dict[str, Any]:
        line = output.readline()
        assert line, f"it ended with code {process.wait(10)}"
        read: dict[str, Any] = json.loads(line)
        return read

    try:
        version = f"{SERVICE}@1"
        assert seen() == {"updated": version, "served": version, "model": "gpt-4o"}
        assert seen() == {"counted": CALLS, "dropped": 0}
        rollout = seen()
        headers = {"Authorization": f"Bearer {product['key']}"}
        with httpx.Client(base_url=product["api"], headers=headers) as server:
            path = f"/api/v1/config/service/{SERVICE}"
            answered = {
                unit: server.get(path, params={"unit": unit}).json()["version"]
                for unit in rollout["assigned"]
            }
        assert rollout["assigned"] == answered
        canaries = list(answered.values()).count(rollout["canary"])
        assert 0.3 < canaries / len(answered) < 0.7, "half of the units are to get the canary"
        process.stdin.write("on\n")
        process.stdin.flush()
        assert seen() == {"temperature": 0.7, "dropped": 0}
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait(10)
        process.stdin.close()
        output.close()
