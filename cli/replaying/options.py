"""What a replay is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.replaying.errors import ReplayError

DEFAULT_SPEED = 60.0


@dataclass(frozen=True, slots=True)
class ReplayModel:
    """A model of the outcomes file, and how fast it is taken to answer."""

    name: str
    provider: str
    model: str
    first_token_ms: float = 400.0
    tokens_per_second: float = 50.0

    @property
    def key(self) -> str:
        """`provider/model`."""
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """Everything that `llm-optimizer replay` takes.

    `models`: the first is the incumbent. `policy`: a ServicePolicy as JSON, before compression. Before the
    optimization is triggered `warmup` requests are sent, for `warmup_seconds` at least, in which the server
    learns the rate; `aftermath` is sent after the rollout has ended. `time_limit` is by default what the
    policy's steps may take and more. Both times are real seconds. `notes` are said in the report beside what
    is modelled.
    """

    arrivals: Path
    outcomes: Path
    models: tuple[ReplayModel, ...]
    policy: dict[str, Any]
    service: str = "replay"
    endpoint: str = "http://127.0.0.1:8080"
    api_key: str | None = None
    speed: float = DEFAULT_SPEED
    seed: int = 1
    warmup: int = 600
    warmup_seconds: float = 20.0
    aftermath: int = 600
    time_limit: float | None = None
    temporal_ui: str | None = None
    notes: tuple[str, ...] = ()


def parse_models(texts: Sequence[str]) -> tuple[ReplayModel, ...]:
    """Each `--model NAME=provider/model`; the model's own name may hold slashes.

    Raises:
        ReplayError: one has another form, or two are the same.
    """
    models = []
    for text in texts:
        name, _, key = text.partition("=")
        provider, _, model = key.partition("/")
        if not (name and provider and model):
            raise ReplayError(f"--model {text!r} is not of the form NAME=provider/model")
        models.append(ReplayModel(name, provider, model))
    if len({model.name for model in models}) < len(models) or len({model.key for model in models}) < len(
        models
    ):
        raise ReplayError("--model: a NAME or a model is given twice")
    return tuple(models)


def with_latency(models: tuple[ReplayModel, ...], settings: Sequence[str]) -> tuple[ReplayModel, ...]:
    """The models with each `--latency NAME=FIRST_TOKEN_MS:TOKENS_PER_SECOND` applied.

    Raises:
        ReplayError: it has another form, or names no model.
    """
    by_name = {model.name: model for model in models}
    for text in settings:
        name, _, numbers = text.partition("=")
        if name not in by_name:
            raise ReplayError(f"--latency {text!r}: {name!r} is the NAME of no --model")
        known = by_name[name]
        try:
            first_token_ms, tokens_per_second = map(float, numbers.split(":"))
        except ValueError as error:
            raise ReplayError(f"--latency {text!r} is not NAME=FIRST_TOKEN_MS:TOKENS_PER_SECOND") from error
        if not (0 <= first_token_ms < 1e6 and 0 < tokens_per_second < 1e6):
            raise ReplayError(f"--latency {text!r}: the figures are out of range")
        by_name[name] = ReplayModel(name, known.provider, known.model, first_token_ms, tokens_per_second)
    return tuple(by_name.values())
