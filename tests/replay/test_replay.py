"""Workflows that began with an earlier version go on with this one: recorded histories play to their end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.replay.record import HISTORIES, RECORDINGS

ROOT = Path(__file__).parents[2]


def play(*files: Path, hash_seed: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.replay.play", *map(str, files)],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("hash_seed", [1, 4242])
def test_every_recorded_history_plays_in_the_sandbox(hash_seed: int) -> None:
    files = sorted(HISTORIES.glob("*.json"))
    assert {file.name.partition(".")[0] for file in files} == set(RECORDINGS)
    played = play(*files, hash_seed=hash_seed)
    assert played.returncode == 0, played.stderr


@pytest.mark.parametrize(("name", "steps"), [("rollout-canary", 4), ("rollout-rollback", 2)])
def test_the_recorded_canary_is_four_steps_and_its_rollback_two(name: str, steps: int) -> None:
    history = json.loads((HISTORIES / f"{name}.1.json").read_text(encoding="utf-8"))
    called = [
        event["activityTaskScheduledEventAttributes"]["activityType"]["name"]
        for event in history["events"]
        if "activityTaskScheduledEventAttributes" in event
    ]
    assert called.count("enter-step") == steps


def test_a_recorded_rollout_goes_on_in_a_second_run() -> None:
    assert len(list(HISTORIES.glob("rollout-acts.*.json"))) == 2


def test_a_history_that_does_not_fit_is_told(tmp_path: Path) -> None:
    source = HISTORIES / "rollout-canary.1.json"
    history = json.loads(source.read_text(encoding="utf-8"))
    scheduled = [
        event["activityTaskScheduledEventAttributes"]
        for event in history["events"]
        if "activityTaskScheduledEventAttributes" in event
    ]
    scheduled[3]["activityType"]["name"] = "extend-step"
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(history), encoding="utf-8")
    played = play(source, changed)
    assert played.returncode == 1
    (told,) = [line for line in played.stderr.splitlines() if ".json: " in line]
    assert told.startswith("changed.json: ")
    assert "extend-step" in told
