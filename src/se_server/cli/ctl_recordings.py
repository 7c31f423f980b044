"""`se-ctl record --as-test`: a recording as a pytest test."""

from __future__ import annotations

import shutil
from pathlib import Path

from se_server.errors import CallerError
from se_server.recordings.as_test import app_of, source_of
from se_server.recordings.reading import load_recorded
from se_server.recordings.records import Recorded


def as_test_of(path: str, folder: str | None) -> str:
    """Return the source of a test of a recording, or write it and return where.

    Args:
        path: the recording.
        folder: the directory of the test and of a copy of the recording; None for no file.

    Raises:
        CallerError: the recording cannot be read, or has no texts.
    """
    recorded = load_recorded(Path(path))
    app = _app_from_here(recorded)
    if folder is None:
        return source_of(recorded, path, app).rstrip("\n")
    name = Path(path).name
    source = source_of(recorded, name, app)
    test = Path(folder) / f"test_{Path(path).stem.replace('-', '_')}.py"
    try:
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
