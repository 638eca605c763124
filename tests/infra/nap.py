"""A workflow that sleeps, in a file of its own, since the sandbox imports it anew for each run."""

from temporalio import workflow

NAP_SECONDS = 20 * 60


@workflow.defn
class Nap:
    """Sleeps for twenty minutes and gives the seconds that passed on the workflow's clock."""

    @workflow.run
    async def run(self) -> float:
        before = workflow.now()
        await workflow.sleep(NAP_SECONDS)
        return (workflow.now() - before).total_seconds()
