"""Shared by the tests of recordings: a server that records, and the recordings of its directory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from se_server.recordings.reading import load_recorded
from se_server.recordings.records import Recorded
from tests.helpers import POLL_S, START_TIMEOUT_S, ServerProcess, running_server


class Flight:
    """A server that records."""

    def __init__(self, server: ServerProcess, folder: Path, control: Path) -> None:
        self.server = server
        self.folder = folder
        self._control = control

    def ctl(self, *args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run se-ctl."""
        command = [sys.executable, "-m", "se_server.cli.ctl", "--socket", str(self._control), *args]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30, cwd=cwd)

    def text_of(self, conversation_id: str) -> str:
        """Have a conversation recorded, and return the recording; empty if that was refused."""
        result = self.ctl("record", conversation_id)
        return "" if result.returncode else Path(result.stdout.strip()).read_text()

    def files(self) -> list[Path]:
        """Return the recordings."""
        return sorted(self.folder.glob("*.jsonl"))

    def wait_for(self, conversation_id: str, *, ended: bool = False) -> Recorded:
        """Return the recording of a conversation when it is there."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            for path in self.files():
                recorded = load_recorded(path)
                if recorded.conversation_id == conversation_id and (not ended or recorded.header["cause"]):
                    return recorded
            time.sleep(POLL_S)
        raise AssertionError(f"no recording of {conversation_id}: {self.files()}\n{self.server.output()}")

    def observer(self) -> int:
        """Return the process id of the observer."""
        found = re.findall(r"\[(\d+)\] se_server\.server\.observer.*records conversations", self.server.output())
        return int(found[-1])


@contextmanager
def recording_server(tmp_path: Path, level: str, *args: str, **options: Any) -> Iterator[Flight]:
    """Run a server that records to `tmp_path / "flights"`."""
    folder, control = tmp_path / "flights", tmp_path / "ctl.sock"
    given = ("--record", level, "--record-dir", str(folder), "--control-socket", str(control), *args)
    with running_server(*given, **options) as server:
        server.wait_for_output("records conversations", START_TIMEOUT_S)
        yield Flight(server, folder, control)


def words_of_folder(folder: Path) -> str:
    """Return everything in the recordings, with the JSON of messages as it is and as the texts that it means."""
    parts = []
    for path in folder.iterdir():
        for line in path.read_text().splitlines():
            parts.append(line)
            entry = json.loads(line)
            parts += texts_in(entry)
            if isinstance(text := entry.get("text"), str):
                try:
                    parts += texts_in(json.loads(text))
                except ValueError:
                    continue
    return "\n".join(parts)


def texts_in(value: Any) -> list[str]:
    """Return all texts of a JSON value."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.items() for part in item for text in texts_in(part)]
    return [text for item in value for text in texts_in(item)] if isinstance(value, list) else []
