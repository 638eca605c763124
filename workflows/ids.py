"""Ids of workflows and schedules, which are those of the rows that they serve."""

TASK_QUEUE = "llm-optimizer"

RECONCILE = "housekeeping/reconcile"
ANALYZE = "housekeeping/analyze"
COMPARE = "housekeeping/compare"
MAINTAIN = "housekeeping/maintain"
WATCH = "housekeeping/watch"
_SCHEDULE = "schedule/"


def optimization(optimization_id: str) -> str:
    """The workflow of a run."""
    return f"optimization/{optimization_id}"


def rollout(deployment_id: str) -> str:
    """The workflow of a rollout."""
    return f"rollout/{deployment_id}"


def delivery(webhook_id: str) -> str:
    """The workflow that sends an endpoint its events."""
    return f"delivery/{webhook_id}"


def delivery_queue(task_queue: str) -> str:
    """The queue for sending to endpoints, beside that of the workflows."""
    return f"{task_queue}-delivery"


def schedule(service: str) -> str:
    """The schedule of a service's loop."""
    return f"{_SCHEDULE}{service}"


def service_of_schedule(schedule_id: str) -> str | None:
    """The service whose loop a schedule runs; None where it is another kind of schedule."""
    return schedule_id.removeprefix(_SCHEDULE) if schedule_id.startswith(_SCHEDULE) else None
