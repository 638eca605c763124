"""The client that applications use."""

from __future__ import annotations

import os
import uuid
import weakref
from collections.abc import Sequence
from types import TracebackType
from urllib.parse import urlsplit

import httpx

from llm_auto_optimizer import _calls as calls
from llm_auto_optimizer._calls import ConfigLike
from llm_auto_optimizer._config import Config
from llm_auto_optimizer._config_cache import ConfigCache, ScopeKey
from llm_auto_optimizer._config_source import ConfigSource
from llm_auto_optimizer._context import HandedOut
from llm_auto_optimizer._queue import ReportQueue
from llm_auto_optimizer._reports import complete_metric, complete_quality
from llm_auto_optimizer._retry import RetryPolicy
from llm_auto_optimizer._tracker import RequestTracker
from llm_auto_optimizer._transport import Transport
from llm_auto_optimizer._types import (
    JSON,
    ConfigUpdateResult,
    ConfigVersions,
    Constraints,
    Deployment,
    Health,
    IngestResult,
    MetricLike,
    Objectives,
    OptimizationStarted,
    OptimizationStatus,
    Policy,
    QualityLike,
)

_FLUSH_AT_EXIT = 5.0


class OptimizerClient:
    """Fetches configurations, reports calls, and steers the optimizer. Safe to share between threads.

    Args:
        endpoint: the server's address, such as `http://optimizer:8080`.
        api_key: a key with the scopes `ingest` and `read`; by default `OPTIMIZER_API_KEY`, if it is set.
        timeout: seconds that one try may take.
        retries: how often a failed call is tried again, where that may help.
        refresh_interval: for how many seconds a configuration is served without asking the server again.
        queue_size: how many tracked calls may wait to be reported; past it the oldest give way.
        http_client: a client of one's own (proxies, certificates, pools); it stays one's own to close.

    Every method that talks to the server raises `OptimizerError` or one of its subclasses.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        api_key: str | None = None,
        timeout: float = 5.0,
        retries: int = 3,
        refresh_interval: float = 1.0,
        queue_size: int = 10_000,
        http_client: httpx.Client | None = None,
    ) -> None:
        _require_address(endpoint)
        self._transport = Transport(
            endpoint=endpoint,
            api_key=_usable_key(api_key if api_key is not None else os.environ.get("OPTIMIZER_API_KEY")),
            timeout=timeout,
            retries=RetryPolicy(max_retries=retries),
            http_client=http_client,
        )
        source = ConfigSource(self._transport, instance_id=uuid.uuid4().hex)
        self._configs = ConfigCache(source, refresh_interval=refresh_interval)
        self._handed_out = HandedOut()
        self._queue = ReportQueue(self._transport.call, capacity=queue_size)
        self._at_exit = weakref.finalize(self, _end, self._queue, self._transport, _FLUSH_AT_EXIT)

    # Configuration

    def get_config(
        self, service: str | None = None, endpoint: str | None = None, unit: str | None = None
    ) -> Config:
        """The configuration to call with: of a service, of one of its endpoints, or with neither the global.

        Meant to be asked before every call: it is answered from memory, and the server is asked in the
        background at most every `refresh_interval` seconds. While a rollout runs, `unit` (a user's or a
        session's id) decides who gets the canary and keeps getting it; without a unit each call is drawn
        by the canary's share. A canary that nobody watches any more is not served. If the server cannot
        be reached, the last answer holds; only the very first call fails then.
        """
        config = self._configs.draw(ScopeKey(service, endpoint), unit)
        self._handed_out.remember(service, config)
        return config

    def update_config(
        self,
        config: ConfigLike,
        *,
        reason: str,
        service: str | None = None,
        endpoint: str | None = None,
        deployment_strategy: str | None = None,
        validate_only: bool = False,
    ) -> ConfigUpdateResult:
        """Changes a scope's configuration, rolled out by `deployment_strategy`, by default the policy's.

        Raises:
            ConstraintViolationError: a hard constraint forbids it.
            ConflictError: a rollout runs on the scope.
        """
        request = calls.update_config(config, reason, service, endpoint, deployment_strategy, validate_only)
        return self._transport.call(request)

    def get_versions(
        self,
        service: str | None = None,
        endpoint: str | None = None,
        *,
        limit: int | None = None,
        offset: int | None = None,
    ) -> ConfigVersions:
        """A service's versions or its endpoint's, without a service those of all scopes, the newest first."""
        return self._transport.call(calls.versions(service, endpoint, limit, offset))

    # Reports

    def report_metrics(self, metric: MetricLike) -> IngestResult:
        """Reports one call. Waits until the server has it; `track_request` does not."""
        return self.report_metrics_batch([metric])

    def report_metrics_batch(self, metrics: Sequence[MetricLike]) -> IngestResult:
        """Reports calls. The server takes the good ones and names the others in `errors`."""
        completed = [complete_metric(metric, self._handed_out) for metric in metrics]
        return self._transport.call(calls.metrics(completed))

    def report_quality(self, quality: QualityLike) -> IngestResult:
        """Reports how good an answer was, 0..100."""
        return self.report_quality_batch([quality])

    def report_quality_batch(self, evaluations: Sequence[QualityLike]) -> IngestResult:
        """Reports how good answers were. The server takes the good ones and names the others in `errors`."""
        completed = [complete_quality(quality, self._handed_out) for quality in evaluations]
        return self._transport.call(calls.quality(completed))

    def track_request(self, *, service: str, endpoint: str, unit: str | None = None) -> RequestTracker:
        """A context manager that times a call and reports it in the background. It never fails the caller."""
        return RequestTracker(
            service=service,
            endpoint=endpoint,
            fetch=lambda: self.get_config(service, endpoint, unit),
            last_config=lambda: self._handed_out.last(service),
            report=self._queue.put,
            refuse=lambda reason: self._queue.drop(1, reason),
        )

    @property
    def dropped_reports(self) -> int:
        """How many tracked calls were never reported: refused, too many at once, or not sent by the end."""
        return self._queue.dropped

    # Optimization

    def trigger_optimization(
        self,
        services: Sequence[str] | None = None,
        objectives: Objectives | None = None,
        constraints: Constraints | None = None,
        dry_run: bool = False,
    ) -> OptimizationStarted:
        """Starts an optimization: of these services, or of all. `objectives` replace the policy's,
        `constraints` are added to it."""
        return self._transport.call(calls.trigger_optimization(services, objectives, constraints, dry_run))

    def get_optimization(self, optimization_id: str) -> OptimizationStatus:
        """How far an optimization is, and what it came to."""
        return self._transport.call(calls.optimization(optimization_id))

    def get_deployment(self, deployment_id: str) -> Deployment:
        """A rollout: its steps, their verdicts, and the guardrails of each."""
        return self._transport.call(calls.deployment(deployment_id))

    def get_policy(self, service: str) -> JSON:
        """A service's policy, defaults filled in."""
        return self._transport.call(calls.policy(service))

    def put_policy(self, service: str, policy: Policy) -> JSON:
        """Sets a service's policy; what it leaves out is the default."""
        return self._transport.call(calls.put_policy(service, policy))

    def get_health(self) -> Health:
        """How the server is."""
        return self._transport.call(calls.health())

    # Life

    def flush(self, timeout: float = _FLUSH_AT_EXIT) -> bool:
        """Waits until every tracked call so far is reported; False if `timeout` seconds did not suffice."""
        return self._queue.flush(timeout)

    def close(self, timeout: float = _FLUSH_AT_EXIT) -> None:
        """Reports what still waits, for at most `timeout` seconds, and closes the connections."""
        self._at_exit.detach()
        _end(self._queue, self._transport, timeout)

    def __enter__(self) -> OptimizerClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _end(queue: ReportQueue, transport: Transport, timeout: float) -> None:
    """Apart from the client, so that one that was forgotten can be ended too."""
    queue.close(timeout)
    transport.close()


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
