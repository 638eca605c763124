"""The configuration of an LLM call, and a scope's answer from which it is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from llm_auto_optimizer._assignment import takes_canary
from llm_auto_optimizer._errors import UnexpectedAnswerError

_WIRE_NAMES = {
    "provider": "provider",
    "model": "model",
    "temperature": "temperature",
    "top_p": "topP",
    "max_tokens": "maxTokens",
    "streaming": "streaming",
    "function_calling": "functionCalling",
    "vision_enabled": "visionEnabled",
    "model_version": "modelVersion",
    "top_k": "topK",
    "stop_sequences": "stopSequences",
    "parameters": "parameters",
}


class ScopeKey(NamedTuple):
    """Whose configuration: a service's, one of its endpoints', or with neither the global one."""

    service: str | None
    endpoint: str | None


@dataclass(frozen=True)
class Config:
    """What to call and how, and the version that says so.

    `version` goes into a report's `tags.configVersion`; the client adds it by itself. `deployment_id` and
    `is_canary` tell of the rollout that it came from, if one runs. `parameters` holds anything else that
    the provider takes. The caller's own default has an empty version, which is not reported.
    """

    version: str
    provider: str
    model: str
    temperature: float
    top_p: float
    max_tokens: int
    streaming: bool
    function_calling: bool
    vision_enabled: bool
    model_version: str | None = None
    top_k: int | None = None
    stop_sequences: tuple[str, ...] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    deployment_id: str | None = None
    is_canary: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The API's LLMConfig: camelCase, absent optional fields left out, nothing of version or rollout."""
        wire: dict[str, Any] = {}
        for name, wire_name in _WIRE_NAMES.items():
            value = getattr(self, name)
            if value is None or (name == "parameters" and not value):
                continue
            wire[wire_name] = list(value) if isinstance(value, tuple) else value
        return wire

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any], **rollout: Any) -> Config:
        """From `{version, config}` as the API sends it. Fields that this client does not know are left out.

        Raises:
            UnexpectedAnswerError: the answer has not this shape.
        """
        try:
            config = answer["config"]
            known = {name: config[wire] for name, wire in _WIRE_NAMES.items() if config.get(wire) is not None}
            if "stop_sequences" in known:
                known["stop_sequences"] = tuple(known["stop_sequences"])
            return cls(version=answer["version"], **known, **rollout)
        except (AttributeError, KeyError, TypeError) as error:
            raise UnexpectedAnswerError(f"not a configuration answer: {error!r}", body=answer) from error


@dataclass(frozen=True)
class Rollout:
    """Two versions that share a scope's traffic.

    `watched_until` is in seconds of the local monotonic clock: past it nobody watches the canary any more,
    and it is not served.
    """

    deployment_id: str
    traffic_percent: float
    watched_until: float
    control: Config
    canary: Config


@dataclass(frozen=True)
class ScopeAnswer:
    """What the server says of a scope: the configuration, the rollout if one runs, and the answer's ETag.

    `body` is the answer itself, None where it did not come from the server.
    """

    config: Config
    rollout: Rollout | None
    etag: str | None
    body: Mapping[str, Any] | None = None

    @property
    def lasting(self) -> Config:
        """What holds whether or not anybody watches a canary, without its rollout."""
        config = self.config if self.rollout is None else self.rollout.control
        return replace(config, deployment_id=None)

    def draw(self, unit: str | None, now: float) -> Config:
        """The configuration of this unit at `now` (monotonic seconds); without a unit, drawn by the share."""
        rollout = self.rollout
        if rollout is None:
            return self.config
        if now >= rollout.watched_until:
            return rollout.control
        chosen = takes_canary(rollout.deployment_id, unit, rollout.traffic_percent)
        return rollout.canary if chosen else rollout.control


def parse_scope_answer(body: Any, *, etag: str | None, server_ms: float, received_at: float) -> ScopeAnswer:
    """A scope's answer from JSON.

    Args:
        body: the body of `GET /config/current` or `/config/service/{name}`.
        etag: the answer's ETag.
        server_ms: the server's clock when it answered, ms since the epoch.
        received_at: the local monotonic clock at that moment, seconds.

    Raises:
        UnexpectedAnswerError: the body has not this shape.
    """
    if not isinstance(body, dict):
        raise UnexpectedAnswerError("not a configuration answer", body=body)
    rollout = body.get("rollout")
    return ScopeAnswer(
        config=Config.from_answer(body),
        rollout=None if rollout is None else _parse_rollout(rollout, server_ms, received_at),
        etag=etag,
        body=body,
    )


def _parse_rollout(rollout: Any, server_ms: float, received_at: float) -> Rollout:
    try:
        deployment_id = rollout["deploymentId"]
        return Rollout(
            deployment_id=deployment_id,
            traffic_percent=float(rollout["trafficPercent"]),
            watched_until=received_at + (float(rollout["watchedUntil"]) - server_ms) / 1000,
            control=Config.from_answer(rollout["control"], deployment_id=deployment_id),
            canary=Config.from_answer(rollout["canary"], deployment_id=deployment_id, is_canary=True),
        )
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise UnexpectedAnswerError(f"not a rollout: {error!r}", body=rollout) from error
