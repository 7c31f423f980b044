"""A key that is given where a file's name is expected: no error repeats it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from se_server.auth import sign_token
from se_server.cli.request import signing_key
from se_server.client_tls import ClientTls
from se_server.errors import AppError, ConfigError
from se_server.observe.log_config import read_log_config
from se_server.options import shown_file
from se_server.server.config.app import load_app
from se_server.server.config.config import load_config
from se_server.server.listen.admin import read_tokens
from se_server.server.listen.sockets import bind
from se_server.server.listen.tls import make_context

KEY = "sk_2f6c1b0e9d8a7f4e3c2b1a0f9e8d7c6b5a4f3e2d1c0b9a8f"
KEYS = {
    "key": KEY,
    "key with a suffix": f"{KEY}_residency_eu",
    "key without its prefix": KEY[3:],
    "assignment": f"ELEVENLABS_API_KEY={KEY}",
    "header": "X-Secret=correct horse",
    "token": sign_token("k"),
    "base64": "Ab3/" * 12 + "==",
    "base64 without an end": "Ab3/" * 12,
    "with a line end": f"{KEY}\n",
}
PLACES: dict[str, Callable[[str], object]] = {
    "--api-key-file": lambda text: load_config({"api_key_file": text}, {}),
    "SE_SERVER_API_KEY_FILE": lambda text: load_config({}, {"SE_SERVER_API_KEY_FILE": text}),
    "--config": lambda text: load_config({"config": text}, {}),
    "--require-header-file": lambda text: load_config({"require_header_file": text}, {}),
    "--allow-ips": lambda text: load_config({"allow_ips": (f"@{text}",)}, {}),
    "--certfile": lambda text: make_context(text, None, None),
    "--keyfile": lambda text: make_context(None, text, None),
    "--log-config": read_log_config,
    "--admin-token-file": read_tokens,
    "--cafile": lambda text: ClientTls(cafile=text).context(),
    "--cert": lambda text: ClientTls(cert=text).context(),
    "--api-key-file of a client": lambda text: signing_key(None, Path(text)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_misplaced_key_is_not_repeated(place: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PLACES[place](key)
    said = str(caught.value)
    assert key.strip() not in said
    assert key.partition("=")[2] not in said or "=" not in key.strip("=")
    for context in (caught.value.__context__, caught.value.__cause__):
        assert caught.value.__suppress_context__ or context is None


@pytest.mark.parametrize(
    "name", ["keys", "/run/secrets/elevenlabs-api-key", "keys.txt", "./a-long-name-of-a-file-of-keys.txt", "conf/keys"]
)
def test_name_of_a_file_is_shown(name: str) -> None:
    assert shown_file(name) == name
    assert shown_file(Path(name)) == str(Path(name))


@pytest.mark.parametrize("key", [KEY, sign_token("k")])
@pytest.mark.parametrize(
    "place", ["workers", "port", "path", "ping_interval_s", "max_sessions", "allow_ips", "trusted_proxies"]
)
def test_key_as_another_value_is_not_repeated(place: str, key: str) -> None:
    for value in (key, f"10.0.0.1,{key}"):
        with pytest.raises(ConfigError) as caught:
            load_config({place: value}, {})
        assert key not in str(caught.value)


@pytest.mark.parametrize("key", [KEY, sign_token("k")])
def test_key_as_a_host_or_an_app_is_not_repeated(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        bind(key, 0)
    assert key not in str(caught.value)
    for spec in (key, f"{key}.py", f"agent:{key}"):
        with pytest.raises(AppError) as failed:
            load_app(spec)
        assert key not in str(failed.value)
