"""What the attributes of spans and points mean: one table for every generation of their names."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

Value = str | bool | int | float | list[Any]
Attributes = Mapping[str, Value]

ALIASES: dict[str, tuple[str, ...]] = {
    "operation": ("gen_ai.operation.name",),
    "kind": ("openinference.span.kind",),
    "provider": ("gen_ai.provider.name", "gen_ai.system", "llm.system"),
    "model": ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name"),
    "input": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt"),
    "output": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion"),
    "total": ("gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total"),
    "cacheRead": ("gen_ai.usage.cache_read.input_tokens", "llm.token_count.prompt_details.cache_read"),
    "cacheWrite": (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "llm.token_count.prompt_details.cache_write",
    ),
    "cost": ("gen_ai.usage.cost", "llm.cost.total"),
    "firstChunk": ("gen_ai.response.time_to_first_chunk",),
    "temperature": ("gen_ai.request.temperature",),
    "topP": ("gen_ai.request.top_p",),
    "topK": ("gen_ai.request.top_k",),
    "maxTokens": ("gen_ai.request.max_tokens",),
    "stopSequences": ("gen_ai.request.stop_sequences",),
    "stream": ("gen_ai.request.stream",),
    "parameters": ("llm.invocation_parameters",),
    "error": ("error.type",),
    "status": ("http.response.status_code", "http.status_code"),
    "response": ("gen_ai.response.id",),
    "tokenType": ("gen_ai.token.type",),
    "version": ("llm_optimizer.config_version",),
    "endpoint": ("llm_optimizer.endpoint",),
    "scale": ("llm_optimizer.evaluation.scale",),
    "service": ("service.name",),
    "evaluation": ("gen_ai.evaluation.name",),
    "score": ("gen_ai.evaluation.score.value",),
    "label": ("gen_ai.evaluation.score.label",),
    "flag": ("feature_flag.key",),
    "variant": ("feature_flag.result.variant", "feature_flag.variant"),
}
"""Our name of each, and the names to accept, the first that is there being meant."""

OPERATIONS = frozenset({"chat", "generate_content", "text_completion"})
READ = frozenset(name for names in ALIASES.values() for name in names)
"""Every name of an attribute that means something here."""
MAX_ITEMS = 32
"""Of a list, such as the stop sequences."""


def read(pairs: Iterable[KeyValue]) -> dict[str, Value]:
    """The attributes that mean something here, by their own names. Messages and all else are passed over."""
    found: dict[str, Value] = {}
    for pair in pairs:
        if pair.key in READ:
            value = _plain(pair.value)
            if value is not None and value != "":
                found[pair.key] = value
    return found


def get(attributes: Attributes, name: str) -> Value | None:
    """What an attribute is, under any of the names that it has had."""
    return next((attributes[alias] for alias in ALIASES[name] if alias in attributes), None)


def text(attributes: Attributes, name: str) -> str | None:
    """An attribute that names something, None where it is absent or no text."""
    value = get(attributes, name)
    return value if isinstance(value, str) else None


def number(attributes: Attributes, name: str) -> int | float | None:
    """An attribute that counts or measures, None where it is absent or no number.

    Whole numbers come as floats from languages that know no others.
    """
    value = get(attributes, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def is_inference(attributes: Attributes) -> bool:
    """Whether these are the attributes of an LLM call."""
    return get(attributes, "operation") in OPERATIONS or get(attributes, "kind") == "LLM"


def parameters(attributes: Attributes) -> dict[str, Any]:
    """OpenInference's parameters of the call, which it writes as one JSON text."""
    try:
        found = json.loads(text(attributes, "parameters") or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _plain(value: AnyValue) -> Value | None:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        items = (_plain(item) for item in value.array_value.values[:MAX_ITEMS])
        return [item for item in items if item is not None and not isinstance(item, list)]
    if kind in ("string_value", "bool_value", "int_value", "double_value"):
        found: Value = getattr(value, kind)
        return found
    return None
