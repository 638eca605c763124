"""A rollout as a backtest sees it: what a configuration did beside another at the same time."""

from collections.abc import Sequence
from dataclasses import dataclass

from domain.config import LLMConfig
from domain.decision.pooling import pool_key
from domain.deployment import DeploymentStatus, GuardrailReading


@dataclass(frozen=True, slots=True)
class Trial:
    """`after` was served beside `before` from `started_at` to `ended_at` (ms), None while it still is.

    `readings` are those of the gate's last look. `reason` says why it ended before its time, if it did, and
    `harmed` whether the gate took it back for harm.
    """

    deployment_id: str
    status: DeploymentStatus
    before: LLMConfig
    after: LLMConfig
    started_at: int
    ended_at: int | None
    readings: Sequence[GuardrailReading] = ()
    reason: str | None = None
    harmed: bool = False

    def tries(self, config: LLMConfig, moment: int) -> bool:
        """Whether it served a configuration, by its settings, at a moment (ms) or later."""
        return (self.ended_at is None or self.ended_at > moment) and pool_key(self.after) == pool_key(config)

    def beside(self, config: LLMConfig) -> bool:
        """Whether it did so beside this configuration, by its settings."""
        return pool_key(self.before) == pool_key(config)
