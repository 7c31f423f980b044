"""The user's own redactor: whatever it does, a text is either returned by it or withheld, and the log names it once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from se_server.recordings.redaction import FAILED, redact
from se_server.server.observer import redactor
from se_server.server.observer.redactor import OwnRedactor
from tests.functional.processes import needs_proc

HOOKS = """
import os, signal, sys, time
seen = []
def hide(text):
    print("printed by the user's function")
    return text.replace("Jane", "[name]")
def count(text):
    seen.append(text)
    return f"{text} {len(seen)}"
def none(text): return None
async def coroutine(text): return text
def raises(text): raise ValueError("broke on " + text)
def exits(text): raise SystemExit(1)
def interrupted(text): raise KeyboardInterrupt
def dies(text): os._exit(3)
def kills(text): os.kill(os.getpid(), signal.SIGKILL)
def sleeps(text): time.sleep(600)
def spins(text):
    while True: pass
def long(text): return text * 10_000_000
def only_jane(text):
    return text if "Jane" not in text else dies(text)
def forks(text):
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    return str(child)
number = 7
"""


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may remain as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "hooks.py").write_text(HOOKS)
    (tmp_path / "broken.py").write_text("import nosuchmodule\n")
    (tmp_path / "quits.py").write_text("import sys; sys.exit(3)\n")
    monkeypatch.setattr(redactor, "TEXT_S", 0.3)
    return tmp_path


@pytest.fixture
def made(folder: Path) -> Iterator[dict[str, OwnRedactor]]:
    found: dict[str, OwnRedactor] = {}
    yield found
    for own in found.values():
        own.close()


def _own(made: dict[str, OwnRedactor], folder: Path, name: str) -> OwnRedactor:
    file, _, function = name.rpartition(":")
    return made.setdefault(name, OwnRedactor(f"{folder / (file or 'hooks')}.py:{function}"))


def test_the_function_changes_texts(made: dict[str, OwnRedactor], folder: Path) -> None:
    own = _own(made, folder, "hide")
    assert redact("Jane is here, jane@example.com \ud83d", own) == "[name] is here, [email] \ud83d"
    assert redact(" ", own) == " "


def test_files_of_the_working_directory_hide_nothing(
    made: dict[str, OwnRedactor], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for name in ("queue", "json", "socket", "types"):
        (folder / f"{name}.py").write_text("raise ValueError('not this one')")
    assert redact("Jane", _own(made, folder, "hide")) == "[name]"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none", "returned NoneType"),
        ("coroutine", "returned coroutine"),
        ("raises", "raised ValueError (hooks.py, line 12)"),
        ("exits", "raised SystemExit"),
        ("interrupted", "raised KeyboardInterrupt"),
        ("dies", "ended its process"),
        ("kills", "ended its process"),
        ("sleeps", "took longer than 0.3 s"),
        ("spins", "took longer than 0.3 s"),
        ("long", "returned a text that is too long"),
        ("number", "it is not a function: every text is withheld"),
        ("nosuch", "every text is withheld"),
        ("broken:x", "nosuchmodule"),
        ("quits:x", "every text is withheld"),
    ],
)
def test_a_function_that_fails_withholds_the_text(
    made: dict[str, OwnRedactor], folder: Path, caplog: pytest.LogCaptureFixture, name: str, said: str
) -> None:
    own = _own(made, folder, name)
    began_s = time.monotonic()
    assert [redact(text, own) for text in ("Jane", "Bob", "Mary", "Sue")] == [FAILED] * 4
    assert time.monotonic() - began_s < 20
    assert len(caplog.records) == 1
    assert said in caplog.text
    assert not any(name in caplog.text for name in ("Jane", "Bob", "Mary", "Sue"))


def test_a_text_that_ends_the_process_harms_no_other(made: dict[str, OwnRedactor], folder: Path) -> None:
    own = _own(made, folder, "only_jane")
    assert [redact(text, own) for text in ("Bob", "Jane", "Mary")] == ["Bob", FAILED, "Mary"]


def test_a_text_is_asked_once_until_forgotten(made: dict[str, OwnRedactor], folder: Path) -> None:
    own = _own(made, folder, "count")
    assert [redact("x", own), redact("x", own)] == ["x 1", "x 1"]
    own.forget()
    assert redact("x", own) == "x 2"


def test_the_process_ends_with_the_observer(folder: Path) -> None:
    own = OwnRedactor(f"{folder / 'hooks'}.py:spins")
    own.start()
    assert own._process is not None
    assert own._wire is not None
    os.kill(own._process.pid, signal.SIGTERM)  # of a group or a unit: recordings are still to be written
    own._send(b"t", "x")
    own._wire.close()  # as the death of the observer closes it
    assert own._process.wait(timeout=10) == -signal.SIGKILL


@needs_proc
@pytest.mark.parametrize("ends", ["closed", "observer dies"])
def test_processes_of_the_function_end_with_it(folder: Path, ends: str) -> None:
    own = OwnRedactor(f"{folder / 'hooks'}.py:forks")
    child = int(own("Jane"))
    assert own._wire is not None
    own.close() if ends == "closed" else own._wire.close()
    deadline = time.monotonic() + 10
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    own.close()
