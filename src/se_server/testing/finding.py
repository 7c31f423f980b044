"""Find the agent of a test from wherever pytest was started: beside the test, and in the directories above it."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from se_server.errors import AppError


def found_app(app: str, test: Path, root: Path) -> str:
    """Return an APP as it is loaded from the working directory.

    Args:
        app: `module`, `module:attr`, `file.py` or `file.py:attr`, as a test names it.
        test: the file of the test.
        root: the root directory of pytest.

    Raises:
        AppError: a file is named that is nowhere; the message says what to do.
    """
    place, colon, attribute = _split(app)
    if place.endswith(".py"):
        if Path(place).exists():
            return app
        for folder in _folders(test, root):
            if (folder / place).is_file():
                _put_on_path(folder)  # other modules of the agent may be named from there
                return f"{folder / place}{colon}{attribute}"
        beside = [path.name for path in Path(place).resolve().parent.glob("*.py")]
        near = difflib.get_close_matches(Path(place).name, beside, 1)
        hint = f", did you mean {near[0]}? There is" if near else ", and"
        raise AppError(
            f"there is no file {Path(place).resolve()}{hint} no {place} beside the test or in a directory above:"
            " run pytest in the directory of your agent, or give its path in the test,"
            f' pytest.mark.se_app("path/to/{Path(place).name}")'
        )
    first = place.partition(".")[0]
    if first not in sys.modules and not _is_importable(first):
        for folder in _folders(test, root):
            if (folder / f"{first}.py").is_file() or (folder / first).is_dir():
                _put_on_path(folder)
                break
    return app


def _split(app: str) -> tuple[str, str, str]:
    file, dot, attribute = app.rpartition(".py:")
    return (f"{file}.py", ":", attribute) if dot else (app, "", "") if app.endswith(".py") else app.partition(":")


def _folders(test: Path, root: Path) -> Iterator[Path]:
    """Yield the directory of the test and those above it, then pytest's root."""
    yield from test.parents
    yield root


def _is_importable(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _put_on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
