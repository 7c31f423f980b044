"""`--log-file` replaces stderr, and follows a rotation while the server runs."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection

from tests.functional.processes import write_agent
from tests.helpers import (
    ANSWER_TIMEOUT_S,
    START_TIMEOUT_S,
    connect,
    environment,
    read_answer,
    running_server,
    spoken,
    stopped_at_the_end,
    transcript_message,
    wait_for_end,
    wait_for_text,
)

# Writes the caller's text to the log, through logging and directly to stderr.
AGENT = """
    import logging, os
    logger = logging.getLogger("agent")
    async def on_transcript(transcript, session):
        said = transcript[-1].content
        logger.info("logged %s %s", said, "x" * 500)
        os.write(2, f"printed {said}\\n".encode())
        await session.send_response(str(os.getpid()))
"""
REOPENED = "SIGUSR1: all processes write to the new log file"
COMMAND = [sys.executable, "-m", "se_server.cli.server", "--host", "127.0.0.1", "--port", "0", "--workers", "1"]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_agent(tmp_path / "agent.py", AGENT)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log" / "agent.log"


@pytest.fixture(autouse=True)
def folder(log: Path) -> Path:
    log.parent.mkdir()
    return log.parent


def rotate(pid: int, log: Path, number: int = 1) -> Path:
    """Move the log away as logrotate does, signal the server, and wait until all processes write to a new file."""
    old = log.rename(log.with_suffix(f".{number}"))
    os.kill(pid, signal.SIGUSR1)
    wait_for_text(log, REOPENED)
    return old


def moved_away(path: Path) -> Path:
    return path.rename(path.with_name("moved"))


async def say(websocket: ClientConnection, text: str, event_id: int) -> int:
    """Send text that is logged, and return the process that answers."""
    await websocket.send(transcript_message(text, event_id=event_id))
    return int(spoken(await asyncio.wait_for(read_answer(websocket), ANSWER_TIMEOUT_S)))


async def test_a_rotation_loses_no_line(app: Path, log: Path) -> None:
    """After the rotation no line is written to the old file."""
    said: list[str] = []
    news, enough = asyncio.Event(), asyncio.Event()
    with running_server("--log-file", str(log), app=app, workers=3) as server:

        async def talk(name: int) -> None:
            async with connect(server.url) as websocket:
                turn = 0
                while not enough.is_set():
                    turn += 1
                    said.append(f"{name}-{turn}")
                    news.set()
                    await say(websocket, said[-1], turn)

        async def until_said(count: int) -> None:
            while len(said) < count:
                news.clear()
                await news.wait()

        callers = [asyncio.create_task(talk(name)) for name in range(9)]
        sizes: dict[Path, int] = {}
        for number in (1, 2, 3):
            await until_said(len(said) + 100)
            old = await asyncio.to_thread(rotate, server.pid, log, number)
            sizes[old] = old.stat().st_size
        await until_said(len(said) + 100)
        enough.set()
        await asyncio.gather(*callers)
        assert server.stop() == 0
        assert re.fullmatch("se-server ready: .*\\n", server.output())
    assert {old: old.stat().st_size for old in sizes} == sizes
    lines = [line for path in (*sizes, log) for line in path.read_text().splitlines()]
    pattern = re.compile(r"printed (\S+)|[-0-9T:.]+Z INFO \[\d+\] agent: logged (\S+) x{500}")
    found = [match for match in map(pattern.fullmatch, lines) if match]
    assert sorted(match[1] for match in found if match[1]) == sorted(said)
    assert sorted(match[2] for match in found if match[2]) == sorted(said)
    assert all(path.read_text().count("printed") > 10 for path in sizes)


@pytest.mark.parametrize("order", ["SIGHUP", "SIGUSR2"])
async def test_draining_workers_change_to_the_new_file(app: Path, log: Path, tmp_path: Path, order: str) -> None:
    """They drain after a reload or an upgrade."""
    pidfile = tmp_path / "pid"
    with running_server("--log-file", str(log), "--pidfile", str(pidfile), app=app, workers=1) as server:
        async with connect(server.url) as before:
            old_worker = await say(before, "before", 1)
            server.send_signal(getattr(signal, order))
            wait_for_text(log, "generation 2 serves" if order == "SIGHUP" else "the workers of this one drain")
            pid = int(pidfile.read_text())
            assert (pid == server.pid) is (order == "SIGHUP")
            old = rotate(pid, log)
            wait_for_text(log, REOPENED if order == "SIGHUP" else f"(?s){REOPENED}.*{REOPENED}")
            size = old.stat().st_size
            async with connect(server.url) as after:
                assert await say(after, "after", 1) != old_worker
            assert await say(before, "still-there", 2) == old_worker
            wait_for_text(log, "(?s)printed after.*printed still-there")
            assert old.stat().st_size == size
        if order == "SIGUSR2":
            with stopped_at_the_end(pid):
                wait_for_end([server.pid])


async def test_a_rotation_during_an_upgrade_reaches_both(app: Path, log: Path, tmp_path: Path) -> None:
    """The new supervisor reopens the file once it has started."""
    go = tmp_path / "go"
    with running_server("--log-file", str(log), app=app, workers=1) as server:
        write_agent(
            app,
            AGENT
            + f"    import time\n    print('starting')\n    while not os.path.exists({str(go)!r}): time.sleep(0.01)\n",
        )
        server.send_signal(signal.SIGUSR2)
        server.wait_for_output("starting", START_TIMEOUT_S)
        old = rotate(server.pid, log)
        size = old.stat().st_size
        go.touch()
        new = int(wait_for_text(log, r"upgrade: supervisor (\d+) serves")[1])
        with stopped_at_the_end(new):
            wait_for_text(log, rf"\[{new}\] .*{REOPENED}")
            async with connect(server.url) as websocket:
                await say(websocket, "after", 1)
            wait_for_text(log, "printed after")
            assert old.stat().st_size == size
            wait_for_end([server.pid])


async def test_a_failed_reopening_keeps_the_old_file(app: Path, log: Path, folder: Path) -> None:
    """The error is logged there."""
    with running_server("--log-file", str(log), app=app, workers=1) as server:
        async with connect(server.url) as websocket:
            await say(websocket, "one", 1)
            moved = moved_away(folder) / log.name
            server.send_signal(signal.SIGUSR1)
            wait_for_text(moved, r"ERROR .* cannot write to \S+agent\.log, the old log file is kept: No such file")
            await say(websocket, "two", 2)
            wait_for_text(moved, "printed two")


async def test_stacks_written_by_c_code_are_logged(app: Path, log: Path) -> None:
    with running_server("--log-file", str(log), app=app, workers=1) as server:
        os.kill(server.worker_pids()[0], signal.SIGQUIT)
        wait_for_text(log, "Current thread 0x")
        assert "thread" not in server.output()


@pytest.mark.parametrize(
    ("path", "reason"), [("missing/agent.log", "No such file or directory"), ("log", "Is a directory")]
)
@pytest.mark.parametrize("check", [(), ("--check",)])
def test_an_unwritable_log_file_is_one_sentence(tmp_path: Path, path: str, reason: str, check: tuple[str, ...]) -> None:
    name = tmp_path / path
    done = subprocess.run(
        [*COMMAND, "--log-file", str(name), *check],
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, f"se-server: --log-file: cannot write to {name}: {reason}\n")


def test_a_check_makes_no_file(log: Path) -> None:
    done = subprocess.run([*COMMAND, "--log-file", str(log), "--check"], timeout=START_TIMEOUT_S, check=False)
    assert done.returncode == 0
    assert not log.exists()


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--fd", "99"), 2, "--fd: descriptor 99 is not an open socket"),
        ((), 3, "importing .*: half a deploy"),
    ],
)
def test_a_failed_start_is_reported_to_the_terminal(
    app: Path, log: Path, options: tuple[str, ...], code: int, text: str
) -> None:
    """The error is in the log file, too."""
    app.write_text("raise RuntimeError('half a deploy')")
    command = [arg for arg in COMMAND if not options or arg not in ("--host", "127.0.0.1", "--port", "0")]
    done = subprocess.run(
        [*command, str(app), "--log-file", str(log), *options],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == code
    assert re.search(text, done.stderr)
    assert code == 2 or re.search(text, log.read_text())


# --- links and directories of others ----------------------------------------------------------------------------------

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
OTHER = 54321


def refused(path: Path) -> str:
    done = subprocess.run(
        [*COMMAND, "--log-file", str(path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    return done.stderr


@as_root
@pytest.mark.parametrize("mode", [0o755, 0o777, 0o1777])
def test_a_link_of_another_user_is_refused(log: Path, tmp_path: Path, mode: int) -> None:
    victim = tmp_path / "victim"
    victim.write_text("secret")
    log.symlink_to(victim)
    os.chown(log, OTHER, OTHER, follow_symlinks=False)
    os.chown(log.parent, OTHER, OTHER)
    log.parent.chmod(mode)
    assert "is a symbolic link of another user" in refused(log)
    assert victim.read_text() == "secret"
    log.unlink()
    assert not (tmp_path / "nothing").exists()
    log.symlink_to(tmp_path / "nothing")  # our own link, which makes a new file
    with running_server("--log-file", str(log)):
        assert (tmp_path / "nothing").exists()


@as_root
@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_linked_directory_of_another_user_is_refused(log: Path, tmp_path: Path, mode: int) -> None:
    (tmp_path / "private").mkdir()
    folder = log.parent / "folder"
    folder.symlink_to(tmp_path / "private")
    os.chown(folder, OTHER, OTHER, follow_symlinks=False)
    log.parent.chmod(mode)
    assert "is a symbolic link of another user" in refused(folder / "agent.log")
    assert not list((tmp_path / "private").iterdir())


@as_root
def test_a_hard_link_in_a_directory_of_another_user_is_refused(log: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("secret")
    log.hardlink_to(victim)
    os.chown(log.parent, OTHER, OTHER)
    assert "has 2 hard links" in refused(log)
    assert victim.read_text() == "secret"


@as_root
async def test_a_rotation_follows_no_link_of_another_user(app: Path, log: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("secret")
    with running_server("--log-file", str(log), app=app, workers=1) as server:
        os.chown(log.parent, OTHER, OTHER)
        old = moved_away(log)
        os.symlink(victim, log)
        os.chown(log, OTHER, OTHER, follow_symlinks=False)
        server.send_signal(signal.SIGUSR1)
        wait_for_text(old, "is a symbolic link of another user")
        assert victim.read_text() == "secret"


def test_links_of_the_system_are_followed(log: Path, app: Path) -> None:
    """As /dev/stderr in containers, and a link in a directory of one's own."""
    log.symlink_to("elsewhere.log")
    with running_server("--log-file", str(log), app=app, workers=1):
        wait_for_text(log.parent / "elsewhere.log", "started")
    with running_server("--log-file", "/dev/stderr", app=app, workers=1) as server:
        server.wait_for_output("se_server.server: started")
