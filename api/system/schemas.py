"""Messages of `/health`, `/status` and the probes."""

from typing import Literal

from domain.base import Message
from domain.loop import LoopState

Status = Literal["healthy", "degraded", "unhealthy"]


class HealthCheck(Message):
    """One thing that the server leans on; `latency` in ms."""

    name: str
    healthy: bool
    message: str | None = None
    latency: float | None = None


class HealthResponse(Message):
    """`unhealthy` without PostgreSQL, `degraded` when anything else is amiss; `uptime` in ms."""

    status: Status
    version: str
    uptime: int
    checks: list[HealthCheck]


class ControlLoop(Message):
    """The busiest state over all services; the last and the next run in ms, 0 where there is none."""

    state: LoopState
    last_run: int
    next_run: int


class Deployments(Message):
    """Rollouts that are under way, and that wait to begin."""

    active: int
    pending: int


class Metrics(Message):
    """Of this process: reports that wait, reports per second, the last commit in ms, 0 for never."""

    buffer_size: int
    ingestion_rate: float
    last_flush: int


class Resources(Message):
    """Of this process."""

    memory_usage_mb: float
    cpu_usage_percent: float


class StatusResponse(Message):
    """What the system is doing."""

    mode: Literal["sidecar", "standalone", "daemon"]
    control_loop: ControlLoop
    deployments: Deployments
    metrics: Metrics
    resources: Resources


class Probe(Message):
    """All is well."""

    status: str = "ok"
