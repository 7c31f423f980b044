"""Type checkers know exactly the keywords that servers take."""

from __future__ import annotations

import inspect

from se_server.conversation.handlers import HANDLER_NAMES
from se_server.conversation.settings import SESSION_OPTIONS
from se_server.options import options_of
from se_server.sdk.keywords import HandlerKeywords, ServeKeywords, ServerKeywords, SessionKeywords
from se_server.sdk.server import KEYWORDS, SpeechEngineServer
from se_server.server.door.access import Access


def test_type_checkers_know_every_keyword() -> None:
    assert set(HandlerKeywords.__annotations__) == set(HANDLER_NAMES)
    assert set(SessionKeywords.__annotations__) == set(SESSION_OPTIONS) - {"debug"}
    named = set(inspect.signature(SpeechEngineServer).parameters)
    assert set(ServerKeywords.__annotations__) == {*HANDLER_NAMES, *SESSION_OPTIONS, *options_of(Access)} - named
    parameters = {"port", "path", "api_key", "debug", "disable_auth"}
    assert set(ServeKeywords.__annotations__) | parameters == {*KEYWORDS, *HANDLER_NAMES}
