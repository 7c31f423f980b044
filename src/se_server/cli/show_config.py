"""`se-server --print-config`: show the configuration without serving."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from se_server.options import Option
from se_server.server.config.config import MASK, Config
from se_server.server.config.options import BY_NAME, HEADINGS, OPTIONS
from se_server.server.config.routes import KEY as ROUTES
from se_server.server.config.routes import OWN, RouteConfig
from se_server.server.door.networks import Networks

if TYPE_CHECKING:
    from rich.table import Table


def print_config(config: Config) -> None:
    """Print the value and the source of every option, with secrets masked.

    A terminal gets a table. Other outputs get a TOML file of the same configuration without the secrets.
    """
    if not sys.stdout.isatty():
        print("\n".join(toml_lines(config)))
        return
    from rich.console import Console

    Console().print(_table(config))
    for route in config.routes:
        print("\n".join((f"[[{ROUTES}]]", *_entries(config, route), "")))


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
    for route in config.routes:
        lines += ["", f"[[{ROUTES}]]", *_entries(config, route)]
    return lines


def _entries(config: Config, route: RouteConfig) -> list[str]:
    """Return the entries that a route has for itself, as lines of TOML."""
    own = config.of_route(route)
    lines = []
    for name in route.given:
        value = getattr(route, name) if name in OWN else own.value(name)
        is_secret = name not in OWN and BY_NAME[name].secret
        text = _toml(value) or ('"off"' if value is None else "[]")
        lines.append(f'# {name} = "{MASK}"' if is_secret else f"{name} = {text}")
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
