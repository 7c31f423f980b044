"""The servers under test: one table of how each is started, and the handler that all of them serve.

A target is started as its ordinary user would start it. To add one, add a line to `TARGETS`, and a script beside
this file if the target has no command of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.kernel import Target

__all__ = ["API_KEY", "HANDLER", "TARGETS"]

HANDLER = Path(__file__).with_name("handler.py")

API_KEY = "sk_bench_0123456789abcdef"
"""What every target verifies its callers against: authentication is on, as in production."""

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            name="se-server",
            command=(
                *(sys.executable, "-m", "se_server.cli.server", str(HANDLER)),
                *("--workers", "1", "--host", "127.0.0.1", "--port", "0", "--path", "/ws"),
            ),
            ready=r"ready: ws://[^ ]*:(?P<port>\d+)",
            environment={"ELEVENLABS_API_KEY": API_KEY},
        ),
        *(
            Target(
                name=f"published SDK, {loop}",
                command=(sys.executable, "-m", "bench.load.targets.published_sdk_target", loop),
                ready=r"^ready (?P<port>\d+)$",
                environment={"ELEVENLABS_API_KEY": API_KEY},
            )
            for loop in ("asyncio", "uvloop")
        ),
        Target(name="plain picows", command=(sys.executable, "-m", "bench.load.targets.picows_plain_target")),
    )
}
