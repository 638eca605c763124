"""Has the calls of an `openai` or `anthropic` client made by configuration, and reported.

Neither package is imported: a client is known by its resources. Whatever fails here is logged, and the call
is made as its caller wrote it.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable

from llm_auto_optimizer._config import Config
from llm_auto_optimizer._tracker import BaseTracker

logger = logging.getLogger("llm_auto_optimizer")

_MARK = "_llm_auto_optimizer"
_INPUT_TOKENS = ("prompt_tokens", "input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_OUTPUT_TOKENS = ("completion_tokens", "output_tokens")


@dataclass(frozen=True)
class Api:
    """A method that makes a call: where it is, and what it calls a configuration's fields."""

    path: tuple[str, ...]
    provider: str
    max_tokens: str
    stop: str | None

    def serves(self, config: Config) -> bool:
        """Whether such a client can call the configuration's provider. Many speak OpenAI's API."""
        return (config.provider == "anthropic") == (self.provider == "anthropic")

    def arguments(self, config: Config) -> dict[str, Any]:
        """The configuration as arguments. A `top_p` of 1 is left out: it changes nothing, and some models
        refuse it beside a temperature. Whether to stream is the caller's."""
        stop = None if config.stop_sequences is None else list(config.stop_sequences)
        wanted = {
            **config.parameters,
            "model": config.model_version or config.model,
            "temperature": config.temperature,
            "top_p": None if config.top_p == 1 else config.top_p,
            "top_k": config.top_k if self.provider == "anthropic" else None,
            self.max_tokens: config.max_tokens,
        }
        if self.stop is not None:
            wanted[self.stop] = stop
        return {name: value for name, value in wanted.items() if value is not None}


CHAT = Api(("chat", "completions"), "openai", "max_completion_tokens", "stop")
APIS = (
    CHAT,
    Api(("responses",), "openai", "max_output_tokens", None),
    Api(("messages",), "anthropic", "max_tokens", "stop_sequences"),
)
# Older names of the same argument: who gives one does not want the other.
_ALIASES = {"max_completion_tokens": "max_tokens"}


@dataclass(frozen=True)
class Optimizer:
    """What there is to do around a call: its configuration, from memory, and a tracker for it.

    The tracker is made with the configuration, None where that did not serve the call.
    """

    config: Callable[[], Config | None]
    track: Callable[[Config | None], BaseTracker]


def patch(client: Any, optimizer: Optimizer) -> None:
    """Patches `create` of each resource that `client` has, on the instance, once.

    Raises:
        TypeError: it has none of them.
    """
    found = [(api, resource) for api in APIS if (resource := _resource(client, api)) is not None]
    if not found:
        raise TypeError(f"not an openai or anthropic client: {type(client).__name__}")
    for api, resource in found:
        if not hasattr(resource.create, _MARK):
            resource.create = _wrapped(api, resource.create, optimizer)


def _resource(client: Any, api: Api) -> Any:
    for name in api.path:
        client = getattr(client, name, None)
    return client if callable(getattr(client, "create", None)) else None


def _wrapped(api: Api, create: Callable[..., Any], optimizer: Optimizer) -> Callable[..., Any]:
    accepted = inspect.signature(create).parameters

    @functools.wraps(create)
    def call(*args: Any, **given: Any) -> Any:
        made = _Call.begin(api, optimizer, given, accepted)
        try:
            answer = create(*args, **made.arguments)
        except BaseException as error:
            made.end(error)
            raise
        return made.finish(answer)

    @functools.wraps(create)
    async def call_async(*args: Any, **given: Any) -> Any:
        made = _Call.begin(api, optimizer, given, accepted)
        try:
            answer = await create(*args, **made.arguments)
        except BaseException as error:
            made.end(error)
            raise
        return made.finish(answer)

    is_async = inspect.iscoroutinefunction(inspect.unwrap(create))
    wrapper = call_async if is_async else call
    setattr(wrapper, _MARK, True)
    return wrapper


