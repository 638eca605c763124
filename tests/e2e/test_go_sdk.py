"""A Go application against the product: it reports, rolls out a canary, assigns units as the server does."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx

from tests.sdks.go_toolchain import build

SOURCE = Path(__file__).parent / "go_sdk" / "main.go"


def test_an_application_in_go(product: dict[str, Any], tmp_path: Path) -> None:
    started = int(time.time() * 1000)
    done = subprocess.run(
        [build(SOURCE, tmp_path), product["api"]],
        env={**os.environ, "OPTIMIZER_API_KEY": product["key"]},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    service = seen["service"]
    headers = {"Authorization": f"Bearer {product['key']}"}
    with httpx.Client(base_url=f"{product['api']}/api/v1", headers=headers) as server:
        query = {
            "services": [service],
            "metrics": ["requests.count"],
            "timeRange": {"start": started - 1000, "end": int(time.time() * 1000) + 1000},
        }
        counted = server.post("/analytics/metrics", json=query).raise_for_status().json()
        answers = {
            unit: server.get(f"/config/service/{service}", params={"unit": unit}).raise_for_status().json()
            for unit in seen["assigned"]
        }
        server.post(f"/deployments/{seen['deployment']}/abort").raise_for_status()
    assert [point["value"] for point in counted["metrics"][0]["dataPoints"]] == [seen["calls"]]
    assert seen["dropped"] == 0
    assert seen["assigned"] == {unit: answer["version"] for unit, answer in answers.items()}
    assert set(seen["assigned"].values()) == {f"{service}@1", f"{service}@2"}
