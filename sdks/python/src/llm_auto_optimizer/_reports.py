"""Completes reports with what the caller need not know: the version that served the call, the totals."""

from __future__ import annotations

from typing import Any

from llm_auto_optimizer._config import DEFAULT_VERSION, Config
from llm_auto_optimizer._context import HandedOut
from llm_auto_optimizer._types import MetricLike, QualityLike

VERSION_TAG = "configVersion"


def version_of(config: Config | None) -> str | None:
    """What a report says of it: None where there is none, or where it is the caller's own default."""
    return None if config is None or config.version == DEFAULT_VERSION else config.version


def complete_metric(metric: MetricLike, handed_out: HandedOut) -> dict[str, Any]:
    """A copy of `metric` that names its version: the caller's `tags.configVersion`, else the one that this
    call context was last handed for its service."""
    completed = dict(metric)
    tags = completed.get("tags") or {}
    version = version_of(handed_out.last(completed.get("service")))
    if isinstance(tags, dict) and VERSION_TAG not in tags and version is not None:
        completed["tags"] = {**tags, VERSION_TAG: version}
    return completed


def complete_quality(quality: QualityLike, handed_out: HandedOut) -> dict[str, Any]:
    """A copy of `quality` that names its version, where neither a request nor a version is named."""
    completed = dict(quality)
    version = version_of(handed_out.last(completed.get("service")))
    if "requestId" not in completed and VERSION_TAG not in completed and version is not None:
        completed[VERSION_TAG] = version
    return completed
