"""A workflow that calls one activity. Apart from the tests, since the sandbox imports its module anew."""

from datetime import timedelta

from pydantic import BaseModel
from temporalio import workflow
from temporalio.common import RetryPolicy


class Call(BaseModel):
    """An activity to call, and how often it may be tried."""

    activity: str
    attempts: int = 3
    heartbeat_seconds: float | None = None


class Text(BaseModel):
    text: str


@workflow.defn
class OneActivity:
    """Calls an activity and gives what it gave."""

    @workflow.run
    async def run(self, call: Call) -> Text:
        heartbeat = timedelta(seconds=call.heartbeat_seconds) if call.heartbeat_seconds else None
        result: Text = await workflow.execute_activity(
            call.activity,
            result_type=Text,
            start_to_close_timeout=timedelta(seconds=30),
            heartbeat_timeout=heartbeat,
            retry_policy=RetryPolicy(
                initial_interval=timedelta(milliseconds=1), maximum_attempts=call.attempts
            ),
        )
        return result
