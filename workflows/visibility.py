"""What the Temporal UI shows of a workflow: search attributes, and a live table."""

from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributeUpdate

SERVICE = SearchAttributeKey.for_keyword("OptService")
VERSION = SearchAttributeKey.for_keyword("OptConfigVersion")
DEPLOYMENT = SearchAttributeKey.for_keyword("OptDeploymentId")
PHASE = SearchAttributeKey.for_keyword("OptPhase")
STRATEGY = SearchAttributeKey.for_keyword("OptStrategy")
OUTCOME = SearchAttributeKey.for_keyword("OptOutcome")
STEP_PERCENT = SearchAttributeKey.for_int("OptStepPercent")

KEYWORDS = (SERVICE, VERSION, DEPLOYMENT, PHASE, STRATEGY, OUTCOME)
INTEGERS = (STEP_PERCENT,)


def upsert(searchable: bool, *updates: SearchAttributeUpdate[Any]) -> None:
    """Set search attributes, where the server knows them: an unknown one would stall the workflow."""
    if searchable:
        workflow.upsert_search_attributes(list(updates))


def millis() -> int:
    """The workflow's time, ms since the epoch."""
    return int(workflow.now().timestamp() * 1000)
