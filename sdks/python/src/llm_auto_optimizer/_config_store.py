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

from llm_auto_optimizer._config import Config, ScopeKey
from llm_auto_optimizer._errors import UnexpectedAnswerError

logger = logging.getLogger("llm_auto_optimizer")


class ConfigStore:
    """A file per scope of a server, in a folder that processes may share: each file is replaced whole.

    A canary is never kept: after a restart nobody knows whether it is still watched. Nothing here raises: a
    folder that cannot be read or written is logged, and the client goes on without.
    """

    def __init__(self, folder: str | os.PathLike[str], server: str) -> None:
        self._folder = Path(folder)
        self._server = server

    def load(self) -> dict[ScopeKey, Config]:
        """What was kept of this server."""
        kept = {}
        for content in self._contents():
            try:
                if content["server"] == self._server:
                    scope = ScopeKey(content.get("service"), content.get("endpoint"))
                    kept[scope] = Config.from_answer(content)
            except (AttributeError, KeyError, TypeError, UnexpectedAnswerError) as error:
                logger.warning("a kept configuration is not used: %s", error)
        return kept

    def save(self, scope: ScopeKey, config: Config) -> None:
        """Keeps a scope's configuration in place of the last one."""
        named = {name: value for name, value in scope._asdict().items() if value is not None}
        content = {"server": self._server, **named, "version": config.version, "config": config.to_dict()}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _replace(self._folder / self.name_of(scope), json.dumps(content))
        except OSError as error:
            logger.warning("configuration not kept on disk: %s", error)

    def name_of(self, scope: ScopeKey) -> str:
        """A scope's file, named as the other SDKs do."""
        named = "\n".join((self._server, scope.service or "", scope.endpoint or ""))
        return f"{hashlib.sha256(named.encode()).hexdigest()[:32]}.config.json"

    def _contents(self) -> Iterator[Any]:
        for path in sorted(self._folder.glob("*.config.json")):
            try:
                yield json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                logger.warning("%s is not used: %s", path, error)


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
