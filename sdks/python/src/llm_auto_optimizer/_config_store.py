"""Keeps the last known configurations on disk, for starts at which the server cannot be reached."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm_auto_optimizer._config import ScopeAnswer, ScopeKey, parse_scope_answer
from llm_auto_optimizer._errors import UnexpectedAnswerError

logger = logging.getLogger("llm_auto_optimizer")


class ConfigStore:
    """A file per scope of a server, in a folder that processes may share: each file is replaced whole.

    Nothing here raises: a folder that cannot be read or written is logged, and the client goes on without.
    """

    def __init__(self, folder: str | os.PathLike[str], server: str) -> None:
        self._folder = Path(folder)
        self._server = server

    def load(self) -> dict[ScopeKey, ScopeAnswer]:
        """What was kept. Nobody is known to watch its rollouts, so that everybody gets the control."""
        kept = {}
        for content in self._contents():
            try:
                if content["server"] == self._server:
                    answer = parse_scope_answer(
                        content["answer"], etag=None, server_ms=float("inf"), received_at=0
                    )
                    kept[ScopeKey(content["service"], content["endpoint"])] = answer
            except (KeyError, TypeError, UnexpectedAnswerError) as error:
                logger.warning("a kept configuration is not used: %s", error)
        return kept

    def save(self, scope: ScopeKey, body: Any) -> None:
        """Keeps the body of a scope's answer in place of the last one."""
        content = {
            "server": self._server,
            "service": scope.service,
            "endpoint": scope.endpoint,
            "answer": body,
        }
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _replace(self._folder / self._name(scope), json.dumps(content))
        except OSError as error:
            logger.warning("configuration not kept on disk: %s", error)

    def _contents(self) -> Iterator[Any]:
        for path in sorted(self._folder.glob("*.config.json")):
            try:
                yield json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                logger.warning("%s is not used: %s", path, error)

    def _name(self, scope: ScopeKey) -> str:
        named = json.dumps([self._server, *scope])
        return f"{hashlib.sha256(named.encode()).hexdigest()[:32]}.config.json"


def _replace(path: Path, text: str) -> None:
    """Writes beside `path`, then renames, so that a reader or a crash meets the old file or the new one."""
    handle, written = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with open(handle, "w", encoding="utf-8") as file:  # noqa: PTH123  # a descriptor, not a path
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(written).replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            Path(written).unlink()
        raise
