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


# Temporal refuses a summary of more than 400 bytes, its encoding and quotes counted.
_SUMMARY_BYTES = 300
_KEYWORD_LIMIT = 255
# JSON needs two characters for each of these.
_PLAIN = str.maketrans({'"': "'", "\\": "/"})


def brief(text: str) -> str:
    """A text as a summary may be: on one line, and cut where Temporal would refuse it for its length."""
    plain = "".join(c if c.isprintable() else " " for c in text.translate(_PLAIN)).encode()
    if len(plain) <= _SUMMARY_BYTES:
        return plain.decode()
    return plain[: _SUMMARY_BYTES - 3].decode(errors="ignore") + "…"


def keyword(key: SearchAttributeKey[str], value: str) -> SearchAttributeUpdate[str]:
    """A keyword attribute's value, as long as visibility stores keep them."""
    return key.value_set(value[:_KEYWORD_LIMIT])


def upsert(searchable: bool, *updates: SearchAttributeUpdate[Any]) -> None:
    """Set search attributes, where the server knows them: an unknown one would stall the workflow."""
    if searchable:
        workflow.upsert_search_attributes(list(updates))


def millis() -> int:
    """The workflow's time, ms since the epoch."""
    return int(workflow.now().timestamp() * 1000)
