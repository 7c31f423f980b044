"""Directories of the user's run-time files, in which `se-ctl` finds the control sockets of servers.

`XDG_RUNTIME_DIR` is not set in containers, in cron jobs and after su, and server and `se-ctl` may differ in it. So
there are several places. A server uses the first that is safe: a directory of the user's own that nobody else can write
to.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from se_server.errors import ConfigError

RUN = "/run"
PREFIX = "se-server-"
SUFFIX = ".ctl"


def runtime_directory(environ: Mapping[str, str]) -> str:
    """Return the directory for the control socket of a server; make it if needed.

    Raises:
        ConfigError: there is no directory that is safe; the text gives the reason of each.
    """
    user = os.geteuid()
    reasons = []
    for folder in _own(environ, user):
        try:
            if os.path.basename(folder) == f"{PREFIX}{user}":
                with suppress(FileExistsError):
                    os.mkdir(folder, 0o700)
            _check(folder, user)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise ConfigError(f"{folder} is not writable")
        except OSError as error:
            reasons.append(f"{folder}: {error.strerror}")
        except ConfigError as error:
            reasons.append(str(error))
        else:
            return folder
    raise ConfigError(f"there is no safe directory for the control socket ({'; '.join(reasons)})")


def control_sockets(environ: Mapping[str, str]) -> Iterator[list[str]]:
    """Return the paths of control sockets, those of the likeliest directory first.

    Root also gets those of other users, last: in a container, the server often has a user of its own.
    """
    user = os.geteuid()
    for folder in dict.fromkeys(_own(environ, user)):
        yield _sockets_in(folder, user)
    if user == 0:
        others: list[str] = []
        for folder in _of_others():
            with suppress(ValueError):
                owner = int(os.path.basename(folder).removeprefix(PREFIX))
                others += [] if owner == user else _sockets_in(folder, owner)
        yield others


def _own(environ: Mapping[str, str], user: int) -> list[str]:
    given = environ.get("XDG_RUNTIME_DIR", "")
    folders = [given] if os.path.isabs(given) else []
    return [*folders, f"{RUN}/user/{user}", f"{RUN}/{PREFIX}{user}", os.path.join(_temporary(), f"{PREFIX}{user}")]


def _of_others() -> list[str]:
    places = [(f"{RUN}/user", "*"), (RUN, f"{PREFIX}*"), (_temporary(), f"{PREFIX}*")]
    return sorted(str(path) for place, pattern in places for path in Path(place).glob(pattern))


def _temporary() -> str:
    return os.path.realpath(tempfile.gettempdir())


def _sockets_in(folder: str, owner: int) -> list[str]:
    try:
        _check(folder, owner)
    except (OSError, ConfigError):
        return []
    return sorted(map(str, Path(folder).glob(f"{PREFIX}*{SUFFIX}")))


def _check(folder: str, owner: int) -> None:
    """Refuse a directory that another user controls.

    Raises:
        OSError: there is no such directory.
        ConfigError: it is a link, or belongs to another user, or others may write to it.
    """
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{folder} is a link or a file")
    if found.st_uid != owner:
        raise ConfigError(f"{folder} belongs to another user")
    if found.st_mode & 0o077 and os.path.basename(folder) == f"{PREFIX}{owner}":
        raise ConfigError(f"{folder} is open to other users: its mode must be 700")
    if found.st_mode & 0o022:
        raise ConfigError(f"other users may write to {folder}")
