"""Gets the service ready: its policy, with the time compressed, and the incumbent as its configuration."""

import json
from pathlib import Path
from typing import Any

import yaml
from llm_auto_optimizer import ConstraintViolationError, OptimizerClient
from pydantic import ValidationError

from cli.replaying.errors import ReplayError
from cli.replaying.options import ReplayModel, ReplayOptions
from domain.policy import ServicePolicy

_MIN_STEP_SECONDS = 1.0
_MIN_CHECK_SECONDS = 0.2
_MIN_MAX_TOKENS = 1024


def read_policy(path: Path) -> dict[str, Any]:
    """A ServicePolicy from a JSON or YAML file, as it stands there.

    Raises:
        ReplayError: the file cannot be read, or holds no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        policy = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ReplayError(f"{path}: {error}") from error
    if not isinstance(policy, dict):
        raise ReplayError(f"{path}: a policy is a mapping of its fields")
    return policy


def compressed_policy(options: ReplayOptions) -> ServicePolicy:
    """The policy that the replay sets: `options.policy` for the replayed service, its models those of the
    replay where it names none, its steps and checks shorter by the speed.

    Raises:
        ReplayError: it is no ServicePolicy, names a model that the replay has not, or the speed leaves
            steps too short to be watched.
    """
    policy = _validated({**options.policy, "service": options.service})
    known = {model.key for model in options.models}
    unknown = [model.key for model in policy.search_space.models if model.key not in known]
    if unknown:
        raise ReplayError(f"policy: searchSpace.models has {', '.join(unknown)}, which no --model names")
    step_seconds = policy.rollout.step_seconds / options.speed
    if step_seconds < _MIN_STEP_SECONDS:
        fastest = policy.rollout.step_seconds / _MIN_STEP_SECONDS
        raise ReplayError(f"--speed {options.speed:g} leaves steps under a second; at most {fastest:g}")
    check_seconds = max(_MIN_CHECK_SECONDS, policy.rollout.check_seconds / options.speed)
    given: dict[str, Any] = policy.given()
    models = given.get("searchSpace", {}).get("models") or [_candidate(model) for model in options.models]
    given["searchSpace"] = {**given.get("searchSpace", {}), "models": models}
    given["rollout"] = {
        **given.get("rollout", {}),
        "stepSeconds": step_seconds,
        "checkSeconds": min(step_seconds, check_seconds),
    }
    return _validated(given)


def set_incumbent(client: OptimizerClient, options: ReplayOptions, longest_answer: int) -> str | None:
    """Makes the first model the service's configuration, at once. Gives the id of the rollout that watches
    the change, None where none does.

    Raises:
        ReplayError: a constraint of the policy forbids it.
        OptimizerError: the server did not take it, `ConflictError` where a rollout runs.
    """
    incumbent = options.models[0]
    config = {
        "provider": incumbent.provider,
        "model": incumbent.model,
        "temperature": 0.7,
        "topP": 1.0,
        "maxTokens": max(_MIN_MAX_TOKENS, longest_answer),
        "streaming": False,
        "functionCalling": False,
        "visionEnabled": False,
    }
    try:
        answer = client.update_config(
            config,
            reason=f"replay: {incumbent.name} is the incumbent",
            service=options.service,
            deployment_strategy="immediate",
        )
    except ConstraintViolationError as error:
        raise ReplayError(f"the policy forbids the incumbent: {error.message}") from error
    return answer.get("deploymentId")


def _validated(policy: dict[str, Any]) -> ServicePolicy:
    try:
        return ServicePolicy.model_validate_json(json.dumps(policy))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ReplayError(f"policy: {faults}") from error
    except (TypeError, ValueError) as error:
        raise ReplayError(f"policy: {error}") from error


def _candidate(model: ReplayModel) -> dict[str, Any]:
    return {"provider": model.provider, "model": model.model}
