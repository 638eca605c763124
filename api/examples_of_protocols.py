"""Examples of what other protocols than our own have: flags by OFREP, telemetry by OTLP."""

from typing import Any

Json = dict[str, Any]

_STREAM = "https://optimizer.example.com/ofrep/v1/stream?targetingKey=user-17"


def flag(name: str, value: Any) -> Json:
    """A flag of a service's configuration."""
    return {
        "key": f"llm.chat-service.{name}",
        "value": value,
        "reason": "STATIC",
        "variant": "chat-service@2",
        "metadata": {"service": "chat-service"},
    }


def flags(config: Json) -> Json:
    """Every flag of the one service that there is."""
    return {
        "flags": [
            flag("config", config),
            flag("model", config["model"]),
            flag("temperature", config["temperature"]),
            flag("max_tokens", config["maxTokens"]),
        ],
        "metadata": {},
        "eventStreams": [{"type": "sse", "url": _STREAM}],
    }


def spans(began: int) -> Json:
    """A call that began then (ms), as a span."""
    span = {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "name": "chat gpt-4o-mini",
        "kind": 3,
        "startTimeUnixNano": _nanoseconds(began),
        "endTimeUnixNano": _nanoseconds(began + 1_200),
        "attributes": [
            *_LABELS,
            {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "150"}},
            {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "500"}},
            _attribute("llm_optimizer.config_version", "chat-service@2"),
        ],
    }
    return {"resourceSpans": [{"resource": _RESOURCE, "scopeSpans": [{"spans": [span]}]}]}


def histograms(began: int) -> Json:
    """Three calls of the minute that began then (ms)."""
    point = {
        "attributes": _LABELS,
        "startTimeUnixNano": _nanoseconds(began),
        "timeUnixNano": _nanoseconds(began + 60_000),
        "count": "3",
        "sum": 3.6,
        "bucketCounts": ["0", "3", "0"],
        "explicitBounds": [0.64, 1.28],
    }
    durations = {
        "name": "gen_ai.client.operation.duration",
        "unit": "s",
        "histogram": {"aggregationTemporality": 2, "dataPoints": [point]},
    }
    return {"resourceMetrics": [{"resource": _RESOURCE, "scopeMetrics": [{"metrics": [durations]}]}]}


def _attribute(name: str, value: str) -> Json:
    return {"key": name, "value": {"stringValue": value}}


def _nanoseconds(moment: int) -> str:
    return str(moment * 1_000_000)


_RESOURCE = {"attributes": [_attribute("service.name", "chat-service")]}
_LABELS = [
    _attribute("gen_ai.operation.name", "chat"),
    _attribute("gen_ai.provider.name", "openai"),
    _attribute("gen_ai.response.model", "gpt-4o-mini"),
]
