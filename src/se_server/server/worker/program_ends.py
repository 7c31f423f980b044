"""The ends of a program before its worker serves, each in one sentence: an exception, an exit, or nothing at all."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from se_server.errors import AppError
from se_server.server.config.crashes import AppCrashed, user_traceback
from se_server.server.config.scripts import Script
from se_server.server.shared.exit_codes import EXIT_BOOT, EXIT_OK
from se_server.telemetry._printable import text_of

EACH = "each worker runs this code, and so does a reload beside the old workers"
_PORT = (
    f"opens a port of its own, which is in use, and {EACH}: open port 0, set SO_REUSEPORT, or give --workers 1 and"
    " restart in place of reloads; --admin serves the metrics of all workers"
)
_STDIN = f"reads stdin, which has ended, and {EACH}: take the value from an argument or a variable"
_ONCE = f"; {EACH}: give --workers 1, and restart in place of reloads, if that can be held only once"
_OF_STDIN = "EOF when reading a line"
_HELD = re.compile(r"\b(locked|lock|in use|already)\b", re.IGNORECASE)


class ProgramExited(AppError):
    """The program has called `sys.exit` before it served.

    Attributes:
        code: the exit code of a server that cannot start for this reason.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def ended_early(script: Script, error: BaseException | None, *, has_begun: bool) -> AppError:
    """Return the reason why a program has ended before its worker served.

    Args:
        error: the exception that has left it; None without one.
        has_begun: whether it has called `serve()`.
    """
    when = "before its serve() was ready" if has_begun else "before serve()"
    if error is None:
        return AppError(f"{script.file} has ended {when}" if has_begun else _never_served(script))
    conflict = conflict_of(error)
    if conflict:
        return AppCrashed(f"{script.file}, {when}, {conflict}", user_traceback(error))
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        said = f"with code {code}" if error.code is None or isinstance(error.code, int) else f": {text_of(error)}"
        sentence = f"{script.file} has exited {when}{'' if said.startswith(':') else ' '}{said}"
        return ProgramExited(sentence, EXIT_OK if code == 0 and not has_begun else EXIT_BOOT)
    crashed = AppCrashed.of(f"{script.file}, {when},", error)
    is_held = isinstance(error, BlockingIOError | FileExistsError) or _HELD.search(text_of(error)) is not None
    return AppCrashed(f"{crashed}{_ONCE}", crashed.details) if is_held else crashed


def conflict_of(error: BaseException) -> str:
    """Return what a program has failed in because other workers run it, too; empty if that is not known."""
    for each in _chain(error):
        if isinstance(each, OSError) and each.errno == errno.EADDRINUSE:
            return _PORT
        if isinstance(each, EOFError) and str(each) == _OF_STDIN:
            return _STDIN
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, those in a group, and those that it came from."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [*getattr(each, "exceptions", ()), each.__cause__, each.__context__]


def _never_served(script: Script) -> str:
    return (
        f"{script.file} has ended without serve(): se-server run is for programs that call engine.serve() or"
        f" SpeechEngineServer(...).serve(); a file with handlers is run by se-server {script.file}"
    )
