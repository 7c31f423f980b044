"""Recordings where the disk is full, the directory is gone or read-only, and after an upgrade of the server."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import os
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from se_server.testing import replay
from tests.functional.processes import needs_proc, write_agent
from tests.functional.recording import Flight, recording_server
from tests.helpers import (
    START_TIMEOUT_S,
    connect,
    init_message,
    read_answer,
    spoken,
    stopped_at_the_end,
    transcript_message,
)

pytestmark = needs_proc

AGENT = """
    async def on_transcript(transcript, session):
        if transcript[-1].content == "fail":
            raise ValueError("no such table")
        await session.send_response("you said " + transcript[-1].content)
"""
MS_RDONLY, MS_REMOUNT, MNT_DETACH = 1, 32, 2


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_agent(tmp_path / "agent.py", AGENT)


async def _talk(flight: Flight, name: str, *said: str) -> None:
    async with connect(flight.server.url) as websocket:
        await websocket.send(init_message(name))
        for number, words in enumerate(said, 1):
            await websocket.send(transcript_message(words, event_id=number))
            heard = spoken(await asyncio.wait_for(read_answer(websocket), START_TIMEOUT_S))
            assert words == "fail" or heard == f"you said {words}"


def _still_works(flight: Flight) -> None:
    """Check that conversations go on, and that recordings are written again."""
    asyncio.run(_talk(flight, "conv_after", "hello", "fail", "hello"))
    assert [turn.outcome for turn in flight.wait_for("conv_after", ended=True).turns] == [
        "answered",
        "failed",
        "answered",
    ]


def test_a_full_disk_is_logged_once_and_harms_nobody(tmp_path: Path, app: Path) -> None:
    with recording_server(tmp_path, "full", app=app, workers=1) as flight:
        observer = flight.observer()
        _, hard = resource.prlimit(observer, resource.RLIMIT_FSIZE)
        resource.prlimit(observer, resource.RLIMIT_FSIZE, (200, hard))  # of a file: writing beyond it fails
        for number in range(20):
            asyncio.run(_talk(flight, f"conv_{number}", "hello", "fail"))
        flight.server.wait_for_output(f"cannot write a recording to {flight.folder}: File too large", START_TIMEOUT_S)
        refused = flight.ctl("record", "conv_3")
        assert (refused.returncode, refused.stderr) == (1, "se-ctl: cannot write the recording: File too large\n")
        assert list(flight.folder.iterdir()) == []  # no half of one, no draft
        assert flight.server.output().count("cannot write") == 1
        resource.prlimit(observer, resource.RLIMIT_FSIZE, (hard, hard))
        _still_works(flight)
        assert "no such table" in flight.text_of("conv_3")  # it is still in memory
        assert flight.observer() == observer


def test_a_directory_that_is_gone_is_made_again(tmp_path: Path, app: Path) -> None:
    with recording_server(tmp_path, "full", app=app, workers=1) as flight:
        asyncio.run(_talk(flight, "conv_lost", "fail"))
        flight.wait_for("conv_lost", ended=True)
        shutil.rmtree(flight.folder)
        _still_works(flight)
        assert flight.folder.stat().st_mode & 0o777 == 0o700
        shutil.rmtree(flight.folder)
        flight.folder.write_text("a file in its place")
        asyncio.run(_talk(flight, "conv_file", "fail"))
        flight.server.wait_for_output("cannot write a recording to .*: Not a directory", START_TIMEOUT_S)
        flight.folder.unlink()
        _still_works(flight)


@contextmanager
def own_disk(folder: Path) -> Iterator[ctypes.CDLL]:
    """Mount a file system of 64 KiB; the test is skipped where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, b"size=64k,mode=700") != 0:
        pytest.skip(f"needs to mount a file system: {errno.errorcode[ctypes.get_errno()]}")
    try:
        yield libc
    finally:
        libc.umount2(bytes(folder), MNT_DETACH)


@pytest.mark.skipif(os.getuid() != 0, reason="needs to mount a file system: run as root")
def test_a_real_disk_is_full_or_read_only(tmp_path: Path, app: Path) -> None:
    (tmp_path / "flights").mkdir(mode=0o700)
    with (
        own_disk(tmp_path / "flights") as libc,
        recording_server(tmp_path, "full", "--record-on", "one-in=1", app=app, workers=1) as flight,
    ):
        for number in range(20):
            asyncio.run(_talk(flight, f"conv_{number}", "a long text " * 1000))
        flight.server.wait_for_output("cannot write a recording to .*: No space left on device", START_TIMEOUT_S)
        assert all(json.loads(path.read_text().splitlines()[-1]) for path in flight.files())  # all of them are whole
        for path in flight.files():
            path.unlink()
        _still_works(flight)
        assert libc.mount(None, bytes(flight.folder), None, MS_REMOUNT | MS_RDONLY, None) == 0
        refused = flight.ctl("record", "conv_19")
        assert (refused.returncode, refused.stderr) == (
            1,
            "se-ctl: cannot write the recording: Read-only file system\n",
        )
        asyncio.run(_talk(flight, "conv_read_only", "hello"))
        (kept,) = [path.name for path in flight.files() if "conv_after" in path.name]
        refused = flight.ctl("forget", "conv_after")
        assert refused.returncode == 1
        assert refused.stderr == (
            "se-ctl: conv_after is forgotten in memory (0 recordings removed), and not everywhere:"
            f" {flight.folder}/.forgotten cannot be written (Read-only file system), so a restarted observer may keep"
            " the conversation again: make the directory writable, and forget it again;"
            f" {kept} in {flight.folder} cannot be removed (Read-only file system): make the directory writable,"
            " and forget it again\n"
        )
        assert libc.mount(None, bytes(flight.folder), None, MS_REMOUNT, b"size=1m") == 0
        assert "1 recording removed" in flight.ctl("forget", "conv_after").stdout
        assert "forgotten" in (flight.folder / ".forgotten").read_text()  # what could not be noted before
        _still_works(flight)


