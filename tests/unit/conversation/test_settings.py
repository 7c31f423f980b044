"""The options of a conversation: as keywords of the library, and as options of the command."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import DEFAULT_SETTINGS, SESSION_OPTIONS, SessionSettings
from se_server.errors import ConfigError
from se_server.sdk.resource import SpeechEngineResource
from se_server.sdk.server import SpeechEngineServer
from se_server.server.config.config import load_config


class Socket:
    """A WebSocket to wrap; nothing is sent over it."""

    async def recv(self) -> str:
        raise NotImplementedError

    async def send(self, message: str) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


async def of_server(**options: Any) -> SessionSettings:
    return SpeechEngineServer(**options).settings


async def of_session(**options: Any) -> SessionSettings:
    return SpeechEngineSession(Socket(), **options)._settings


async def of_resource(**options: Any) -> SessionSettings:
    return SpeechEngineResource("seng_1").create_session(Socket(), **options)._settings


async def of_served_resource(**options: Any) -> SessionSettings:
    await SpeechEngineResource("seng_1").serve(**options)
    raise AssertionError("unreachable: without a key nothing is served")


TAKERS = [of_server, of_session, of_resource]


@pytest.mark.parametrize("take", TAKERS)
async def test_a_keyword_reads_as_the_option_does(take: Any) -> None:
    settings = await take(max_message_bytes="64KiB", max_fragments=7, ping_timeout_s=3, debug=False)
    assert settings == SessionSettings(max_message_bytes=65536, max_fragments=7, ping_timeout_s=3.0)


@pytest.mark.parametrize("take", TAKERS)
async def test_none_is_the_default(take: Any) -> None:
    assert await take(max_fragments=None) == DEFAULT_SETTINGS


@pytest.mark.parametrize("take", [*TAKERS, of_served_resource])
async def test_a_wrong_value_names_the_keyword(take: Any) -> None:
    """A wrong value is one sentence that names the keyword."""
    with pytest.raises(ConfigError) as caught:
        await take(max_fragments=0)
    assert str(caught.value) == "max_fragments: 0 is not valid: expected a whole number from 1 to a billion"


@pytest.mark.parametrize("take", [*TAKERS, of_served_resource])
async def test_an_unknown_keyword_names_the_nearest(take: Any) -> None:
    with pytest.raises(TypeError, match=r"option 'max_fragmnts'; did you mean max_fragments\?"):
        await take(max_fragmnts=3)


@pytest.mark.parametrize(
    ("wrong", "right"), [("on_transcrpt", "on_transcript"), ("prot", "port"), ("disable_aut", "disable_auth")]
)
def test_a_server_knows_its_other_keywords_too(wrong: str, right: str) -> None:
    with pytest.raises(TypeError, match=rf"'{wrong}'; did you mean {right}\?"):
        SpeechEngineServer(**{wrong: None})


@pytest.mark.parametrize("name", SESSION_OPTIONS)
def test_sessions_get_the_commands_default(name: str) -> None:
    """The command takes the default and gives it to sessions."""
    option = SESSION_OPTIONS[name]
    default = getattr(DEFAULT_SETTINGS, name)
    assert option.default == default
    if default not in (None, ()):
        assert option.parse(default) == default
        is_in_words = default == " "  # shown as "one blank"
        assert not option.metavar or is_in_words or option.parse(option.default_text) == default
    assert load_config({}, {}).value(name) == default


def test_every_source_of_the_command_reaches_the_session() -> None:
    config = load_config({"max_fragments": "5"}, {"SE_SERVER_PING_TIMEOUT_S": "1.5"})
    assert (config.session.max_fragments, config.session.ping_timeout_s) == (5, 1.5)
    assert config.sources["ping_timeout_s"] == "SE_SERVER_PING_TIMEOUT_S"


def test_every_field_is_documented() -> None:
    documented = inspect.cleandoc(SessionSettings.__doc__ or "")  # as Python 3.13 keeps it
    for item in fields(SessionSettings):
        assert f"\n    {item.name}: " in documented


@pytest.mark.parametrize("take", TAKERS)
async def test_every_taker_doubts_a_late_hold(take: Any) -> None:
    with pytest.warns(UserWarning, match="hold_after_s is 4 s, too late to hold the API"):
        await take(hold_after_s=4)
    assert not (await take(hold_after_s=3.9)).doubts()


@pytest.mark.parametrize("take", [of_server, of_session])
async def test_debug_may_be_a_word(take: Any) -> None:
    assert (await take(debug="no")).debug is False
    assert (await take(debug=1)).debug is True
    assert (await take(debug="perhaps")).debug is True


def test_a_doubt_names_the_route_that_it_is_about(tmp_path: Path) -> None:
    """A route with a value of its own has a doubt of its own; the others share the server's."""
    file = tmp_path / "se.toml"
    routes = ('path = "/a"\nhold_after_s = 9', 'path = "/b"', 'path = "/c"\nsettle_s = 5')
    file.write_text("hold_after_s = 6\n" + "".join(f'[[routes]]\napp = "agent.py"\n{text}\n' for text in routes))
    doubts = load_config({"config": str(file)}, {}).doubts()
    assert [doubt.split(",")[0] for doubt in doubts] == [
        f"hold_after_s in {file} is 6 s",
        f"hold_after_s in [[routes]] 1 in {file} is 9 s",
        f"settle_s in [[routes]] 3 in {file} is 5 s",
    ]
