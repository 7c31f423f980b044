"""The options of the playground: the page on which a developer speaks with the agent in a browser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from se_server.options import flag, option
from se_server.server.listen.listening import port

DEFAULT_PORT = 3002


@dataclass(frozen=True)
class Playground:
    """The page on which a developer speaks with the agent.

    Attributes:
        playground: whether the page is served, on this machine only.
        playground_port: its port; 0 takes a free one.
        no_open: whether the page is not opened in a browser.
    """

    HEADING: ClassVar[str] = "Playground"

    playground: bool = option(
        False,
        flag,
        "For development: serve a page on this machine to speak with the agent in a browser, and open it. Without a"
        " key, the demo key is used, on loopback only.",
    )
    playground_port: int = option(
        DEFAULT_PORT,
        port,
        "The port of the page; 0 takes a free one.",
        "PORT",
        default_text=f"{DEFAULT_PORT}, or a free one if it is in use",
    )
    no_open: bool = option(False, flag, "Print the address of the page, and do not open it.")
