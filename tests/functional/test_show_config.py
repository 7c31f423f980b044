"""`se-server --check` and `--print-config`: what would be served, without serving it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SECRET = "sk_secret_of_this_test"
COMMAND = [sys.executable, "-m", "se_server.cli.server"]


def environment(**variables: str) -> dict[str, str]:
    paths = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **variables}


def run(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *arguments]
    env = environment(**variables)
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30, cwd=cwd, env=env)


def test_piped_config_is_a_file_of_options(tmp_path: Path) -> None:
    (tmp_path / "given.toml").write_text(
        'log_level = "debug"\nallow_ips = ["10.0.0.0/8", "::1"]\nfirst_word_text = ["Hm \\"...\\"", "a # b"]\n'
        "first_word_after_s = 0.8\nmax_worker_rss = '512MiB'\n"
    )
    given = ("--workers", "3", "--handover-s", "0.1234567")
    first = run("--config", "given.toml", *given, "--print-config", cwd=tmp_path, SE_SERVER_API_KEY=SECRET)
    assert first.returncode == 0
    for line in (
        'log_level = "debug"  # log_level in given.toml',
        "workers = 3  # --workers",
        "port = 3001  # default",
        '# api_key = "********"  # SE_SERVER_API_KEY',
        "# uds is not set",
    ):
        assert line in first.stdout.splitlines()
    (tmp_path / "again.toml").write_text(first.stdout)
    again = run("--config", "again.toml", "--print-config", cwd=tmp_path, SE_SERVER_API_KEY=SECRET)
    assert tomllib.loads(again.stdout) == tomllib.loads(first.stdout)
    assert tomllib.loads(again.stdout)["handover_s"] == 0.1234567


@pytest.mark.parametrize("option", ["--print-config", "--print-schema", "--help"])
def test_a_reader_that_leaves_causes_no_traceback(option: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "se_server", option]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_no_secret_is_printed(tmp_path: Path) -> None:
    header = "X-Secret=the_value_of_the_header"
    shown = run("--print-config", "--check", cwd=tmp_path, ELEVENLABS_API_KEY=SECRET, SE_SERVER_REQUIRE_HEADER=header)
    assert shown.returncode == 0
    assert '# require_header = "********"  # SE_SERVER_REQUIRE_HEADER' in shown.stdout
    assert SECRET not in shown.stdout + shown.stderr
    assert "the_value" not in shown.stdout + shown.stderr


def test_people_at_a_terminal_get_a_table(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    variables = environment(TERM="xterm", COLUMNS="120", SE_SERVER_PORT="4567")
    with subprocess.Popen([*COMMAND, "--print-config"], stdout=follower, cwd=tmp_path, env=variables) as process:
        os.close(follower)
        shown = ""
        try:
            while data := os.read(leader, 4096):
                shown += data.decode()
        except OSError:  # Linux reports the end of a terminal so
            pass
        os.close(leader)
    assert process.returncode == 0
    (row,) = (line for line in shown.splitlines() if "--port" in line)
    assert "4567" in row
    assert "SE_SERVER_PORT" in row
    assert "Access" in shown


def test_a_good_agent_passes_whatever_it_leaves_running(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(3600,)).start()\n"
        "async def on_startup(): raise RuntimeError('nobody serves')\n"
        "async def on_transcript(transcript, session): ...\n"
    )
    checked = run("--check", "agent.py", cwd=tmp_path, ELEVENLABS_API_KEY=SECRET)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.splitlines()[-1] == "se-server: the configuration and APP 'agent.py' are valid"
    assert re.search(r"(?m)^-- +not checked +on_startup and on_shutdown: --check=startup runs them$", checked.stdout)


@pytest.mark.parametrize(
    ("source", "code", "sentence"),
    [
        ("async def on_transcript(transcript): ...", 3, "cannot be called as on_transcript(transcript, session)"),
        ("raise ValueError('no model')", 3, "importing agent.py raised ValueError: no model"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 3, "loading the APP was killed by signal 9"),
    ],
)
def test_a_bad_agent_fails_with_the_reason(tmp_path: Path, source: str, code: int, sentence: str) -> None:
    (tmp_path / "agent.py").write_text(source + "\n")
    checked = run("--check", "agent.py", cwd=tmp_path, ELEVENLABS_API_KEY=SECRET)
    assert (checked.returncode, checked.stdout) == (code, "")
    assert sentence in checked.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--certfile", "nowhere.pem"], "nowhere.pem"),
        (["--portt", "3"], "there is no option --portt; did you mean --port?"),
        (["--chek"], "there is no option --chek; did you mean --check?"),
        (["--workers", "0"], "--workers: '0' is not valid: expected a whole number from 1 to 1024"),
    ],
)
def test_wrong_options_fail_with_one_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    checked = run("--check", *arguments, cwd=tmp_path)
    assert (checked.returncode, checked.stdout) == (2, "")
    (line,) = checked.stderr.splitlines()
    assert sentence in line


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--pidfile", "/nowhere/pid"], "--pidfile: cannot write /nowhere/pid: No such file or directory"),
        (["--admin-token-file", "x"], "--admin-token-file is for --admin: give --admin HOST:PORT too"),
        (["--pod-deletion-cost"], "--pod-deletion-cost is written by the process of --admin"),
        (["--record-dir", "x"], "--record-dir is for recordings: give --record"),
        (["--record", "full"], "--record full needs a directory: give --record-dir DIR"),
        (["--record", "full", "--record-dir", "/proc/x"], "--record-dir: cannot use /proc/x"),
        (["--control-socket", "/nowhere/x.ctl"], "--control-socket: cannot listen on /nowhere/x.ctl"),
        (["--agent-check", "203.0.113.99:1"], "--agent-check: 203.0.113.99, port 1 cannot be bound"),
        (["--reload"], "--reload watches the files of an APP"),
        (["--playground", "--proxy-protocol", "--trusted-proxies", "10.0.0.1"], "cannot be used with --proxy-protocol"),
        (["--traces"], "OTEL_EXPORTER_OTLP_ENDPOINT: 'collector' is not valid: expected a URL such as http://"),
        (["--config", "wrong.toml"], "log_level in wrong.toml: 'loud' is not valid"),
    ],
)  # fmt: skip
def test_check_and_start_refuse_alike(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    (tmp_path / "wrong.toml").write_text("log_level = 'loud'\n")
    for more in (["--check"], ["--port", "0"]):
        options = [*more, "--workers", "1", "--log-level", "info", *arguments]
        done = run(*options, cwd=tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="collector")
        assert (done.returncode, done.stdout) == (2, "")
        assert sentence in done.stderr.splitlines()[-1]
    assert sorted(os.listdir(tmp_path)) == ["wrong.toml"]


def test_check_holds_and_gives_back_what_a_start_opens(tmp_path: Path) -> None:
    options = ("--pidfile", "pid", "--control-socket", "a.ctl", "--record", "full", "--record-dir", "a/b")
    checked = run("--check", "--port", "0", "--agent-check", "127.0.0.1:0", *options, cwd=tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")
    for line in ("pidfile        pid can be held", "recordings     a/b can be written to"):
        assert f"ok   {line}" in checked.stdout
    assert (
        len(re.findall(r"(?m)^ok   (address|control socket|agent check) .* can be listened on$", checked.stdout)) == 3
    )
    assert os.listdir(tmp_path) == []
    with open(tmp_path / "pid", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        checked = run("--check", "--port", "0", "--pidfile", "pid", cwd=tmp_path)
    assert checked.returncode == 0
    assert "warn pidfile        pid is in use: only a reload or an upgrade" in checked.stdout
    assert (tmp_path / "pid").exists()


def test_check_needs_the_redactor(tmp_path: Path) -> None:
    (tmp_path / "mask.py").write_text(
        "def mask(text): return text\nWORD = 'x'\ndef two(text, more): return text\n"
        "async def later(text): return text\ndef spare(text, more=1): return text\n"
    )
    options = ("--check", "--port", "0", "--record", "redacted", "--record-dir", "rec", "--record-redactor")
    for name, sentence in (
        ("mask:none", "--record-redactor: 'mask:none'"),
        ("mask:WORD", "--record-redactor: 'mask:WORD' is not a function"),
        ("mask:two", "--record-redactor: 'mask:two' cannot be called with one argument, the text"),
        ("mask:later", "--record-redactor: 'mask:later' is a coroutine function"),
        ("nowhere:mask", "--record-redactor: 'nowhere:mask'"),
    ):
        checked = run(*options, name, cwd=tmp_path)
        assert (checked.returncode, checked.stdout) == (3, "")
        assert sentence in checked.stderr
    for name in ("mask:mask", "mask:spare"):
        assert run(*options, name, cwd=tmp_path).returncode == 0


def test_unknown_name_is_answered_by_the_nearest(tmp_path: Path) -> None:
    (line,) = run("--check", cwd=tmp_path, SE_SERVER_WORKER="1").stderr.splitlines()
    assert "SE_SERVER_WORKER in the environment is not an option; did you mean SE_SERVER_WORKERS?" in line
    assert line.count("SE_SERVER_") == 2


def test_check_names_a_variable_that_is_passed_over(tmp_path: Path) -> None:
    checked = run("--check", cwd=tmp_path, SE_SERVER_QQQ="1")
    assert (checked.returncode, "SE_SERVER_QQQ in the environment is not an option" in checked.stderr) == (0, True)


HOOKS = """
import pathlib
async def on_startup(): pathlib.Path("started").touch()
def on_shutdown(): pathlib.Path("stopped").touch()
async def on_transcript(transcript, session): ...
def on_close(session): ...
"""


def test_check_runs_on_startup_on_request(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(HOOKS)
    checked = run("--check", "agent.py", cwd=tmp_path, ELEVENLABS_API_KEY=SECRET)
    assert checked.returncode == 0
    assert not (tmp_path / "started").exists()
    checked = run("--check=startup", "agent.py", cwd=tmp_path, ELEVENLABS_API_KEY=SECRET)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert re.search(r"(?m)^ok +agent +APP 'agent.py' is loaded, with on_transcript, on_close$", checked.stdout)
    assert re.search(r"(?m)^ok +startup +on_startup and on_shutdown ran$", checked.stdout)
    assert (tmp_path / "started").exists()
    assert (tmp_path / "stopped").exists()


def test_check_reports_a_failing_startup(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(HOOKS.replace('pathlib.Path("started").touch()', "raise OSError('no database')"))
    checked = run("--check=startup", "agent.py", cwd=tmp_path, ELEVENLABS_API_KEY=SECRET)
    assert (checked.returncode, checked.stdout) == (3, "")
    assert checked.stderr.splitlines()[-1] == "se-server: APP 'agent.py': on_startup raised OSError: no database"
    assert run("--check=all", "agent.py", cwd=tmp_path).returncode == 2


def test_check_binds_the_addresses_and_gives_them_back(tmp_path: Path) -> None:
    options = ("--host", "127.0.0.1", "--uds", str(tmp_path / "agent.sock"), "--admin", "127.0.0.1:0")
    checked = run("--check", *options, "--port", "0", cwd=tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert len(re.findall(r"(?m)^ok .* can be listened on$", checked.stdout)) == 3
    assert not (tmp_path / "agent.sock").exists()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        checked = run("--check", "--host", "127.0.0.1", "--port", str(taken.getsockname()[1]), cwd=tmp_path)
        assert checked.returncode == 0
        assert re.search(r"(?m)^warn +address +127.0.0.1, port \d+ is in use", checked.stdout)
    checked = run("--check", "--host", "203.0.113.99", "--api-key-file", "keys", cwd=tmp_path)
    assert checked.returncode == 2
    (tmp_path / "keys").write_text(SECRET)
    checked = run("--check", "--host", "203.0.113.99", "--api-key-file", "keys", cwd=tmp_path)
    assert (checked.returncode, checked.stdout) == (2, "")
    assert "203.0.113.99" in checked.stderr
