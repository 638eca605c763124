"""What can go wrong with the embedded stack.

StackError
├── FolderInUse       another stack runs on the same data folder
├── ComponentFailed   a component did not start, or ended on its own
└── BinaryNotFound    no executable for a component could be found or made
"""

from pathlib import Path


class StackError(Exception):
    """The embedded stack cannot run; the message says why, and what to do."""


class FolderInUse(StackError):
    """Another stack holds the data folder.

    Attributes:
        folder: the data folder.
        pid: the process that holds it, or None where it is not known.
    """

    def __init__(self, folder: Path, pid: int | None, detail: str) -> None:
        super().__init__(f"the data folder {folder} {detail}")
        self.folder = folder
        self.pid = pid


class ComponentFailed(StackError):
    """A component did not start or ended on its own; the message ends with the last lines of its log."""

    def __init__(self, component: str, reason: str, log: Path, log_tail: str) -> None:
        shown = log_tail or "(empty)"
        super().__init__(f"{component} {reason}; the last lines of {log}:\n{shown}")
        self.component = component
        self.log_tail = log_tail


class BinaryNotFound(StackError):
    """No executable for a component; `tried` names each way that was tried and why it failed."""

    def __init__(self, wanted: str, tried: list[str], advice: str) -> None:
        lines = "".join(f"\n  - {attempt}" for attempt in tried)
        super().__init__(f"no {wanted} was found; tried:{lines}\n{advice}")
        self.tried = tried
