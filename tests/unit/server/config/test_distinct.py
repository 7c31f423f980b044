"""Two options that ask for the same port or path are named together."""

from __future__ import annotations

import pytest

from se_server.errors import ConfigError
from se_server.server.config.config import load_config

SAME = {
    "page": ({"admin": "127.0.0.1:3001"}, "--port 3001 (the default) and --admin 127.0.0.1:3001 ask for the same port"),
    "page on all": ({"admin": "0.0.0.0:9100", "port": "9100", "host": "127.0.0.1"}, "--admin 0.0.0.0:9100"),
    "page by name": ({"admin": "localhost:9100", "port": "9100", "host": "127.0.0.1"}, "--admin localhost:9100"),
    "checks": ({"agent_check": "127.0.0.1:3001"}, "--agent-check 127.0.0.1:3001 ask for the same port 3001"),
    "page and checks": ({"admin": "*:9100", "agent_check": "10.0.0.11:9100"}, "--admin *:9100 and --agent-check"),
    "playground": ({"playground": True, "playground_port": "3001"}, "and --playground-port 3001 ask for"),
    "sockets": ({"uds": "/run/a.sock", "admin": "/run/../run/a.sock"}, "--uds and --admin name the same socket"),
    "control": ({"control_socket": "/run/a.sock", "uds": "/run/a.sock"}, "--uds and --control-socket name the same"),
}
APART = [
    {"admin": "127.0.0.1:9100"},
    {"admin": "127.0.0.1:0", "port": "0", "agent_check": "127.0.0.1:0"},
    {"admin": "127.0.0.1:9100", "host": "127.0.0.2", "port": "9100"},
    {"admin": "127.0.0.1:9100", "host": "::1", "port": "9100"},
    {"admin": "127.0.0.1:3001", "uds": "/run/a.sock"},
    {"admin": "127.0.0.1:3001", "fd": (3,)},
    {"playground": True, "port": "3002"},
    {"uds": "/run/a.sock", "admin": "/run/b.sock", "control_socket": "off"},
]


@pytest.mark.parametrize(("given", "sentence"), SAME.values(), ids=SAME)
def test_the_same_address_twice_is_refused(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"app": "agent.py", **given}, {"ELEVENLABS_API_KEY": "k"})
    assert sentence in str(caught.value)
    assert "of its own" in str(caught.value)


@pytest.mark.parametrize("given", APART, ids=map(str, range(len(APART))))
def test_addresses_that_differ_are_taken(given: dict[str, object]) -> None:
    load_config({"app": "agent.py", **given}, {"ELEVENLABS_API_KEY": "k"})
