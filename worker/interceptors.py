"""What goes for every activity: how errors are told to Temporal, heartbeats, a limit on results."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from pydantic import BaseModel
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

from domain.errors import OptimizerError
from storage.optimizations import OptimizationClosed
from storage.rollouts import LeaseLapsed, RolloutClosed

RESULT_LIMIT = 256 * 1024
_FINAL = (RolloutClosed, LeaseLapsed, OptimizationClosed)


class HouseRules(Interceptor):
    """Applies the rules to each activity of a worker."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Put the rules round the activity."""
        return _HouseRules(next)


class _HouseRules(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            async with _heartbeats():
                result = await super().execute_activity(input)
        except OptimizerError as error:
            raise ApplicationError(
                error.message, error.details, type=type(error).__name__, non_retryable=not error.retryable
            ) from error
        except _FINAL as error:
            raise ApplicationError(str(error), type=type(error).__name__, non_retryable=True) from error
        # A larger one would be refused by the server and the activity retried without end.
        if isinstance(result, BaseModel) and len(result.model_dump_json().encode()) > RESULT_LIMIT:
            raise ApplicationError(
                f"the result is larger than {RESULT_LIMIT} bytes", type="ResultTooLarge", non_retryable=True
            )
        return result


@contextlib.asynccontextmanager
async def _heartbeats() -> AsyncIterator[None]:
    """Heartbeat for as long as an activity that is expected to runs."""
    limit = activity.info().heartbeat_timeout
    if limit is None or not limit.total_seconds():
        yield
        return
    task = asyncio.create_task(_beat(limit.total_seconds() / 3))
    try:
        yield
    finally:
        task.cancel()


async def _beat(seconds: float) -> None:
    while True:
        activity.heartbeat()
        await asyncio.sleep(seconds)
