"""What REST says in JSON, as messages of the protocol, and the other way round."""

from collections.abc import Mapping
from typing import Any

import msgspec
from google.protobuf.struct_pb2 import Struct

from api.grpc.optimizer_pb2 import (
    ConfigResponse,
    LLMConfig,
    Metric,
    MetricError,
    MetricsResponse,
    Rollout,
    VersionedConfig,
)

# A number or a text that is zero or empty is not on the wire, unless its absence is something else.
_ZEROS: dict[str, Any] = {
    field.json_name: field.default_value
    for field in Metric.DESCRIPTOR.fields
    if not field.has_presence and field.message_type is None
}


def config_response(body: bytes) -> ConfigResponse:
    """The answer of a configuration read, from its JSON."""
    answer = msgspec.json.decode(body)
    versioned = _versioned(answer)
    found = answer.get("rollout")
    return ConfigResponse(
        version=versioned.version,
        config=versioned.config,
        rollout=None if found is None else _rollout(found),
    )


def _rollout(rollout: Mapping[str, Any]) -> Rollout:
    return Rollout(
        deployment_id=rollout["deploymentId"],
        traffic_percent=rollout["trafficPercent"],
        watched_until=rollout["watchedUntil"],
        control=_versioned(rollout["control"]),
        canary=_versioned(rollout["canary"]),
    )


def _versioned(served: Mapping[str, Any]) -> VersionedConfig:
    return VersionedConfig(version=served["version"], config=_config(served["config"]))


def _config(config: Mapping[str, Any]) -> LLMConfig:
    parameters = config.get("parameters")
    return LLMConfig(
        provider=config["provider"],
        model=config["model"],
        model_version=config.get("modelVersion"),
        temperature=config["temperature"],
        top_p=config["topP"],
        top_k=config.get("topK"),
        max_tokens=config["maxTokens"],
        stop_sequences=config.get("stopSequences"),
        streaming=config["streaming"],
        function_calling=config["functionCalling"],
        vision_enabled=config["visionEnabled"],
        parameters=None if parameters is None else _struct(parameters),
    )


def _struct(value: Mapping[str, Any]) -> Struct:
    """Every number of a Struct is a double."""
    struct = Struct()
    struct.update(value)
    return struct


def item_of(metric: Metric) -> dict[str, Any]:
    """A metric as an item of a batch in JSON."""
    item = dict(_ZEROS)
    for field, value in metric.ListFields():
        item[field.json_name] = value
    if metric.tags:
        item["tags"] = dict(metric.tags)
    return item


def metrics_response(answer: Mapping[str, Any]) -> MetricsResponse:
    """The answer to a batch."""
    errors = [MetricError(index=bad["index"], reason=bad["reason"]) for bad in answer.get("errors", ())]
    return MetricsResponse(accepted=answer["accepted"], rejected=answer["rejected"], errors=errors)
