"""`se-ctl record --as-test`: a recording as a pytest test."""

from __future__ import annotations

import shutil
from pathlib import Path

from se_server.errors import CallerError
from se_server.recordings.as_test import test_of
from se_server.recordings.records import load_recorded


def as_test_of(path: str, folder: str | None) -> str:
    """Return the source of a test of a recording, or write it and return where.

    Args:
        path: the recording.
        folder: the directory of the test and of a copy of the recording; None for no file.

    Raises:
        CallerError: the recording cannot be read, or has no texts.
    """
    recorded = load_recorded(Path(path))
    if folder is None:
        return test_of(recorded, path).rstrip("\n")
    name = Path(path).name
    source = test_of(recorded, name)
    test = Path(folder) / f"test_{Path(path).stem.replace('-', '_')}.py"
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, Path(folder) / name)
        test.write_text(source, encoding="utf-8")
    except OSError as error:
        raise CallerError(f"cannot write to {folder}: {error.strerror}") from None
    return str(test)
