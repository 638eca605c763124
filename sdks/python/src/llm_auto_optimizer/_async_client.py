"""The client of applications on asyncio."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Callable, cast
from weakref import WeakValueDictionary

import httpx

from llm_auto_optimizer import _calls as calls
from llm_auto_optimizer._async_tracker import AsyncRequestTracker, on_loop
from llm_auto_optimizer._base import FLUSH_AT_EXIT, ClientBase
from llm_auto_optimizer._calls import ConfigLike
from llm_auto_optimizer._config import Config, ScopeKey
from llm_auto_optimizer._config_source import read_answer
from llm_auto_optimizer._errors import OptimizerError
from llm_auto_optimizer._reports import complete_metric, complete_quality
from llm_auto_optimizer._transport import AsyncTransport
from llm_auto_optimizer._types import (
    JSON,
    ConfigUpdateResult,
    ConfigVersions,
    Constraints,
    Deployment,
    Deployments,
    Health,
    History,
    IngestResult,
    MetricLike,
    MetricsQueryResult,
    Objectives,
    OptimizationStarted,
    OptimizationStatus,
    Policy,
    QualityLike,
    Status,
)


class AsyncOptimizerClient(ClientBase):
    """`OptimizerClient` for asyncio: the same calls, awaited. It belongs to one event loop.

    Args:
        http_client: for what is awaited; it stays one's own to close.
        background_http_client: for what goes on beside the loop, on threads: reports that are queued, and
            configurations that are kept fresh.

    The others are those of `OptimizerClient`.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        api_key: str | None = None,
        timeout: float = 5.0,
        retries: int = 3,
        poll_interval: float = 30.0,
        stream: bool = True,
        queue_size: int = 10_000,
        default_config: ConfigLike | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        http_client: httpx.AsyncClient | None = None,
        background_http_client: httpx.Client | None = None,
    ) -> None:
        super().__init__(
            endpoint=endpoint,
            api_key=api_key,
            timeout=timeout,
            retries=retries,
            poll_interval=poll_interval,
            stream=stream,
            queue_size=queue_size,
            default_config=default_config,
            cache_dir=cache_dir,
            http_client=background_http_client,
        )
        self._locks: WeakValueDictionary[ScopeKey, asyncio.Lock] = WeakValueDictionary()
        self._async_transport = AsyncTransport(http_client=http_client, **self._wire)

    # Configuration

    async def get_config(
        self, service: str | None = None, endpoint: str | None = None, unit: str | None = None
    ) -> Config:
        """The configuration to call with: of a service, of one of its endpoints, or with neither the global.

        Meant to be asked before every call: only the very first waits for the server, the others are
        answered from memory, which is kept fresh in the background. While a rollout runs, `unit` (a user's
        or a session's id) decides who gets the canary and keeps getting it; without a unit each call is
        drawn by the canary's share. A canary that nobody watches any more is not served. If the server
        cannot be reached, the last answer holds: of this process, or kept on disk, or else the default.
        With none of them the first call raises.
        """
        return self._drawn(service, endpoint, unit) or await self._first(service, endpoint, unit)

    async def _first(self, service: str | None, endpoint: str | None, unit: str | None) -> Config:
        scope = ScopeKey(service, endpoint)
        async with self._locks.setdefault(scope, asyncio.Lock()):  # one asks, for all that wait
            if self._configs.draw(scope, unit) is None:
                await self._ask(scope)
        return cast(Config, self._drawn(service, endpoint, unit))

    async def _ask(self, scope: ScopeKey) -> None:
        failure = self._configs.failure(scope)
        if failure is not None:
            raise failure
        request = self._source.request(scope)
        try:
            if self._configs.fallback(scope) is None:
                answer = await self._async_transport.call_for(request, read_answer)
            else:
                answer = read_answer(await self._async_transport.send(request))
        except OptimizerError as error:
            self._configs.fall_back(scope, error)
        else:
            await asyncio.to_thread(self._configs.accept, scope, answer)

    def subscribe_config_updates(
        self, callback: Callable[[Config], Any], service: str | None = None, endpoint: str | None = None
    ) -> Callable[[], None]:
        """Calls `callback` with this instance's configuration as soon as it is known, and at each change.

        It is called on the loop that this is called on, and awaited if it is a coroutine function. Gives a
        function that ends it.
        """
        return self._subscribe(on_loop(callback), service, endpoint)

    async def update_config(
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
        return await self._async_transport.call(request)

    async def rollback_config(
        self,
        version: str,
        *,
        reason: str,
        deployment_strategy: str | None = None,
        validate_only: bool = False,
    ) -> ConfigUpdateResult:
        """Brings an earlier version back, as a rollout of its own."""
        request = calls.rollback_config(version, reason, deployment_strategy, validate_only)
        return await self._async_transport.call(request)

    async def get_versions(
        self,
        service: str | None = None,
        endpoint: str | None = None,
        *,
        limit: int | None = None,
        offset: int | None = None,
    ) -> ConfigVersions:
        """A service's versions or its endpoint's, without a service those of all scopes, the newest first."""
        return await self._async_transport.call(calls.versions(service, endpoint, limit, offset))

    # Reports

    async def report_metrics(self, metric: MetricLike) -> IngestResult:
        """Reports one call. Waits until the server has it; `track_request` does not."""
        return await self.report_metrics_batch([metric])

    async def report_metrics_batch(self, metrics: Sequence[MetricLike]) -> IngestResult:
        """Reports calls. The server takes the good ones and names the others in `errors`."""
        completed = [complete_metric(metric, self._handed_out) for metric in metrics]
        return await self._async_transport.call(calls.metrics(completed))

    async def report_quality(self, quality: QualityLike) -> IngestResult:
        """Reports how good an answer was, 0..100."""
        return await self.report_quality_batch([quality])

    async def report_quality_batch(self, evaluations: Sequence[QualityLike]) -> IngestResult:
        """Reports how good answers were. The server takes the good ones and names the others in `errors`."""
        completed = [complete_quality(quality, self._handed_out) for quality in evaluations]
        return await self._async_transport.call(calls.quality(completed))

    def track_request(self, *, service: str, endpoint: str, unit: str | None = None) -> AsyncRequestTracker:
        """A context manager that times a call and reports it in the background. It never fails the caller."""
        return AsyncRequestTracker(
            fetch=lambda: self.get_config(service, endpoint, unit), **self._tracking(service, endpoint)
        )

    # Analytics

    async def query_metrics(
        self,
        *,
        metrics: Sequence[str],
        time_range: Mapping[str, int],
        services: Sequence[str] | None = None,
        aggregation: str | None = None,
        group_by: Sequence[str] | None = None,
        interval: int | None = None,
    ) -> MetricsQueryResult:
        """Metrics such as `latency.p95` of `time_range`, from its `start` to its `end` (ms since the epoch).

        Without `aggregation` each is computed over the whole time, or over each `interval` (ms); with it,
        values of minutes are folded.
        """
        request = calls.query_metrics(metrics, time_range, services, aggregation, group_by, interval)
        return await self._async_transport.call(request)

    async def get_history(
        self,
        *,
        limit: int | None = None,
        offset: int | None = None,
        services: Sequence[str] | None = None,
        time_range: Mapping[str, int] | None = None,
    ) -> History:
        """What the optimizer analysed, decided and deployed, the newest first."""
        return await self._async_transport.call(calls.history(limit, offset, services, time_range))

    # Optimization

    async def trigger_optimization(
        self,
        services: Sequence[str] | None = None,
        objectives: Objectives | None = None,
        constraints: Constraints | None = None,
        dry_run: bool = False,
    ) -> OptimizationStarted:
        """Starts an optimization: of these services, or of all. `objectives` replace the policy's,
        `constraints` are added to it."""
        return await self._async_transport.call(
            calls.trigger_optimization(services, objectives, constraints, dry_run)
        )

    async def get_optimization(self, optimization_id: str) -> OptimizationStatus:
        """How far an optimization is, and what it came to."""
        return await self._async_transport.call(calls.optimization(optimization_id))

    async def list_deployments(
        self,
        *,
        scope: str | None = None,
        open: bool = False,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Deployments:
        """Rollouts, the newest first; of a `scope` (a service, `<service>:<endpoint>` or `global`), or `open`
        ones alone."""
        return await self._async_transport.call(calls.deployments(scope, open, limit, offset))

    async def get_deployment(self, deployment_id: str) -> Deployment:
        """A rollout: its steps, their verdicts, and the guardrails of each."""
        return await self._async_transport.call(calls.deployment(deployment_id))

    async def pause_deployment(self, deployment_id: str, reason: str | None = None) -> Deployment:
        """Holds a rollout at its share, and the time that its step has left."""
        return await self._async_transport.call(calls.steer(deployment_id, "pause", reason))

    async def resume_deployment(self, deployment_id: str, reason: str | None = None) -> Deployment:
        """Goes on with a paused or held rollout."""
        return await self._async_transport.call(calls.steer(deployment_id, "resume", reason))

    async def approve_deployment(self, deployment_id: str, reason: str | None = None) -> Deployment:
        """Lets a rollout that awaits approval go on."""
        return await self._async_transport.call(calls.steer(deployment_id, "approve", reason))

    async def promote_deployment(self, deployment_id: str, reason: str | None = None) -> Deployment:
        """Ends a rollout with the new version for everybody."""
        return await self._async_transport.call(calls.steer(deployment_id, "promote", reason))

    async def abort_deployment(self, deployment_id: str, reason: str | None = None) -> Deployment:
        """Ends a rollout with the old version for everybody."""
        return await self._async_transport.call(calls.steer(deployment_id, "abort", reason))

    async def get_policy(self, service: str) -> JSON:
        """A service's policy, defaults filled in."""
        return await self._async_transport.call(calls.policy(service))

    async def put_policy(self, service: str, policy: Policy) -> JSON:
        """Sets a service's policy; what it leaves out is the default."""
        return await self._async_transport.call(calls.put_policy(service, policy))

    async def get_health(self) -> Health:
        """How the server is."""
        return await self._async_transport.call(calls.health())

    async def get_status(self) -> Status:
        """What the server does at present."""
        return await self._async_transport.call(calls.status())

    # Life

    async def flush(self, timeout: float = FLUSH_AT_EXIT) -> bool:
        """Waits until every tracked call so far is reported; False if `timeout` seconds did not suffice."""
        return await asyncio.to_thread(self._queue.flush, timeout)

    async def close(self, timeout: float = FLUSH_AT_EXIT) -> None:
        """Reports what still waits, for at most `timeout` seconds, and closes the connections."""
        await asyncio.to_thread(self._end, timeout)
        await self._async_transport.close()

    async def __aenter__(self) -> AsyncOptimizerClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