def test_a_recording_keeps_what_the_observer_has_forgotten(tmp_path: Path, app: Path) -> None:
    async def talk() -> None:
        async with connect(flight.server.url, headers={"X-Customer": "7"}) as websocket:
            await websocket.send(init_message("conv_long"))
            for event_id, words in enumerate(("first", "fail"), 1):
                await websocket.send(transcript_message(words, event_id=event_id))
                await read_answer(websocket)
            before = await asyncio.to_thread(flight.text_of, "conv_long")
            os.kill(flight.observer(), signal.SIGKILL)
            await asyncio.to_thread(
                flight.server.wait_for_output, "(?s)observer was killed.*records conversations", START_TIMEOUT_S
            )
            assert await asyncio.to_thread(flight.text_of, "conv_long") == before
            await websocket.send(transcript_message("first", "fail", "third", event_id=3))
            await read_answer(websocket)

    with recording_server(tmp_path, "full", app=app, workers=1) as flight:
        asyncio.run(talk())
        recorded = flight.wait_for("conv_long", ended=True)
        assert [turn.said for turn in recorded.turns] == ["first", "fail", "third"]
        assert [turn.text.strip() for turn in recorded.turns] == ["you said first", "", "you said third"]
        assert ["X-Customer", "7"] in recorded.header["headers"]
        assert [record.kind for record in recorded.records].count("open") == 1
        assert len(flight.files()) == 1


def test_what_is_forgotten_stays_forgotten(tmp_path: Path, app: Path) -> None:
    async def talk() -> None:
        async with connect(flight.server.url) as websocket:
            await websocket.send(init_message("conv_open"))
            await websocket.send(transcript_message("fail", event_id=1))
            await read_answer(websocket)
            for name in ("conv_ended", "conv_open"):
                assert flight.ctl("forget", name).returncode == 0
            os.kill(flight.observer(), signal.SIGKILL)
            await asyncio.to_thread(
                flight.server.wait_for_output, "(?s)observer was killed.*records conversations", START_TIMEOUT_S
            )
            await websocket.send(transcript_message("fail", "my secret", event_id=2))
            await read_answer(websocket)
            await websocket.send(transcript_message("fail", event_id=3))
            await read_answer(websocket)

    with recording_server(tmp_path, "full", app=app, workers=1) as flight:
        asyncio.run(_talk(flight, "conv_ended", "hello", "fail"))
        flight.wait_for("conv_ended", ended=True)
        asyncio.run(talk())
        _still_works(flight)  # what was due before it is written
        assert ["conv_after" in path.name for path in flight.files()] == [True]
        assert flight.ctl("record", "conv_ended").returncode == 1
        assert "my secret" not in flight.text_of("conv_open")


def test_forget_names_what_a_moved_directory_keeps(tmp_path: Path, app: Path) -> None:
    with recording_server(tmp_path, "full", app=app, workers=1) as flight:
        for name in ("conv_moved", "conv_other"):
            asyncio.run(_talk(flight, name, "fail"))
            flight.wait_for(name, ended=True)
        flight.folder.rename(tmp_path / "moved")
        flight.folder.write_text("a file in its place")
        refused = flight.ctl("forget", "conv_moved")
        assert refused.returncode == 1
        for said in (
            "(Not a directory)",
            "forget it again",
            f"is now {tmp_path}/moved, and has 2",
            "remove that there",
        ):
            assert said in refused.stderr
        flight.folder.unlink()
        refused = flight.ctl("forget", "conv_other")
        assert f"is now {tmp_path}/moved" in refused.stderr
        (tmp_path / "moved").rename(flight.folder)
        assert "1 recording removed" in flight.ctl("forget", "conv_other").stdout
        shutil.rmtree(flight.folder)
        assert "nothing is kept" in flight.ctl("forget", "conv_moved").stderr
        assert flight.observer()  # no exception in it
        assert "bug" not in flight.server.output()