class _Call:
    """One call: the arguments that it is made with, and what its answer or its stream tell of it."""

    def __init__(
        self, tracker: BaseTracker | None, arguments: dict[str, Any], model: str | None, provider: str
    ) -> None:
        self.arguments = arguments
        self.hides_usage = False
        self._tracker = tracker
        self._model = model
        self._provider = provider
        self._input = 0
        self._output = 0
        self._counted = False

    @classmethod
    def begin(
        cls, api: Api, optimizer: Optimizer, given: dict[str, Any], accepted: Mapping[str, Any]
    ) -> _Call:
        try:
            config = optimizer.config()
            if config is not None and not api.serves(config):
                config = None
            arguments = dict(given) if config is None else _merged(api, config, given, accepted)
            model = arguments.get("model")
            served = config is not None and model == (config.model_version or config.model)
            tracker = optimizer.track(config if served else None)
            call = cls(tracker, arguments, model, config.provider if config and served else api.provider)
            if api is CHAT and given.get("stream") is True and "stream_options" not in given:
                arguments["stream_options"] = {"include_usage": True}
                call.hides_usage = True
            tracker.begin()
        except Exception:
            logger.exception("a call is made without the optimizer")
            return cls(None, given, None, api.provider)
        return call

    def finish(self, answer: Any) -> Any:
        """The answer, reported now, or if it is a stream when it ends."""
        iterator = getattr(answer, "_iterator", None)
        if iterator is None:
            self.observe(answer)
            self.end(None)
        elif hasattr(iterator, "__anext__"):
            answer._iterator = self._follow_async(iterator)
        else:
            answer._iterator = self._follow(iterator)
        return answer

    def observe(self, part: Any) -> None:
        """Counts what an answer, or an event of a stream, says of tokens."""
        for holder in (part, getattr(part, "response", None), getattr(part, "message", None)):
            usage = getattr(holder, "usage", None)
            if usage is not None:
                self._counted = True
                # Events of a stream repeat what earlier ones said, or leave it out.
                self._input = sum(_number(usage, name) for name in _INPUT_TOKENS) or self._input
                self._output = sum(_number(usage, name) for name in _OUTPUT_TOKENS) or self._output

    def end(self, error: BaseException | None) -> None:
        """Reports the call."""
        tracker, self._tracker = self._tracker, None
        if tracker is None:
            return
        try:
            if self._model is not None:
                tracker.set_model(provider=self._provider, model=self._model)
            if self._counted:
                tracker.set_tokens(input=self._input, output=self._output)
            tracker.end(error)
        except Exception:
            logger.exception("a call is not reported")

    def _hidden(self, part: Any) -> bool:
        """Whether it is there only since we asked for it."""
        return self.hides_usage and not part.choices and part.usage is not None

    def _follow(self, parts: Iterator[Any]) -> Iterator[Any]:
        with self._until_the_end():
            for part in parts:
                self.observe(part)
                if not self._hidden(part):
                    yield part

    async def _follow_async(self, parts: AsyncIterator[Any]) -> AsyncIterator[Any]:
        with self._until_the_end():
            async for part in parts:
                self.observe(part)
                if not self._hidden(part):
                    yield part

    @contextmanager
    def _until_the_end(self) -> Iterator[None]:
        """Ends with the stream; a reader who leaves early has not failed."""
        try:
            yield
        except GeneratorExit:
            self.end(None)
            raise
        except BaseException as error:
            self.end(error)
            raise
        self.end(None)


def _merged(
    api: Api, config: Config, given: Mapping[str, Any], accepted: Mapping[str, Any]
) -> dict[str, Any]:
    """The configuration under what the caller gave. What the method does not name goes into the body."""
    extra = dict(given.get("extra_body") or {})
    merged = dict(given)
    for name, value in api.arguments(config).items():
        if name in given or _ALIASES.get(name) in given:
            continue
        if name in accepted:
            merged[name] = value
        else:
            extra.setdefault(name, value)
    if extra:
        merged["extra_body"] = extra
    return merged


def _number(usage: Any, name: str) -> int:
    value = getattr(usage, name, None)
    return value if isinstance(value, int) else 0
