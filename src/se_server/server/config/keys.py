"""API keys of the environment and of files."""

from __future__ import annotations

from collections.abc import Mapping

from se_server.errors import ConfigError
from se_server.options import key_lines
from se_server.server.config.options import BY_NAME
from se_server.server.door.routes import KEY_VARIABLE, key


def find_keys(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the keys of the environment; none if no variable has one.

    Raises:
        ConfigError: a variable is no key, or its file cannot be read.
    """
    key_option, file_option = BY_NAME["api_key"], BY_NAME["api_key_file"]
    given = {name: environ[name] for name in (key_option.variable, KEY_VARIABLE) if environ.get(name, "").strip()}
    file_name = environ.get(file_option.variable, "").strip()
    found = read_keys(file_name, file_option.variable) if file_name else ()
    for name in (key_option.variable, KEY_VARIABLE):
        if name in given and (not found or name == key_option.variable):
            found = (*key_option.read(given[name], name), *found)
    return found


def read_keys(name: str, where: str) -> tuple[str, ...]:
    """Read a file with one key a line.

    Args:
        where: the option that names it, with which an error's sentence begins.

    Raises:
        ConfigError: it cannot be read, or a line is not a key.
    """
    found = key_lines(name, where)
    try:
        return tuple(key(line) for line in found)
    except ValueError as wrong:
        raise ConfigError(f"{where}: {name} holds a line that is not a key: expected one a line, {wrong}") from None
