"""What the control loop may be doing."""

from typing import Literal

LoopState = Literal[
    "IDLE",
    "COLLECTING",
    "ANALYZING",
    "DECIDING",
    "VALIDATING",
    "DEPLOYING",
    "MONITORING",
    "ROLLING_BACK",
    "PAUSED",
    "STOPPED",
    "ERROR",
]
