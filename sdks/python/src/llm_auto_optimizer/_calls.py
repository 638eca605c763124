"""The calls of the API, as requests: one function per endpoint, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Union
from urllib.parse import quote

from llm_auto_optimizer._config import Config
from llm_auto_optimizer._request import Request, get, post, put
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
    MetricsQueryResult,
    Objectives,
    OptimizationStarted,
    OptimizationStatus,
    Policy,
    Status,
)

ConfigLike = Union[Config, Mapping[str, Any]]


def config(
    service: str | None, endpoint: str | None, unit: str | None, etag: str | None = None
) -> Request[JSON]:
    """A scope's configuration, and the rollout that runs on it."""
    path = "/config/current" if service is None else f"/config/service/{_segment(service)}"
    return get(path, {"endpoint": endpoint, "unit": unit}, etag)


def config_stream(service: str | None, endpoint: str | None, unit: str) -> Request[JSON]:
    """The same as server-sent events: at once, and at each change."""
    return get("/config/stream", {"service": service, "endpoint": endpoint, "unit": unit})


def update_config(
    config: ConfigLike,
    reason: str,
    service: str | None,
    endpoint: str | None,
    deployment_strategy: str | None,
    validate_only: bool,
) -> Request[ConfigUpdateResult]:
    body = {
        "config": config.to_dict() if isinstance(config, Config) else dict(config),
        "reason": reason,
        "service": service,
        "endpoint": endpoint,
        "deploymentStrategy": deployment_strategy,
        "validateOnly": validate_only or None,
    }
    return post("/config/update", body)


def versions(
    service: str | None, endpoint: str | None, limit: int | None, offset: int | None
) -> Request[ConfigVersions]:
    """The history of a scope, or of all."""
    params = {"service": service, "endpoint": endpoint, "limit": limit, "offset": offset}
    return get("/config/versions", params)


def rollback_config(
    version: str, reason: str, deployment_strategy: str | None, validate_only: bool
) -> Request[ConfigUpdateResult]:
    body = {
        "version": version,
        "reason": reason,
        "deploymentStrategy": deployment_strategy,
        "validateOnly": validate_only or None,
    }
    return post("/config/rollback", body)


def metrics(batch: Sequence[Mapping[str, Any]]) -> Request[IngestResult]:
    return post("/metrics", {"metrics": list(batch)})


def quality(batch: Sequence[Mapping[str, Any]]) -> Request[IngestResult]:
    return post("/quality", {"evaluations": list(batch)})


def trigger_optimization(
    services: Sequence[str] | None,
    objectives: Objectives | None,
    constraints: Constraints | None,
    dry_run: bool,
) -> Request[OptimizationStarted]:
    body: dict[str, Any] = {
        "services": None if services is None else list(services),
        "objectives": None if objectives is None else list(objectives),
        "constraints": None if constraints is None else list(constraints),
        "dryRun": dry_run or None,
    }
    return post("/optimize/trigger", body)


def query_metrics(
    metrics: Sequence[str],
    time_range: Mapping[str, int],
    services: Sequence[str] | None,
    aggregation: str | None,
    group_by: Sequence[str] | None,
    interval: int | None,
) -> Request[MetricsQueryResult]:
    body = {
        "services": None if services is None else list(services),
        "metrics": list(metrics),
        "timeRange": dict(time_range),
        "aggregation": aggregation,
        "groupBy": None if group_by is None else list(group_by),
        "interval": interval,
    }
    return post("/analytics/metrics", body)


def history(
    limit: int | None,
    offset: int | None,
    services: Sequence[str] | None,
    time_range: Mapping[str, int] | None,
) -> Request[History]:
    params = {
        "limit": limit,
        "offset": offset,
        "services": None if services is None else ",".join(services),
        **(time_range or {}),
    }
    return get("/analytics/history", params)


def optimization(optimization_id: str) -> Request[OptimizationStatus]:
    return get(f"/optimize/{_segment(optimization_id)}")


def deployment(deployment_id: str) -> Request[Deployment]:
    return get(f"/deployments/{_segment(deployment_id)}")


def deployments(scope: str | None, open: bool, limit: int | None, offset: int | None) -> Request[Deployments]:
    params = {"scope": scope, "open": "true" if open else None, "limit": limit, "offset": offset}
    return get("/deployments", params)


def steer(deployment_id: str, action: str, reason: str | None) -> Request[Deployment]:
    """`pause`, `resume`, `approve`, `promote` or `abort`."""
    return post(f"/deployments/{_segment(deployment_id)}/{action}", {"reason": reason})


def policy(service: str) -> Request[JSON]:
    return get(f"/services/{_segment(service)}")


def put_policy(service: str, policy: Policy) -> Request[JSON]:
    return put(f"/services/{_segment(service)}", policy)


def health() -> Request[Health]:
    return get("/health")


def status() -> Request[Status]:
    return get("/status")


def _segment(value: str) -> str:
    return quote(value, safe="")
