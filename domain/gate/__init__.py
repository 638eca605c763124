"""The health gate of a rollout: canary against the control that runs at the same time.

Every look closes a time bucket, in which one traffic share held, and adds it to a small state (`observe`);
`judge` gives the verdict. Errors, slow requests, mean latency, cost and quality each have an e-process,
which may be looked at as often as one likes; they are stratified by bucket, so that an incident that both
arms share counts for neither, whatever the shares were when it came (Simpson's paradox). The weighted average
of the e-values decides on a rollback, and before full exposure each guardrail must rule out critical harm.

Requests are taken as independent. Failures that come in whole sessions break that: count one per session.
"""

from domain.gate.bucket import ArmBucket, Bucket
from domain.gate.settings import GateSettings, GuardrailSettings
from domain.gate.state import GateState, observe
from domain.gate.verdict import Judgement, judge

__all__ = [
    "ArmBucket",
    "Bucket",
    "GateSettings",
    "GateState",
    "GuardrailSettings",
    "Judgement",
    "judge",
    "observe",
]
