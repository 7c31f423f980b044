"""The JSON Schema of the configuration file accepts what the server prints, and refuses what it refuses."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from se_server.cli.config_schema import schema
from se_server.cli.show_config import toml_lines
from se_server.errors import ConfigError
from se_server.server.config.config import load_config
from se_server.server.config.options import BY_NAME
from se_server.toml_file import tomllib

GIVEN: dict[str, Any] = {
    "port": 3001, "fd": [3, 4], "path": "/ws", "uds_mode": "660", "allow_ips": ["10.0.0.0/8"], "hold_after_s": "off",
    "max_message_bytes": "64KiB", "first_word_text": ["One moment.", "Let me see."], "log_level": "debug",
    "max_worker_rss": "512MiB", "workers": 2, "speak_refusals": False, "drain_notice_s": 0, "settle_s": 0.5,
}  # fmt: skip
WRONG: dict[str, Any] = {
    "port": 70000, "path": "ws", "hold_after_s": -1, "max_message_bytes": "much", "log_level": "loud", "workers": 0,
    "drain_timeout_s": -1, "ping_interval_s": 0, "debug": 7, "max_sessions": 0,
}  # fmt: skip


def test_the_schema_is_valid() -> None:
    jsonschema.Draft7Validator.check_schema(schema())


def test_the_printed_configuration_is_valid() -> None:
    printed = tomllib.loads("\n".join(toml_lines(load_config({"port": "3001", "hold_after_s": "off"}, {}))))
    jsonschema.validate(printed, schema())


@pytest.mark.parametrize("name", GIVEN)
def test_values_that_the_server_reads_are_valid(name: str) -> None:
    BY_NAME[name].read(GIVEN[name], name)
    jsonschema.validate({name: GIVEN[name]}, schema())


@pytest.mark.parametrize("name", WRONG)
def test_values_that_the_server_refuses_are_not_valid(name: str) -> None:
    with pytest.raises(ConfigError):
        BY_NAME[name].read(WRONG[name], name)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({name: WRONG[name]}, schema())
