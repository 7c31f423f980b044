"""What all commands have in common: their options for servers, and the form of their errors."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from se_server.cli.bench import command as bench
from se_server.cli.capacity import command as capacity
from se_server.cli.chat import main as chat
from se_server.cli.ctl import command as ctl
from se_server.cli.ctl import main as run_ctl
from se_server.cli.doctor import main as doctor
from se_server.cli.load import command as load

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
        (("-H", "x"), "--header: 'x' is not a header: write 'Name: value'"),
        (("--connect-timeout-s", "soon"), "--connect-timeout-s: 'soon' is not a number"),
        (("localhost:3001",), "URL: localhost:3001 has no scheme: write ws://localhost:3001/ws"),
        (("ws://a/", "ws://b/"), "got unexpected extra argument (ws://b/)"),
    ],
)
def test_a_mistake_is_one_line_with_a_way_out(name: str, arguments: tuple[str, ...], sentence: str) -> None:
    assert said(CALLERS[name], name, *arguments).startswith(f"{name}: {sentence.format(name=name)}")


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
        (("scale",), "missing argument 'WORKERS'; see se-ctl scale --help"),
        (("--json", "status"), "there is no option --json; known are --socket, --help"),
    ],
)
def test_se_ctl_names_the_way_out(
    arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_ctl(["--socket", "/nowhere", *arguments]) == 2
    assert capsys.readouterr() == ("", f"se-ctl: {sentence}\n")
