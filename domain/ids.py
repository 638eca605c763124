"""Identifiers: a prefix that tells the kind, and a ULID, so that they sort by time."""

from ulid import ULID


def new_id(prefix: str) -> str:
    """A fresh id such as `dep_01JD...`."""
    return f"{prefix}_{ULID()}"
