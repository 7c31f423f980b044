"""`--log-config`: logging configured by a file, TOML or JSON, in the schema of `logging.config.dictConfig`."""

from __future__ import annotations

import json
import logging
import logging.config
import sys
from typing import Any

from se_server.errors import ConfigError
from se_server.observe.logs import keep_own_loggers
from se_server.options import shown_file
from se_server.telemetry._printable import text_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_log_config(path: str) -> dict[str, Any]:
    """Read a configuration.

    Args:
        path: a file whose name ends in `.json`, or a TOML file.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            content = json.load(file) if path.endswith(".json") else tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"--log-config: cannot read {shown_file(path)}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        form = "JSON" if path.endswith(".json") else "TOML"
        raise ConfigError(f"--log-config: {path} is not valid {form}: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"--log-config: {path} is not an object, as logging.config.dictConfig takes it")
    # A file that names some loggers should not silence all others.
    return {"version": 1, "disable_existing_loggers": False, **content}


def apply_log_config(content: dict[str, Any], path: str) -> None:
    """Apply a configuration on top of the log that is set up.

    Args:
        content: as `read_log_config` returns it.
        path: the file, for the error.

    Raises:
        ConfigError: the configuration is not valid; the log keeps its handler.
    """
    root = logging.getLogger()
    before = root.handlers[:]
    try:
        logging.config.dictConfig(content)
    except Exception as error:
        root.handlers = before
        causes = [text_of(one) for one in (error, error.__cause__) if one is not None]
        raise ConfigError(f"--log-config: {path} does not configure logging: {': '.join(causes)}") from None
    keep_own_loggers()
