"""The main job end to end: traffic from files, a decision, a rollout behind gates, the outcome."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.replaying.synthetic import write_arrivals, write_outcomes

REAL = Path(__file__).parents[3] / "shared" / "traces"
REAL_MODELS = (
    "gpt4Turbo=openai/gpt-4-1106-preview",
    "mixtral8x7b=mistral/mixtral-8x7b-instruct-v0.1",
)
MADE_MODELS = ("large=openai/gpt-4o", "small=openai/gpt-4o-mini")


class Traffic:
    """Files of traffic, a floor of quality that the cheaper model keeps, and one that it breaks."""

    def __init__(
        self, origin: str, arrivals: Path, outcomes: Path, models: tuple[str, str], kept: float, broken: float
    ) -> None:
        self.origin, self.arrivals, self.outcomes, self.models = origin, arrivals, outcomes, models
        self.kept, self.broken = kept, broken


@pytest.fixture(scope="session")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traffic]:
    """The recorded traces where they are, else traffic of the project's own making."""
    if REAL.is_dir():
        yield Traffic(
            "recorded traces",
            REAL / "azure_llm_conversation_2023.csv",
            REAL / "gsm8k_outcomes.csv",
            REAL_MODELS,
            kept=55,
            broken=75,
        )
        return
    folder = tmp_path_factory.mktemp("traffic")
    write_arrivals(folder / "arrivals.csv", seed=1)
    write_outcomes(folder / "outcomes.csv", seed=1)
    yield Traffic(
        "made-up traffic",
        folder / "arrivals.csv",
        folder / "outcomes.csv",
        MADE_MODELS,
        kept=65,
        broken=85,
    )


def replay(product: dict[str, Any], traffic: Traffic, tmp_path: Path, *, floor: float) -> dict[str, Any]:
    """Run the command, and give its report."""
    policy = tmp_path / "policy.json"
    constraint = {"type": "hard", "metric": "quality.avg", "min": floor}
    policy.write_text(json.dumps({"constraints": [constraint]}))
    command = [sys.executable, "-m", "cli", "replay", "--json"]
    for model in traffic.models:
        command += ["--model", model]
    command += ["--arrivals", str(traffic.arrivals), "--outcomes", str(traffic.outcomes)]
    command += ["--policy", str(policy), "--endpoint", product["api"], "--service", f"floor-{floor:g}"]
    sys.stderr.write(f"replaying {traffic.origin} with a quality floor of {floor:g}\n")
    done = subprocess.run(
        command,
        env={**os.environ, "OPTIMIZER_API_KEY": product["key"]},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_cheaper_model_is_adopted_where_the_floor_allows_it(
    product: dict[str, Any], traffic: Traffic, tmp_path: Path
) -> None:
    report = replay(product, traffic, tmp_path, floor=traffic.kept)
    assert report["decision"] == "optimize"
    assert report["status"] == "completed"
    assert [step["verdict"] for step in report["steps"]] == ["healthy"] * len(report["steps"])
    assert report["steps"][-1]["percent"] == 100
    assert report["after"]["cost"] < 0.2 * report["before"]["cost"]
    assert report["after"]["quality"] > traffic.kept
    assert report["canaryRequests"] > 200


def test_cheaper_model_is_refused_where_the_floor_forbids_it(
    product: dict[str, Any], traffic: Traffic, tmp_path: Path
) -> None:
    report = replay(product, traffic, tmp_path, floor=traffic.broken)
    if report["decision"] == "skip":
        assert f"{traffic.broken:g}" in report["reasoning"]
    else:
        assert report["status"] == "rolled_back"
    assert report["after"]["cost"] == pytest.approx(report["before"]["cost"], rel=0.5)
