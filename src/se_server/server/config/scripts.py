"""Programs that serve by themselves, run by `se-server run`: their name, arguments, and captured `serve()`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from se_server.errors import AppError

WORD = "run"


@dataclass(frozen=True)
class Script:
    """A program and its arguments, as an APP is named: `run script.py --color red`.

    Attributes:
        file: the path, as it was typed.
        arguments: what the program finds in `sys.argv` after its name.
    """

    file: str
    arguments: tuple[str, ...] = ()

    def __str__(self) -> str:
        return shlex.join((WORD, self.file, *self.arguments))

    @classmethod
    def of(cls, app: str | None) -> Script | None:
        """Read the name of an APP; None if it is not a program to run."""
        if app is None or not app.startswith(WORD + " "):
            return None
        _, file, *arguments = shlex.split(app)
        return cls(file, tuple(arguments))

    @property
    def path(self) -> Path:
        """The absolute path of the program.

        Raises:
            AppError: there is no such file.
        """
        path = Path(self.file).resolve()
        if not os.path.isfile(path):
            raise AppError(f"se-server run: there is no file {path}")
        return path


def as_script(words: Sequence[str]) -> list[str]:
    """Return the words of a command line with `run FILE -- ARGUMENTS` put together as one APP; others unchanged."""
    for place, word in enumerate(words[:-1]):
        if word == WORD and (words[place + 1].endswith(".py") or os.path.isfile(words[place + 1])):
            options, _, arguments = _halves(words[place + 2 :])
            return [*words[:place], str(Script(words[place + 1], tuple(arguments))), *options]
    return list(words)


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


def captor() -> Captor | None:
    """Return what serves in place of `serve()`; None where programs serve by themselves."""
    return _state["captor"]
