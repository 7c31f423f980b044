"""The lines of earlier chats."""

from __future__ import annotations

import stat
from pathlib import Path

from se_server.cli.chat_history import MAX_HISTORY, history_file, load_history, save_line


def test_the_history_is_private_and_bounded(tmp_path: Path) -> None:
    path = history_file({"XDG_STATE_HOME": str(tmp_path), "HOME": "/nowhere"})
    assert load_history(path) == []
    for number in range(3):
        save_line(path, f"line {number}")
    assert load_history(path) == ["line 0", "line 1", "line 2"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("".join(f"{number}\n" for number in range(2 * MAX_HISTORY)) + "\x1b[2Jx\n")
    assert load_history(path)[-2:] == [str(2 * MAX_HISTORY - 1), "[2Jx"]
    assert len(load_history(path)) == MAX_HISTORY
    save_line(Path("/proc/nowhere/history"), "a line that cannot be kept is no failure")
