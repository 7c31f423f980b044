"""Crashes of an APP: the error of user code that raised while it was loaded or started."""

from __future__ import annotations

import importlib
import os
import traceback
from pathlib import Path

from se_server.errors import AppError
from se_server.server.config.doubts import lacks_key, missing_variable
from se_server.telemetry._printable import text_of

_NOT_THE_USERS = (
    "<frozen importlib",
    str(Path(importlib.__file__).parent) + os.sep,
    str(Path(__file__).resolve().parent.parent) + os.sep,
)


class AppCrashed(AppError):
    """User code raised while it was loaded or started.

    Attributes:
        details: the traceback, with the user's frames only.
    """

    def __init__(self, message: str, details: str) -> None:
        super().__init__(message)
        self.details = details

    @classmethod
    def of(cls, what: str, error: BaseException) -> AppCrashed:
        """Make the error from an exception; `what` names the code that raised it."""
        missing = missing_variable(error)
        text = missing or text_of(error).strip().partition("\n")[0]
        says_all = bool(missing) or lacks_key(text)
        return cls(
            f"{what} raised {type(error).__name__}{': ' + text if text else ''}",
            "" if says_all else user_traceback(error),
        )


def user_traceback(error: BaseException) -> str:
    """Format an exception without the frames of this package and of the import system."""
    seen: set[int] = set()
    report = traceback.TracebackException.from_exception(error)
    waiting: list[traceback.TracebackException | None] = [report]
    while waiting:
        part = waiting.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        part.stack[:] = [frame for frame in part.stack if not _is_ours(frame.filename)]
        waiting += [part.__cause__, part.__context__]
    return "".join(report.format())


def _is_ours(filename: str) -> bool:
    return filename.startswith(_NOT_THE_USERS)
