"""One conversation: its session, the connection below it and the answers that flow through both.

Knows asyncio, never processes. Limits come in as plain values and counters as an injected `Stats`, never as a `Config`.
"""

import picows

PICOWS_VERSION = "2.3.1"
"""The picows whose C layout is compiled in; pinned in pyproject.toml, too."""

_installed = vars(picows)["__version__"]  # not among the names that picows' stubs export

if _installed != PICOWS_VERSION:
    raise ImportError(
        f"se-server was built against picows {PICOWS_VERSION}, and {_installed} is installed: "
        f"pip install picows=={PICOWS_VERSION}"
    )
