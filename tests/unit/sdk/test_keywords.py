"""Type checkers know exactly the keywords that servers take."""

from __future__ import annotations

from se_server.conversation.handlers import HANDLER_NAMES
from se_server.conversation.settings import SESSION_OPTIONS
from se_server.sdk.keywords import HandlerKeywords, ServeKeywords, ServerKeywords, SessionKeywords
from se_server.sdk.server import KEYWORDS


def test_type_checkers_know_every_keyword() -> None:
    assert set(HandlerKeywords.__annotations__) == set(HANDLER_NAMES)
    assert set(SessionKeywords.__annotations__) == set(SESSION_OPTIONS) - {"debug"}
    assert set(ServerKeywords.__annotations__) == set(HANDLER_NAMES) | set(SESSION_OPTIONS) - {"debug"}
    parameters = {"port", "path", "api_key", "debug", "disable_auth"}
    assert set(ServeKeywords.__annotations__) | parameters == {*KEYWORDS, *HANDLER_NAMES}
