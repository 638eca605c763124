"""Completes reports with what the caller need not know: the version that served the call, the totals."""

from __future__ import annotations

from typing import Any

from llm_auto_optimizer._context import HandedOut
from llm_auto_optimizer._types import MetricLike, QualityLike

VERSION_TAG = "configVersion"


def complete_metric(metric: MetricLike, handed_out: HandedOut) -> dict[str, Any]:
    """A copy of `metric` that names its version: the caller's `tags.configVersion`, else the one that this
    call context was last handed for its service."""
    completed = dict(metric)
    tags = completed.get("tags") or {}
    config = handed_out.last(completed.get("service"))
    if isinstance(tags, dict) and VERSION_TAG not in tags and config is not None and config.version:
        completed["tags"] = {**tags, VERSION_TAG: config.version}
    return completed


def complete_quality(quality: QualityLike, handed_out: HandedOut) -> dict[str, Any]:
    """A copy of `quality` that names its version, where neither a request nor a version is named."""
    completed = dict(quality)
    config = handed_out.last(completed.get("service"))
    named = "requestId" in completed or VERSION_TAG in completed
    if not named and config is not None and config.version:
        completed[VERSION_TAG] = config.version
    return completed
