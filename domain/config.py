"""The configuration of an LLM call, which applications fetch and the optimizer improves."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from domain.base import Message

Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class LLMConfig(Message):
    """What to call and how. `parameters` holds anything else that the provider takes."""

    provider: Name
    model: Name
    model_version: Name | None = None
    temperature: float = Field(ge=0, le=2)
    top_p: float = Field(ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=1000)
    max_tokens: int = Field(ge=1, le=100_000_000)
    stop_sequences: list[str] | None = Field(default=None, max_length=64)
    streaming: bool
    function_calling: bool
    vision_enabled: bool
    parameters: dict[str, Any] | None = None

    @property
    def model_key(self) -> str:
        """`provider/model`, the way in which constraints and search spaces name a model."""
        return f"{self.provider}/{self.model}"
