"""Paths in directories that other users can write to: a link that they have put there must not lead us elsewhere."""

from __future__ import annotations

import errno
import os
import stat

MAX_LINKS = 40  # as Linux
_KINDS = (
    (stat.S_ISDIR, "directory"),
    (stat.S_ISFIFO, "FIFO"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISLNK, "symbolic link"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)
_MAGIC = "/proc/"  # its links lead to open files, and have no other path


def resolve(path: str) -> str:
    """Return a path with its links followed, except for links that another user could have put there.

    A link in a directory that others can write to must belong to this user or root. So must the last part of the path
    in any directory; earlier parts may also belong to the owner of their directory, as with the links of a deployment.

    Raises:
        OSError: a part of the path is such a link, or cannot be read. A last part that does not exist is no error.
    """
    rest = [part for part in os.path.abspath(path).split("/") if part]
    done, links = "/", 0
    while rest:
        part = rest.pop(0)
        if part == "..":
            done = os.path.dirname(done)
            continue
        here = os.path.join(done, part)
        if here.startswith(_MAGIC):
            return os.path.join(here, *rest)
        try:
            seen = os.lstat(here)
        except FileNotFoundError:
            if rest:
                raise
            return here
        if not stat.S_ISLNK(seen.st_mode):
            done = here
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if not _is_trusted(seen, os.stat(done), is_last=not rest):
            raise OSError(errno.EPERM, f"{here} is a symbolic link of another user")
        target = os.readlink(here)
        if target.startswith("/"):
            done = "/"
        rest = [part for part in target.split("/") if part not in ("", ".")] + rest
    return done


def _is_trusted(link: os.stat_result, folder: os.stat_result, *, is_last: bool) -> bool:
    if link.st_uid in (0, os.geteuid()):
        return True
    return not is_last and link.st_uid == folder.st_uid and not folder.st_mode & stat.S_IWOTH


def is_private(folder: str) -> bool:
    """Whether only this user and root can put files into a directory."""
    seen = os.stat(folder)
    return seen.st_uid in (0, os.geteuid()) and not seen.st_mode & stat.S_IWOTH


def kind_of(seen: os.stat_result) -> str:
    """Name the kind of a file that is not a regular one; empty for a regular file."""
    return next((name for is_kind, name in _KINDS if is_kind(seen.st_mode)), "")
