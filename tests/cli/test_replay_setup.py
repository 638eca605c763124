"""The policy that a replay sets, and how its options are read."""

from pathlib import Path
from typing import Any

import pytest

from cli.replaying.errors import ReplayError
from cli.replaying.options import ReplayModel, ReplayOptions, parse_models, with_latency
from cli.replaying.setup import compressed_policy, read_policy

MODELS = (ReplayModel("a", "openai", "gpt-4o"), ReplayModel("b", "mistral", "mixtral"))


def options(policy: dict[str, Any], speed: float = 60.0) -> ReplayOptions:
    return ReplayOptions(
        arrivals=Path("a"), outcomes=Path("o"), models=MODELS, policy=policy, service="chat", speed=speed
    )


def test_the_replays_models_are_the_search_space() -> None:
    policy = compressed_policy(options({}))
    assert policy.service == "chat"
    assert [model.key for model in policy.search_space.models] == ["openai/gpt-4o", "mistral/mixtral"]
    assert policy.automatic


def test_models_and_prices_of_the_policy_stand() -> None:
    model = {"provider": "openai", "model": "gpt-4o", "pricePerMTokIn": 1.0, "pricePerMTokOut": 2.0}
    policy = compressed_policy(
        options({"searchSpace": {"models": [model], "temperature": {"min": 0, "max": 1}}})
    )
    assert [m.price_per_m_tok_out for m in policy.search_space.models] == [2.0]
    assert policy.search_space.temperature is not None


@pytest.mark.parametrize(
    ("rollout", "speed", "step", "check"),
    [
        ({}, 60.0, 5.0, 0.5),
        ({}, 1.0, 300.0, 30.0),
        ({"stepSeconds": 120, "checkSeconds": 30}, 60.0, 2.0, 0.5),
        ({"stepSeconds": 300}, 300.0, 1.0, 0.2),
        ({"stepSeconds": 300, "checkSeconds": 300}, 60.0, 5.0, 5.0),
    ],
)
def test_steps_and_checks_are_shorter_by_the_speed(
    rollout: dict[str, Any], speed: float, step: float, check: float
) -> None:
    given = {"rollout": {"maxExtensions": 1, **rollout}}
    compressed = compressed_policy(options(given, speed)).rollout
    assert (compressed.step_seconds, compressed.check_seconds, compressed.max_extensions) == (step, check, 1)


@pytest.mark.parametrize(
    ("policy", "speed", "fault"),
    [
        ({"constrains": []}, 60, "constrains"),
        ({"constraints": [{"type": "hard", "metric": "quality.avg"}]}, 60, "needs min or max"),
        ({"maxRollbacksPerDay": float("nan")}, 60, "policy"),
        ({"searchSpace": {"models": [{"provider": "x", "model": "y"}]}}, 60, "x/y, which no --model names"),
        ({}, 600, "at most 300"),
    ],
)
def test_policies_that_cannot_be_replayed(policy: dict[str, Any], speed: float, fault: str) -> None:
    with pytest.raises(ReplayError, match=fault):
        compressed_policy(options(policy, speed))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", '{"automatic": false}'),
        ("p.yaml", "automatic: false"),
        ("p.yml", '{"automatic": false}'),
    ],
)
def test_a_policy_is_json_or_yaml(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert read_policy(tmp_path / name) == {"automatic": False}


@pytest.mark.parametrize(
    ("name", "text"), [("p.json", "{"), ("p.yaml", "a: [b"), ("p.yaml", "- 1"), ("p.yaml", "")]
)
def test_a_policy_that_is_none(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ReplayError, match=name):
        read_policy(tmp_path / name)
    with pytest.raises(ReplayError, match="No such file"):
        read_policy(tmp_path / "none.yaml")


def test_models_and_their_latency() -> None:
    models = parse_models(["a=openai/gpt-4", "b=meta/llama/3/8b=x"])
    assert models[1] == ReplayModel("b", "meta", "llama/3/8b=x")
    assert with_latency(models, ["b=150:80.5"])[1] == ReplayModel("b", "meta", "llama/3/8b=x", 150.0, 80.5)


@pytest.mark.parametrize(
    "texts", [["a"], ["a=b"], ["=b/c"], ["a=b/"], ["a=/c"], ["a=b/c", "a=b/d"], ["a=b/c", "d=b/c"]]
)
def test_models_that_are_none(texts: list[str]) -> None:
    with pytest.raises(ReplayError, match="--model"):
        parse_models(texts)


@pytest.mark.parametrize("text", ["c=1:2", "a", "a=1", "a=1:x", "a=1:0", "a=-1:2", "a=1:2:3", "a=nan:1"])
def test_latencies_that_are_none(text: str) -> None:
    with pytest.raises(ReplayError, match="--latency"):
        with_latency(MODELS, [text])
