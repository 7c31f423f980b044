"""`--log-config`: logging configured by a file, TOML or JSON, in the schema of `logging.config.dictConfig`."""

from __future__ import annotations

import json
import logging
import logging.config
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from se_server.errors import ConfigError
from se_server.observe.logs import keep_own_loggers
from se_server.options import shown_file
from se_server.spelling import nearest
from se_server.telemetry._printable import text_of
from se_server.toml_file import read_toml

_KEYS = (
    "version", "formatters", "filters", "handlers", "loggers", "root", "incremental", "disable_existing_loggers",
)  # fmt: skip
_KEYS_OF_LOGGERS = ("level", "handlers", "filters", "propagate")


def read_log_config(path: str) -> dict[str, Any]:
    """Read a configuration.

    Args:
        path: a file whose name ends in `.json`, or a TOML file.

    Raises:
        ConfigError: the file cannot be read, or has a key without effect.
    """
    try:
        content = json.loads(Path(path).read_bytes()) if path.endswith(".json") else read_toml(path)
    except OSError as error:
        raise ConfigError(f"--log-config: cannot read {shown_file(path)}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        form = "JSON" if path.endswith(".json") else "TOML"
        raise ConfigError(f"--log-config: {path} is not valid {form}: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"--log-config: {path} is not an object, as logging.config.dictConfig takes it")
    _check_keys(content, _KEYS, path, "")
    for name, logger in [("root", content.get("root")), *_named(content.get("loggers"))]:
        if isinstance(logger, dict):
            _check_keys(logger, _KEYS_OF_LOGGERS, path, name)
    # A file that names some loggers should not silence all others.
    return {"version": 1, "disable_existing_loggers": False, **content}


def _named(loggers: object) -> list[tuple[str, object]]:
    return [(f"loggers.{name}", each) for name, each in loggers.items()] if isinstance(loggers, dict) else []


def _check_keys(content: dict[str, Any], known: Sequence[str], path: str, within: str) -> None:
    """Refuse a key that dictConfig would pass over.

    Raises:
        ConfigError: there is one.
    """
    for key in content:
        if key not in known:
            # `[loggers.se_server.door]` is a table within a table of TOML.
            is_nested = within.startswith("loggers.") and isinstance(content[key], dict)
            name = f"{within.partition('.')[2]}.{key}"
            hint = f'; quote the name: [loggers."{name}"]' if is_nested else nearest(key, known)
            place = f"{key} in [{within}]" if within else key
            raise ConfigError(f"--log-config: {path} has {place}, which logging.config.dictConfig does not know{hint}")


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
