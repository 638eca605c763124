"""What a replay says of itself while it runs."""

from dataclasses import dataclass
from typing import Protocol

from llm_auto_optimizer import Deployment, OptimizationStatus

from cli.replaying.tally import Tally


@dataclass(slots=True)
class Progress:
    """Where the replay is. `stage` is in words; `optimization` and `deployment` as the server has them."""

    stage: str
    tally: Tally
    optimization: OptimizationStatus | None = None
    deployment: Deployment | None = None


class View(Protocol):
    """Shows the progress to a person."""

    def update(self, progress: Progress) -> None:
        """Called several times a second."""


class Silent:
    """Shows nothing."""

    def update(self, progress: Progress) -> None:
        pass
