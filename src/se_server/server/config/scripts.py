"""Programs that serve by themselves, run by `se-server run`: their name, arguments, and captured `serve()`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

from se_server.errors import AppError

WORD = "run"


MODULE = "-m"
MAIN = "__main__.py"


@dataclass(frozen=True)
class Script:
    """A program and its arguments, as an APP is named: `run script.py --color red`, `run -m package`.

    Attributes:
        file: the path of a file or a directory, as it was typed; or the name of a module.
        arguments: what the program finds in `sys.argv` after its name.
        is_module: whether the program is a module, named after `-m`.
    """

    file: str
    arguments: tuple[str, ...] = ()
    is_module: bool = False

    def __str__(self) -> str:
        return shlex.join((WORD, *([MODULE] if self.is_module else []), self.file, *self.arguments))

    @classmethod
    def of(cls, app: str | None) -> Script | None:
        """Read the name of an APP; None if it is not a program to run."""
        if app is None or not app.startswith(WORD + " "):
            return None
        _, *words = shlex.split(app)
        is_module = words[0] == MODULE and len(words) > 1
        file, *arguments = words[1:] if is_module else words
        return cls(file, tuple(arguments), is_module)

    @property
    def path(self) -> Path:
        """The absolute path of the program's file, which is `__main__.py` in a directory.

        Raises:
            AppError: there is no such file.
        """
        path = Path(self.file).resolve()
        if os.path.isdir(path):
            path /= MAIN
        if not os.path.isfile(path):
            raise AppError(f"there is no program {path}")
        return path

    @property
    def watched(self) -> str:
        """The APP whose folder has the program's files."""
        return self.file if self.is_module or self.file.endswith(".py") else str(Path(self.file).resolve() / MAIN)


def as_script(words: Sequence[str]) -> list[str]:
    """Return the words of a command line with `run FILE -- ARGUMENTS` put together as one APP; others unchanged."""
    for place, word in enumerate(words[:-1]):
        if word != WORD:
            continue
        is_module = words[place + 1] == MODULE and place + 2 < len(words)
        at = place + 2 if is_module else place + 1
        if is_module or _is_program(words[at]):
            options, _, arguments = _halves(words[at + 1 :])
            return [*words[:place], str(Script(words[at], tuple(arguments), is_module)), *options]
    return list(words)


def _is_program(word: str) -> bool:
    return word.endswith(".py") or os.path.isfile(word) or os.path.isfile(os.path.join(word, MAIN))


def _halves(words: Sequence[str]) -> tuple[Sequence[str], str, Sequence[str]]:
    if "--" not in words:
        return words, "", ()
    end = words.index("--")
    return words[:end], "--", words[end + 1 :]


class Serving(Protocol):
    """A `serve()` of a program, as the worker that serves in its place sees it.

    Attributes:
        server: the `SpeechEngineServer`.
        is_ready: tells the program the port when conversations are accepted.
    """

    server: Any
    is_ready: Callable[[int], None]

    async def wait_stop(self) -> None:
        """Return when the program has called `stop()`."""


Captor = Callable[[Serving], Awaitable[None]]
_state: dict[str, Captor | None] = {"captor": None}


def capture(captor: Captor) -> None:
    """Let each `serve()` of this process await `captor` in place of serving by itself."""
    _state["captor"] = captor


class Refused(SystemExit):
    """Ends a program at a call that se-server refuses; an `except Exception` around the call does not hold it.

    Attributes:
        error: the reason.
    """

    def __init__(self, error: AppError) -> None:
        super().__init__(str(error))
        self.error = error


_refusals: list[AppError] = []


def refuse(reason: str) -> NoReturn:
    """Refuse a call of a program, which ends.

    Raises:
        Refused: always; a thread ends silently by it, so that `refusal` has the reason, too.
    """
    error = AppError(reason)
    _refusals.append(error)
    raise Refused(error)


def refusal() -> AppError | None:
    """Return the reason for which a call of the program was refused; None if none was."""
    return _refusals[0] if _refusals else None


def captor() -> Captor | None:
    """Return what serves in place of `serve()`; None where programs serve by themselves."""
    return _state["captor"]
