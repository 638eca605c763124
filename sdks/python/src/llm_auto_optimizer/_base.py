"""What both clients have in common: all that needs no answer of the server's while the caller waits."""

from __future__ import annotations

import logging
import os
import uuid
import weakref
from collections.abc import Mapping
from typing import Any, Callable
from urllib.parse import urlsplit

import httpx

from llm_auto_optimizer._calls import ConfigLike
from llm_auto_optimizer._config import Config, ScopeKey
from llm_auto_optimizer._config_cache import ConfigCache
from llm_auto_optimizer._config_source import ConfigSource
from llm_auto_optimizer._config_store import ConfigStore
from llm_auto_optimizer._context import HandedOut
from llm_auto_optimizer._errors import OptimizerError, UnexpectedAnswerError
from llm_auto_optimizer._instrument import Optimizer, patch
from llm_auto_optimizer._queue import ReportQueue
from llm_auto_optimizer._reports import complete_metric
from llm_auto_optimizer._retry import RetryPolicy
from llm_auto_optimizer._tracker import BaseTracker
from llm_auto_optimizer._transport import Transport
from llm_auto_optimizer._types import MetricLike

logger = logging.getLogger("llm_auto_optimizer")

FLUSH_AT_EXIT = 5.0


class ClientBase:
    """Keeps configurations fresh and sends reports, both on threads of its own."""

    def __init__(
        self,
        *,
        endpoint: str,
        api_key: str | None,
        timeout: float,
        retries: int,
        poll_interval: float,
        stream: bool,
        queue_size: int,
        default_config: ConfigLike | None,
        cache_dir: str | os.PathLike[str] | None,
        http_client: httpx.Client | None,
    ) -> None:
        _require_address(endpoint)
        self._wire: dict[str, Any] = {
            "endpoint": endpoint,
            "api_key": _usable_key(api_key if api_key is not None else os.environ.get("OPTIMIZER_API_KEY")),
            "timeout": timeout,
            "retries": RetryPolicy(max_retries=retries),
        }
        self._transport = Transport(http_client=http_client, **self._wire)
        instance_id = uuid.uuid4().hex
        self._source = ConfigSource(self._transport, instance_id=instance_id)
        self._configs = ConfigCache(
            self._source,
            instance_id=instance_id,
            poll_interval=poll_interval,
            stream=stream,
            store=None if cache_dir is None else ConfigStore(cache_dir, self._transport.base),
            default=None if default_config is None else _default(default_config),
        )
        self._handed_out = HandedOut()
        self._queue = ReportQueue(self._transport.call, capacity=queue_size)
        self._at_exit = weakref.finalize(
            self, _end, self._configs, self._queue, self._transport, FLUSH_AT_EXIT
        )

    def get_current_config(self, service: str | None = None, endpoint: str | None = None) -> Config | None:
        """The configuration that this instance has, without asking for it: the last one fetched, before a
        first fetch the one kept on disk, or else the default, or None. While a rollout runs, the instance
        is assigned as a unit."""
        return self._remember(service, self._configs.of_instance(ScopeKey(service, endpoint)))

    def config_for(
        self, unit: str | None, service: str | None = None, endpoint: str | None = None
    ) -> Config | None:
        """As `get_config` answers for this unit, from memory alone: without I/O, and None where there is
        neither a fetched configuration nor one kept on disk nor a default."""
        return self._remember(service, self._configs.known(ScopeKey(service, endpoint), unit))

    @property
    def dropped_reports(self) -> int:
        """How many tracked calls were never reported: refused, too many at once, or not sent by the end."""
        return self._queue.dropped

    def queue_metric(self, metric: MetricLike) -> None:
        """Reports a call in the background. Never waits, never raises; see `dropped_reports`."""
        self._queue.put(complete_metric(metric, self._handed_out))

    def drop_report(self, reason: str) -> None:
        """Counts, and logs, a call that cannot be reported."""
        self._queue.drop(1, reason)

    def instrument(
        self,
        client: Any,
        *,
        service: str,
        endpoint: str,
        unit: Callable[[], str | None] | None = None,
    ) -> None:
        """Has the calls of an `openai` or `anthropic` client, synchronous or not, made by the configuration
        of `service` and `endpoint`, and reported.

        Patched, on the instance, are `chat.completions.create`, `responses.create` and `messages.create`.
        What the caller gives beats the configuration; a call whose model the caller names otherwise is not
        reported as the configuration's, nor one of a provider that the client does not speak to. The server
        is asked once, here; calls use what is in memory, or go as they were written. `unit` names who a
        call is for.

        Raises:
            TypeError: `client` is neither.
        """
        scope = ScopeKey(service, endpoint)
        patch(
            client,
            Optimizer(
                config=lambda: self.config_for(None if unit is None else unit(), service, endpoint),
                track=lambda config: self._tracker_of(service, endpoint, config),
            ),
        )
        if self._configs.draw(scope, None) is None:
            try:
                self._configs.accept(scope, self._source.once(scope))
            except OptimizerError as error:
                logger.warning("calls of %s go as they are written until it answers: %s", scope, error)
        self._configs.subscribe(scope, lambda config: None)

    def _tracker_of(self, service: str, endpoint: str, config: Config | None) -> BaseTracker:
        return BaseTracker(**{**self._tracking(service, endpoint), "last_config": lambda: config})

    def _drawn(self, service: str | None, endpoint: str | None, unit: str | None) -> Config | None:
        """The configuration from memory, where it was fetched."""
        return self._remember(service, self._configs.draw(ScopeKey(service, endpoint), unit))

    def _remember(self, service: str | None, config: Config | None) -> Config | None:
        if config is not None:
            self._handed_out.remember(service, config)
        return config

    def _tracking(self, service: str, endpoint: str) -> dict[str, Any]:
        """What trackers of both kinds are made with."""
        return {
            "service": service,
            "endpoint": endpoint,
            "last_config": lambda: self._handed_out.last(service),
            "report": self._queue.put,
            "refuse": self.drop_report,
        }

    def _subscribe(
        self, callback: Callable[[Config], Any], service: str | None, endpoint: str | None
    ) -> Callable[[], None]:
        return self._configs.subscribe(ScopeKey(service, endpoint), callback)

    def _end(self, timeout: float) -> None:
        self._at_exit.detach()
        _end(self._configs, self._queue, self._transport, timeout)


def _end(configs: ConfigCache, queue: ReportQueue, transport: Transport, timeout: float) -> None:
    """Apart from the client, so that one that was forgotten can be ended too."""
    configs.close()
    queue.close(timeout)
    transport.close()


def _default(config: ConfigLike) -> Config:
    """The caller's own configuration.

    Raises:
        ValueError: it is not an LLMConfig.
    """
    wire: Mapping[str, Any] = config.to_dict() if isinstance(config, Config) else config
    try:
        return Config.from_answer({"version": "", "config": wire})
    except UnexpectedAnswerError as error:
        raise ValueError(f"default_config: {error.message}") from error


def _require_address(endpoint: str) -> None:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"endpoint must be an http or https address, not {endpoint!r}")


def _usable_key(key: str | None) -> str | None:
    """The key without the white space that files and shells leave around it; None where it is empty."""
    if key is None or not key.strip():
        return None
    if not key.strip().isascii() or not key.strip().isprintable():
        raise ValueError("api_key has characters that no key has")
    return key.strip()
