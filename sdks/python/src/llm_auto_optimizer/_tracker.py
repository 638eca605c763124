"""Measures one LLM call and reports it."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Callable

from llm_auto_optimizer._config import Config
from llm_auto_optimizer._reports import VERSION_TAG

_FAILED = 500


class BaseTracker:
    """Measures and reports; what fetches a configuration is its subclasses'."""

    def __init__(
        self,
        *,
        service: str,
        endpoint: str,
        last_config: Callable[[], Config | None],
        report: Callable[[dict[str, Any]], None],
        refuse: Callable[[str], None],
    ) -> None:
        self._last_config = last_config
        self._report = report
        self._refuse = refuse
        self._config: Config | None = None
        self._tags: dict[str, str] = {}
        self._fields: dict[str, Any] = {"service": service, "endpoint": endpoint, "statusCode": 200}
        self._started = 0.0

    def set_tokens(self, *, input: int, output: int) -> None:
        """Tokens of the prompt and of the answer."""
        self._fields.update(tokensInput=input, tokensOutput=output, tokensTotal=input + output)

    def set_cost(self, usd: float) -> None:
        """What the call cost; without it the server prices the tokens."""
        self._fields["costUsd"] = usd

    def set_model(self, *, provider: str, model: str) -> None:
        """What served the call, where it is not what the configuration says."""
        self._fields.update(provider=provider, model=model)

    def set_config(self, config: Config) -> None:
        """The configuration that served the call, where it was not handed out in this call context."""
        self._config = config

    def set_request_id(self, request_id: str) -> None:
        """Names the call, so that `report_quality` can refer to it."""
        self._tags["requestId"] = request_id

    def set_tag(self, name: str, value: str) -> None:
        """A label of one's own."""
        self._tags[name] = value

    def set_error(self, error_type: str, *, status_code: int = _FAILED) -> None:
        """Says that the call failed, where no exception does."""
        self._fields.update(errorType=error_type, statusCode=status_code)

    def set_retries(self, count: int) -> None:
        """How often the call was tried again before it ended as it did."""
        self._fields["retryCount"] = count

    def begin(self) -> None:
        """Starts the clock."""
        self._started = time.perf_counter()

    def end(self, error: BaseException | None) -> None:
        """Reports the call, which ended by `error`, if any."""
        latency_ms = (time.perf_counter() - self._started) * 1000
        if isinstance(error, Exception):
            status = getattr(error, "status_code", None)
            failed = isinstance(status, int) and status >= 400
            self.set_error(type(error).__name__, status_code=status if failed and status else _FAILED)
        if error is None or isinstance(error, Exception):  # an interrupted call says nothing of the model
            self._finish(latency_ms)

    def _finish(self, latency_ms: float) -> None:
        config = self._config or self._last_config()
        if config is not None:
            if config.version:
                self._tags.setdefault(VERSION_TAG, config.version)
            self._fields.setdefault("provider", config.provider)
            self._fields.setdefault("model", config.model)
        if "errorType" in self._fields:
            for tokens in ("tokensInput", "tokensOutput", "tokensTotal"):
                self._fields.setdefault(tokens, 0)
        for field, remedy in (("model", "set_model or get_config"), ("tokensTotal", "set_tokens")):
            if field not in self._fields:
                self._refuse(f"a tracked call has no {field}: call {remedy} inside the block")
                return
        timestamp = int(time.time() * 1000)
        self._report({**self._fields, "timestamp": timestamp, "latencyMs": latency_ms, "tags": self._tags})


class RequestTracker(BaseTracker):
    """What `OptimizerClient.track_request` gives: times the block and reports it on leaving.

    Provider, model and version are those of the configuration that this call context was last handed,
    unless set here. An exception that leaves the block is reported as an error (its `status_code` where it
    has one, as the exceptions of LLM clients do, else 500) and goes on its way. A call without an error
    needs its tokens: without them it is not reported, since 0 would pass for a free call.
    """

    def __init__(self, *, fetch: Callable[[], Config], **reporting: Any) -> None:
        super().__init__(**reporting)
        self._fetch = fetch

    @property
    def config(self) -> Config:
        """The configuration for this call, fetched on first use for the tracker's service and unit."""
        if self._config is None:
            self._config = self._fetch()
        return self._config

    def __enter__(self) -> RequestTracker:
        self.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end(error)
