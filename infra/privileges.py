"""The user that PostgreSQL runs as, which refuses to run as root.

Where this process is root, as in most containers, PostgreSQL runs as `nobody`. Files and folders on
the way that `nobody` may not pass, such as a closed home, keep their permissions: on Linux the
process is given the single capability CAP_DAC_OVERRIDE instead.
"""

import os
import pwd
import stat
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from infra.errors import StackError

UNPRIVILEGED = "nobody"


@dataclass(frozen=True)
class Account:
    """A user to run as; with `override_permissions` closed folders are passed nevertheless."""

    uid: int
    gid: int
    override_permissions: bool = False

    def may_pass(self, folder: Path) -> bool:
        """Whether the user may reach what is in the folder, by its and its parents' permission bits."""
        return all(self._may_enter(part.stat()) for part in (folder, *folder.parents))

    def _may_enter(self, status: os.stat_result) -> bool:
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)


def unprivileged_account(*folders: Path) -> Account | None:
    """The account for a program that refuses root and works in these (resolved) folders.

    None where this process is not root, and needs no other account.

    Raises:
        StackError: the system has no such account, or it cannot reach a folder.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise StackError(
            f"PostgreSQL does not run as root, and there is no user {UNPRIVILEGED!r} to run it as; "
            "start as another user, or give DATABASE_URL"
        ) from None
    account = Account(entry.pw_uid, entry.pw_gid)
    closed = next((folder for folder in folders if not account.may_pass(folder)), None)
    if closed is None:
        return account
    if not sys.platform.startswith("linux"):
        raise StackError(
            f"PostgreSQL does not run as root, and the user {UNPRIVILEGED!r} that it runs as instead "
            f"may not enter {closed}; choose another data folder, start as another user, or give DATABASE_URL"
        )
    return replace(account, override_permissions=True)
