"""Events as everybody outside sees them."""

from typing import Any, Literal, get_args

from domain.base import Message

EventType = Literal[
    "config.changed",
    "optimization.complete",
    "deployment.started",
    "deployment.progressed",
    "deployment.completed",
    "deployment.failed",
    "deployment.held",
    "rollback.triggered",
    "rollback.completed",
    "anomaly.detected",
    "alert.raised",
]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)


class EventMessage(Message):
    """Something that happened in a scope. The same `id` however often it is sent; `timestamp` in ms."""

    id: str
    type: EventType
    timestamp: int
    scope: str
    data: dict[str, Any]
