"""`se-server --print-config` and `--check`: show and check the configuration without serving."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from se_server.options import Option
from se_server.server.config.config import MASK, Config
from se_server.server.config.options import HEADINGS, OPTIONS
from se_server.server.door.networks import Networks
from se_server.server.listen.tls import make_context
from se_server.server.shared.exit_codes import flush_streams
from se_server.server.shared.logfile import check_log_file
from se_server.server.worker.loading import check_app

if TYPE_CHECKING:
    from rich.table import Table

EXIT_KILLED = 3


def print_config(config: Config) -> None:
    """Print the value and the source of every option, with secrets masked.

    A terminal gets a table. Other outputs get a TOML file of the same configuration without the secrets.
    """
    if not sys.stdout.isatty():
        print("\n".join(toml_lines(config)))
        return
    from rich.console import Console

    Console().print(_table(config))


def toml_lines(config: Config) -> list[str]:
    """Return the options as lines of a TOML file."""
    lines = []
    for option in OPTIONS:
        value, source = config.value(option.name), config.sources.get(option.name, "default")
        text = '"off"' if value is None and option.default is not None else _toml(value)
        if text is None:
            lines.append(f"# {option.name} is not set")
        elif option.secret:
            lines.append(f'# {option.name} = "{MASK}"  # {_plain(source)}')
        else:
            lines.append(f"{option.name} = {text}  # {_plain(source)}")
    return lines


def _toml(value: object) -> str | None:
    """Return a value as TOML; None if the option is not set."""
    if value is None or value == () or value == Networks():
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Networks):
        value = tuple(str(value).split(","))
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) or "" for item in value) + "]"
    if isinstance(value, int | float):
        return str(int(value) if value == int(value) else value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(text: str) -> str:
    """Replace control characters: a newline in a file name would end the TOML comment."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _table(config: Config) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("option", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("source", overflow="fold")
    for group in HEADINGS:
        table.add_row(Text(group, style="bold cyan"), "", "")
        for option in OPTIONS:
            if option.group != group:
                continue
            source = config.sources.get(option.name, "default")
            is_default = source == "default"
            table.add_row(
                Text(f"  {option.flag}", style="dim" if is_default else ""),
                Text(_shown(option, config.value(option.name)), style="dim" if is_default else "bold green"),
                Text(_plain(source), style="dim" if is_default else ""),
            )
    return table


def _shown(option: Option, value: object) -> str:
    text = _toml(value)
    if text is None:
        return option.default_text or "not set"
    if option.secret:
        return MASK
    return _plain(value) if isinstance(value, str) else text


def check(config: Config) -> int:
    """Load the APP, check everything that can be checked without serving, and print the result.

    User code runs in a child process, as in a worker: threads that it leaves running do not keep the command alive.

    Returns:
        The exit code: 0 if the configuration is valid, 2 without an API key, 3 if the APP cannot be loaded.

    Raises:
        ConfigError: the certificate or its key cannot be used, or the log file cannot be written to.
    """
    make_context(config.listening.certfile, config.listening.keyfile, config.listening.ca_certs)
    if config.program.log_file is not None:
        check_log_file(config.program.log_file)
    flush_streams()
    done, is_done = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = EXIT_KILLED
        try:
            code = _check_app(config)
            os.write(is_done, b".")
        finally:
            flush_streams()
            os._exit(code)
    os.close(is_done)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with open(done, "rb", buffering=0) as pipe:
        os.set_blocking(done, False)  # a process that the APP has left behind may hold the other end
        if pipe.read(1):
            return code
    how = f"was killed by signal {-code}" if code < 0 else f"ended the process with exit code {code}"
    print(f"se-server: loading the APP {how}", file=sys.stderr)
    return EXIT_KILLED


def _check_app(config: Config) -> int:
    details, problem, notice, code = check_app(config)
    if problem:
        sys.stderr.write(f"{details}se-server: {problem}\n")
        return code
    if notice:
        sys.stderr.write(f"se-server: {notice}\n")
    app = "the demo agent" if config.program.app is None else f"APP {config.program.app!r}"
    print(f"se-server: the configuration and {app} are valid")
    return 0
