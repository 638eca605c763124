"""Passwords of the embedded servers: made once, kept in a file that only its owner may read."""

import secrets
from pathlib import Path


def password_in(path: Path) -> str:
    """The password that the file holds, which is made where there is none."""
    if not path.exists():
        unfinished = path.with_suffix(".new")
        unfinished.touch(mode=0o600)
        unfinished.write_text(secrets.token_hex(16))
        unfinished.rename(path)
    return path.read_text()
