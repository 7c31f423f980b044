"""What all commands have in common: their options for servers, and the form of their errors."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from se_server.address import shown
from se_server.cli.bench import command as bench
from se_server.cli.capacity import command as capacity
from se_server.cli.chat import main as chat
from se_server.cli.commands import fitted
from se_server.cli.ctl import command as ctl
from se_server.cli.ctl import main as run_ctl
from se_server.cli.doctor import main as doctor
from se_server.cli.load import command as load
from tests.helpers import environment

SECRET = "sk_0123456789abcdef0123456789abcdef"
CALLERS: dict[str, Any] = {"se-chat": chat, "se-doctor": doctor, "se-bench load": load, "se-bench capacity": capacity}
OF_SERVERS = {
    "--header", "--api-key", "--api-key-file", "--cafile", "--insecure", "--cert", "--key", "--connect-timeout-s",
}  # fmt: skip


def said(command: Any, name: str, *arguments: str, code: int = 2) -> str:
    """Run a command in this process, and return its one line of standard error."""
    done = CliRunner().invoke(command, list(arguments), prog_name=name)
    assert done.exit_code == code, done.output
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("name", CALLERS)
def test_commands_that_call_servers_share_options(name: str) -> None:
    command = CALLERS[name]
    found = {opt for parameter in command.params if isinstance(parameter, click.Option) for opt in parameter.opts}
    assert found >= OF_SERVERS
    assert (command.params[0].name, command.params[0].default) == ("url", "ws://127.0.0.1:3001/ws")


@pytest.mark.parametrize("name", CALLERS)
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-k",), "there is no option -k; did you mean --insecure?"),
        (("--cacert", "x"), "there is no option --cacert; did you mean --cafile?"),
        (("--xyzxyz",), "there is no option --xyzxyz; {name} --help lists all"),
        (("--cafile", "/nowhere.pem"), "--cafile: /nowhere.pem cannot be read: No such file or directory"),
        (("--cert", "/nowhere.pem"), "--cert: /nowhere.pem cannot be read: No such file or directory"),
        (("--key", "/nowhere.pem"), "--key needs --cert, the certificate that it belongs to"),
        (("--api-key-file", "/nowhere"), "--api-key-file: cannot read /nowhere: No such file or directory"),
        (("-H", "x"), "--header: this is not a header: write 'Name: value'"),
        (("--connect-timeout-s", "soon"), "--connect-timeout-s: 'soon' is not a number"),
        (("localhost:3001",), "URL: localhost:3001 has no scheme: write ws://localhost:3001/ws"),
        (("-json",), "there is no option -json; did you mean --json?"),
        (("-hedaer", "x"), "there is no option -hedaer; did you mean --header?"),
        (("--api-key", "--json"), "--api-key needs a value, and --json follows; see {name} --help"),
        (("--api-key",), "--api-key needs a value; see {name} --help"),
        (("--url", "x"), "URL is given without an option: {name} URL"),
        (("ws://a/", "ws://b/"), "got unexpected extra argument (ws://b/)"),
    ],
)
def test_a_mistake_is_one_line_with_a_way_out(name: str, arguments: tuple[str, ...], sentence: str) -> None:
    assert said(CALLERS[name], name, *arguments).startswith(f"{name}: {sentence.format(name=name)}")


@pytest.mark.parametrize("name", CALLERS)
@pytest.mark.parametrize(
    "arguments",
    [
        (SECRET,),
        ("ws://127.0.0.1:1/", SECRET),
        ("-H", f"X={SECRET}"),
        ("-H", f"X {SECRET}: y"),
        ("-H", "X-Password: open-sesame\x01"),
        ("ws://me:open-sesame@127.0.0.1:1/",),
        ("ws://open-sesame@127.0.0.1:1/",),
        ("http:/me:open-sesame@127.0.0.1:1/",),
        ("https://127.0.0.1:1/?token=open-sesame&b=c",),
        ("ws://127.0.0.1:99999/?a=b&token=open-sesame",),
    ],
)
def test_no_mistake_repeats_a_secret(name: str, arguments: tuple[str, ...]) -> None:
    sentence = said(CALLERS[name], name, *arguments)
    assert sentence.startswith(f"{name}: ")
    assert not {SECRET, "open-sesame"} & set(re.split(r"[^\w-]", sentence)), sentence


def test_no_output_shows_the_values_of_a_query() -> None:
    assert shown("wss://a.example:3001/ws?tenant=7&token=x") == "wss://a.example:3001/ws?tenant=***&token=***"
    assert shown("ws://me:pass@a.example/ws") == "ws://***@a.example/ws"
    assert shown("ws://127.0.0.1:3001/ws/@x") == "ws://127.0.0.1:3001/ws/@x"


@pytest.mark.parametrize(("name", "group"), [("se-ctl", ctl), ("se-bench", bench)])
def test_a_group_alone_shows_its_commands(name: str, group: Any) -> None:
    done = CliRunner().invoke(group, [], prog_name=name)
    assert (done.exit_code, done.stderr) == (2, "")
    for command in group.list_commands(click.Context(group)):
        found = group.get_command(click.Context(group), command)
        assert found.hidden or f"\n  {command} " in done.stdout
    assert "..." not in done.stdout.replace("[ARGS]...", "").replace("[OPTIONS]...", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("drian", "3"), "there is no command 'drian'; did you mean drain?"),
        (("drain",), "drain needs a WORKER, whose number se-ctl status shows; se-ctl stop ends the server"),
        (("scale", "x"), "WORKERS: 'x' is not a whole number"),
        (("drain", "one"), "WORKER: 'one' is not a whole number"),
        (("restart",), "there is no command 'restart'; did you mean reload?"),
        (("logs",), "there is no command 'logs'; did you mean reopen-log?"),
        (("scale",), "missing argument 'WORKERS'; see se-ctl scale --help"),
        (("--json", "status"), "--json comes after the command, as in se-ctl conversations --json"),
    ],
)
def test_se_ctl_names_the_way_out(
    arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_ctl(["--socket", "/nowhere", *arguments]) == 2
    assert capsys.readouterr() == ("", f"se-ctl: {sentence}\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("status", "--socket", "/nowhere"), "cannot reach a server at /nowhere"),
        (("--socket", "off", "status"), "--socket: 'off' is no path: give that of the server's --control-socket"),
        (("--socket", "", "status"), "--socket: '' is no path"),
        (("--socket", "127.0.0.1:9100", "status"), "--socket: '127.0.0.1:9100' is an address: give the path"),
        (("--socket", "/", "status"), "cannot reach a server at /: it is not a socket"),
    ],
)
def test_se_ctl_takes_its_socket_at_either_place(
    arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_ctl(list(arguments)) == 1
    assert capsys.readouterr().err.startswith(f"se-ctl: {sentence}")


@pytest.mark.parametrize(
    ("command", "arguments", "sentence"),
    [
        (capacity, ("--first", "100", "--most", "10"), "--first 100 is more than --most 10"),
        (load, ("--source-addresses", "foo"), "--source-addresses: 'foo' is not an IP address, such as 127.0.0.2"),
        (load, ("--source-addresses", "203.0.113.9"), "--source-addresses: 203.0.113.9 cannot be connected from: "),
        (doctor, ("--short", " "), "--short: it is empty: give the words of a user"),
        (chat, ("--conversation-id", ""), "--conversation-id: it is empty: give an id, or leave it out"),
        (load, ("--hdr", "/nowhere/h"), "--hdr: cannot write /nowhere/h: No such file or directory"),
    ],
)
def test_a_value_is_refused_before_the_run(command: Any, arguments: tuple[str, ...], sentence: str) -> None:
    assert said(command, "se", *arguments).startswith(f"se: {sentence}")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("run", "run needs a program that calls serve(): se-server run script.py"),
        ("run .", "run needs a program: . is a directory without __main__.py"),
        ("run ok:app", "run needs a file, and 'ok:app' names an object in a module: se-server ok:app serves it"),
        ("run nowhere", "run needs a file, and there is none called 'nowhere'"),
        ("run --port 0 x.py", "the program comes directly after run: se-server run x.py --port 0 ..."),
        ("serve x.py", "'serve' is not a command: se-server x.py serves x.py"),
        ("chek x.py", "'chek' is not a command; did you mean se-server x.py --check?"),
        ("rum x.py", "'rum' is not a command; did you mean se-server run x.py?"),
        ("x.py y.py", "one APP is served, and two are named, 'x.py' and 'y.py': leave one out"),
        ("x.py sk_abcdef", "one APP is served, and two are named, 'x.py' and the text given: leave one out"),
        ("--app x.py", "APP is given without an option: se-server APP"),
        ("x.py --tls", "there is no option --tls; did you mean --certfile?"),
        ("x.py --timeout-s 3", "there is no option --timeout-s; did you mean --turn-timeout-s?"),
        ("x.py --host localhost:3001", "--host: 'localhost:3001' is not valid: expected an address without its port"),
        ("new /", "a project needs a directory of its own, such as my-agent"),
        ("stop", "there is no module 'stop' to serve; se-ctl stop is the command for a server that runs"),
        ("help", "there is no module 'help' to serve; did you mean --help?"),
        ("x.py -check", "there is no option -check; did you mean --check?"),
        ("--api-key --host 127.0.0.1", "--api-key needs a value, and --host follows; see se-server --help"),
        ("new", "missing argument 'DIR'; see se-server new --help"),
        ("new ''", "the name of the directory is empty: give one, such as my-agent"),
        ("new x --lm gemini", "there is no option --lm; did you mean --llm?"),
        ("new x --llm mistral", "--llm: 'mistral' is not one of"),
    ],
)
def test_se_server_puts_words_right(words: str, sentence: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "se_server", *shlex.split(words)]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"se-server: {sentence}")
    assert list(tmp_path.iterdir()) == []


def test_rows_on_a_terminal_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "40")
    text = "--   not checked    the handlers, and the way from ElevenLabs"
    assert fitted(text, io.StringIO()) == text
    rows = fitted(text, Terminal(), indent=" " * 20).split("\n")
    assert rows == ["--   not checked    the handlers, and", " " * 20 + "the way from", " " * 20 + "ElevenLabs"]
