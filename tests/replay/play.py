"""Plays recorded histories against the workflows of today: `python -m tests.replay.play FILE ...`.

Prints what does not fit, and exits with 1 if anything did not.
"""

import asyncio
import sys
from pathlib import Path

from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from workflows.delivery import DeliveryWorkflow
from workflows.optimization import OptimizationWorkflow
from workflows.rollout import RolloutWorkflow


async def main(paths: list[Path]) -> int:
    replayer = Replayer(
        workflows=[OptimizationWorkflow, RolloutWorkflow, DeliveryWorkflow],
        data_converter=pydantic_data_converter,
    )
    failed = 0
    for path in paths:
        history = WorkflowHistory.from_json(path.stem, path.read_text(encoding="utf-8"))
        result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
        if result.replay_failure is not None:
            failed = 1
            sys.stderr.write(f"{path.name}: {result.replay_failure}\n")
    return failed


if __name__ == "__main__":
    sys.exit(asyncio.run(main([Path(argument) for argument in sys.argv[1:]])))
