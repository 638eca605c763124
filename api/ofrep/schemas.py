"""Messages of OFREP. What a client sends beside what is named here is its own, and passed over."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.configs.rendering import MAX_UNIT
from domain.base import Message

Scalar = str | float | bool
ErrorCode = Literal["PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "FLAG_NOT_FOUND", "GENERAL"]


class EvaluationContext(BaseModel):
    """Who is served. Other attributes decide nothing."""

    model_config = ConfigDict(extra="ignore", strict=True, populate_by_name=True)

    targeting_key: str | None = Field(
        default=None,
        alias="targetingKey",
        max_length=MAX_UNIT,
        description="The unit: the same one keeps its configuration. Without it each answer draws.",
    )


class EvaluationRequest(BaseModel):
    """A context to evaluate flags in."""

    model_config = ConfigDict(extra="ignore")

    context: EvaluationContext = EvaluationContext()


class FlagEvaluation(Message):
    """A flag's value. `variant` is the configuration's version; `reason` is SPLIT while a rollout runs."""

    key: str
    value: Any
    reason: Literal["STATIC", "SPLIT"]
    variant: str
    metadata: dict[str, Scalar]


class EventStream(Message):
    """Where a client is told that it should ask again."""

    type: Literal["sse"]
    url: str


class BulkEvaluation(Message):
    """Every flag, all of a service's by one version."""

    flags: list[FlagEvaluation]
    metadata: dict[str, Scalar]
    event_streams: list[EventStream]


class EvaluationFailure(Message):
    """OFREP's form of an error; `key` where one flag was asked for."""

    key: str | None = None
    error_code: ErrorCode
    error_details: str
