"""The public names of `se_server` and `se_server.speech_engine`."""

from __future__ import annotations

import importlib
import importlib.metadata

import pytest

import se_server
import se_server.speech_engine

PUBLISHED_IN_SPEECH_ENGINE = {
    "CLOSE",
    "DISCONNECTED",
    "ERROR",
    "INIT",
    "USER_TRANSCRIPT",
    "ConversationMessage",
    "ReceiveUpstreamMessage",
    "SendUpstreamMessage",
    "SpeechEngineResource",
    "SpeechEngineServer",
    "SpeechEngineSession",
    "WebSocketLike",
    "verify_speech_engine_jwt",
}
PUBLISHED = {"AsyncElevenLabs", "ElevenLabs", "SpeechEngineConfig", "__version__"}


@pytest.mark.parametrize("name", se_server.__all__)
def test_every_public_name_resolves_and_stays(name: str) -> None:
    value = getattr(se_server, name)
    assert value is not None
    assert vars(se_server)[name] is value
    assert name in dir(se_server)


def test_the_table_of_homes_matches_the_type_checker() -> None:
    assert sorted(se_server.__all__) == sorted({*se_server._HOMES, "__version__"})
    for name, module in se_server._HOMES.items():
        assert hasattr(importlib.import_module(module), name)


def test_the_published_names_are_there() -> None:
    unions = {"ReceiveUpstreamMessage", "SendUpstreamMessage"}
    assert set(se_server.__all__) >= PUBLISHED | PUBLISHED_IN_SPEECH_ENGINE - unions
    assert set(se_server.speech_engine.__all__) == PUBLISHED_IN_SPEECH_ENGINE
    for name in PUBLISHED_IN_SPEECH_ENGINE - unions:
        assert getattr(se_server.speech_engine, name) is getattr(se_server, name)


def test_an_unknown_name_is_an_ordinary_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'SpeechEngin'"):
        _ = se_server.SpeechEngin
    with pytest.raises(ImportError):
        from se_server import nothing  # noqa: F401


def test_the_version_is_the_distributions() -> None:
    try:
        installed = importlib.metadata.version("se-server")
    except importlib.metadata.PackageNotFoundError:
        installed = "0+source"
    assert se_server.__version__ == installed
