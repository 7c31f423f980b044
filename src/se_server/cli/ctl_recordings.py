"""`se-ctl record --as-test`: a recording as a pytest test."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from se_server.cli.ctl_tables import printable
from se_server.errors import CallerError
from se_server.recordings.as_test import app_of, source_of
from se_server.recordings.reading import load_recorded
from se_server.recordings.records import Recorded, turns_of


def one_of(paths: Sequence[str], nth: int | None) -> str:
    """Return one of the recordings of an id; where there are several, standard error lists them and the choice.

    Args:
        paths: the recordings, the oldest first.
        nth: the choice, from 1; None for the newest.

    Raises:
        CallerError: there are not as many.
    """
    chosen = len(paths) if nth is None else nth
    if len(paths) > 1:
        rows = [
            f"  {number}{' (taken)' if number == chosen else ''}: {_outcomes_of(path)}: {printable(path)}"
            for number, path in enumerate(paths, 1)
        ]
        head = f"se-ctl: the conversation has {len(paths)} recordings, one for each connection; --nth N takes another:"
        print("\n".join([head, *rows]), file=sys.stderr)
    if chosen > len(paths):
        raise CallerError(f"--nth {chosen}: the conversation has {len(paths)} recording{'s'[: len(paths) - 1]}")
    return paths[chosen - 1]


def _outcomes_of(path: str) -> str:
    try:
        turns = turns_of(load_recorded(Path(path)))
    except CallerError:
        return "it cannot be read"
    return "turns " + ", ".join(turn.outcome for turn in turns) if turns else "no turns"


def as_test_of(path: str, folder: str | None, force: bool = False) -> str:
    """Return the source of a test of a recording, or write it and return where.

    Args:
        path: the recording.
        folder: the directory of the test and of a copy of the recording; None for no file.
        force: whether a test that is there, and is another, is overwritten.

    Raises:
        CallerError: the recording cannot be read, or has no texts; or the test is there, and is another.
    """
    recorded = load_recorded(Path(path))
    app = _app_from_here(recorded)
    if folder is None:
        return source_of(recorded, path, app).rstrip("\n")
    name = Path(path).name
    source = source_of(recorded, name, app)
    test = Path(folder) / f"test_{Path(path).stem.replace('-', '_')}.py"
    try:
        if not force and test.exists() and test.read_bytes() != source.encode():
            raise CallerError(f"{test} exists and differs from this test: rename it, or add --force to overwrite it")
        Path(folder).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, Path(folder) / name)
        test.write_text(source, encoding="utf-8")
    except OSError as error:
        raise CallerError(f"cannot write to {folder}: {error.strerror}") from None
    return str(test)


def _app_from_here(recorded: Recorded) -> str:
    """Return the APP as pytest finds it from this directory; its file's name alone where it is somewhere else."""
    app = str(recorded.header.get("app"))
    file, dot, rest = app.partition(".py")
    try:
        return str(Path(file + dot).relative_to(Path.cwd())) + rest if dot else app_of(recorded)
    except ValueError:
        return app if Path(file + dot).is_file() else app_of(recorded)