def test_forget_removes_damaged_and_unfinished_files(tmp_path: Path, app: Path) -> None:
    with recording_server(tmp_path, "full", app=app, workers=1) as flight:
        asyncio.run(_talk(flight, "conv_one", "fail"))
        flight.wait_for("conv_one", ended=True)
        (path,) = flight.files()
        for first_line in ("[1]", '{"recor', '{"recording": 7}', "\udcff"):
            path.write_text(first_line, errors="surrogateescape")
            (flight.folder / f".{path.name}.123").write_text("half of it")
            assert flight.ctl("record", "conv_other").returncode == 1
            assert "1 recording removed" in flight.ctl("forget", "conv_one").stdout
            assert [found.name for found in flight.folder.iterdir()] == [".forgotten"]


OWN = """
    import time
    def shout(text):
        return text if text == "fail" else text.upper().replace("JANE", "[NAME]")
    def block(text):
        time.sleep(600)
    def tire(text):
        time.sleep(1.5)
        return text
    def leave(text):
        raise SystemExit(1)
"""


def test_a_redactor_gets_what_people_wrote(tmp_path: Path, app: Path) -> None:
    own = write_agent(tmp_path / "own.py", OWN)
    with recording_server(tmp_path, "redacted", "--record-redactor", f"{own}:shout", app=app, workers=1) as flight:
        asyncio.run(_talk(flight, "conv_shout", "i am jane", "fail"))
        recorded = flight.wait_for("conv_shout", ended=True)
        assert [(turn.said, turn.text.strip()) for turn in recorded.turns] == [
            ("I AM [NAME]", "YOU SAID I AM [NAME]"),
            ("fail", ""),
        ]
        assert recorded.header["path"] == "/"
        assert [note["text"] for note in recorded.notes if note["kind"] == "error"] == ["NO SUCH TABLE"]
        assert replay(flight.files()[0], str(app)).outcomes == ["answered", "failed"]


@pytest.mark.parametrize(("name", "said"), [("block", "took longer than 2 s"), ("leave", "raised SystemExit")])
def test_a_redactor_that_fails_stops_nothing(tmp_path: Path, app: Path, name: str, said: str) -> None:
    own = write_agent(tmp_path / "own.py", OWN)
    with recording_server(tmp_path, "redacted", "--record-redactor", f"{own}:{name}", app=app, workers=1) as flight:
        asyncio.run(_talk(flight, "conv_bad", "i am jane", "fail"))
        recorded = flight.wait_for("conv_bad", ended=True)
        assert [turn.said for turn in recorded.turns] == ["[redaction failed]"] * 2
        assert "jane" not in flight.text_of("conv_bad")
        assert flight.server.output().count(f"--record-redactor {own}:{name} {said}") == 1
        assert flight.ctl("forget", "conv_bad").returncode == 0
        assert flight.observer()


def test_a_stop_withholds_what_a_slow_redactor_has(tmp_path: Path, app: Path) -> None:
    own = write_agent(tmp_path / "own.py", OWN)
    with recording_server(tmp_path, "redacted", "--record-redactor", f"{own}:tire", app=app, workers=1) as flight:
        asyncio.run(_talk(flight, "conv_slow", "i am jane", "who is jim", "fail"))
        flight.server.stop()
        assert f"--record-redactor {own}:tire takes longer than the 2 s that a stop has" in flight.server.output()
    (path,) = flight.files()
    assert "[redaction failed]" in path.read_text()


def test_recordings_outlive_an_upgrade(tmp_path: Path, app: Path) -> None:
    with recording_server(tmp_path, "full", "--drain-timeout-s", "20", app=app, workers=1) as flight:
        asyncio.run(_talk(flight, "conv_before", "hello", "fail"))
        flight.wait_for("conv_before", ended=True)
        asyncio.run(_upgrade(flight))
        with stopped_at_the_end(int(flight.server.wait_for_output(r"supervisor (\d+) serves")[1])):
            # The one that began before the upgrade and failed on the draining server is recorded as well.
            open_one = flight.wait_for("conv_open", ended=True)
            assert [turn.outcome for turn in open_one.turns] == ["answered", "failed"]
            _still_works(flight)
            assert "no such table" in Path(flight.ctl("record", "conv_before").stdout.strip()).read_text()
            assert flight.ctl("forget", "conv_before").returncode == 0
            assert [path for path in flight.files() if "conv_before" in path.name] == []


async def _upgrade(flight: Flight) -> None:
    async with connect(flight.server.url) as websocket:
        await websocket.send(init_message("conv_open"))
        await websocket.send(transcript_message("hello", event_id=1))
        await read_answer(websocket)
        os.kill(flight.server.pid, signal.SIGUSR2)
        deadline = time.monotonic() + START_TIMEOUT_S
        while "upgrade: supervisor" not in flight.server.output() or " serves" not in flight.server.output():
            assert time.monotonic() < deadline, flight.server.output()
            await asyncio.sleep(0.02)
        await websocket.send(transcript_message("fail", event_id=2))
        await read_answer(websocket)
