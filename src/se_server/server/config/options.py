"""All options of `se-server`, gathered from the groups that declare them.

The command line's help, the names in the environment, the keys of the file and `SpeechEngineServer`'s checks are read
from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from se_server.conversation.settings import CONVERSATIONS, LIMITS, SessionSettings
from se_server.options import options_of
from se_server.server.config.playground import Playground
from se_server.server.config.program import Program
from se_server.server.door.access import Access
from se_server.server.door.admission import Capacity
from se_server.server.door.routes import ACCESS, RouteOptions
from se_server.server.listen.admin import Admin
from se_server.server.listen.listening import LISTENING, Listening
from se_server.server.shared.lifecycle import RUNNING, Lifecycle
from se_server.server.shared.preload import Preload
from se_server.server.shared.recording import Recording
from se_server.server.shared.tracing import Tracing

GROUPS: Mapping[str, type] = {
    "listening": Listening,
    "route": RouteOptions,
    "access": Access,
    "session": SessionSettings,
    "capacity": Capacity,
    "lifecycle": Lifecycle,
    "preload": Preload,
    "admin": Admin,
    "playground": Playground,
    "recording": Recording,
    "tracing": Tracing,
    "program": Program,
}
"""The option groups, by their attribute of `Config`."""

HEADINGS = (
    LISTENING, ACCESS, CONVERSATIONS, LIMITS, Capacity.HEADING, RUNNING, Admin.HEADING, Recording.HEADING,
    Tracing.HEADING, Playground.HEADING,
)  # fmt: skip
"""The headings of `--help`, in order."""

GROUP_OF = {name: group for group, declared in GROUPS.items() for name in options_of(declared)}
"""The attribute of `Config` that has an option, by the option's name."""

BY_NAME = {name: row for declared in GROUPS.values() for name, row in options_of(declared).items()}
OPTIONS = tuple(BY_NAME.values())

OF_CONVERSATIONS = frozenset(("path", *options_of(Access), *options_of(SessionSettings)))
"""Options that an APP may still set in a worker: they concern conversations, and no open socket."""


def read_keywords(keywords: Mapping[str, object]) -> dict[str, Any]:
    """Read values of options that were given as keywords; None stands for the default.

    Raises:
        ConfigError: a value is not valid.
    """
    return {
        name: BY_NAME[name].default if raw is None else BY_NAME[name].read(raw, name) for name, raw in keywords.items()
    }
