"""The servers under test: one table of their commands, and the handler that all of them serve.

A target is started as its ordinary user would start it, at the setting that is best for it (see bench/README.md). To
add one, add a line to `TARGETS`, and a script beside this file if the target has no command of its own.
"""

from __future__ import annotations

import atexit
import dataclasses
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from bench.kernel import Target
from bench.load.targets import bare, certificate, javascript
from bench.load.targets.making import SCRATCH, install_packages, need_packages, place
from bench.load.targets.pythons import on_other_pythons

__all__ = ["API_KEY", "HANDLER", "TARGETS", "trusting"]

HANDLER = Path(__file__).with_name("handler.py")

API_KEY = "sk_bench_0123456789abcdef"
"""The API key of every target: authentication is on, as in production."""

KEYED = {"ELEVENLABS_API_KEY": API_KEY}


def trusting() -> dict[str, str]:
    """Return the environment variables that let a load generator trust the targets' certificate."""
    return {"SSL_CERT_FILE": str(certificate.CA)}


def _needing(*packages: str) -> Callable[[], None]:
    return lambda: need_packages(*packages)


def _script(name: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"bench.load.targets.{name}", *arguments)


def _with(target: Target, name: str, *options: str) -> Target:
    return dataclasses.replace(target, name=f"{target.name}, {name}", command=(*target.command, *options))


def _observed() -> Target:
    """Return se-server with metrics, recordings and the other features that keep something of each conversation."""
    recordings = SCRATCH / f"recordings-{os.getpid()}"

    def prepare() -> None:
        if not recordings.exists():
            recordings.mkdir(parents=True, mode=0o700)
            atexit.register(shutil.rmtree, recordings)

    options = (
        *("--admin", "127.0.0.1:0", "--record", "full", "--record-dir", str(recordings), "--max-sessions", "100000"),
        *("--first-word-after-s", "2", "--first-word-text", "One moment", "--failure-text", "Sorry"),
    )
    ready = rf"(?s){OURS.ready}.* the page for operators is at "  # the observer starts after the workers
    return dataclasses.replace(_with(OURS, "all features", *options), prepare=prepare, ready=ready)


def _over_tls(target: Target, *options: str) -> Target:
    def prepare() -> None:
        target.prepare()
        certificate.make_certificate()

    return dataclasses.replace(
        target, name=f"{target.name}, TLS", command=(*target.command, *options), tls=True, prepare=prepare
    )


OURS = Target(
    name="se-server",
    command=(
        *(sys.executable, "-m", "se_server.cli.server", str(HANDLER)),
        *("--workers", "1", "--host", "127.0.0.1", "--port", "0", "--path", "/ws"),
    ),
    ready=r"ready: wss?://[^ ]*:(?P<port>\d+)",
    environment=KEYED,
)
UVICORN = Target(
    name="published SDK, FastAPI on uvicorn",
    command=(
        *(sys.executable, "-m", "uvicorn", "bench.load.targets.fastapi_app:app", "--host", "127.0.0.1", "--port", "0"),
        *("--loop", "uvloop", "--http", "httptools", "--ws", "websockets-sansio"),
    ),
    ready=r"running on https?://[^ ]*:(?P<port>\d+)",
    environment=KEYED,
    prepare=_needing("elevenlabs", "fastapi", "uvicorn", "httptools", "websockets"),
)
GRANIAN = Target(
    name="published SDK, FastAPI on granian",
    command=_script("granian_target", "--workers", "1", "--loop", "uvloop"),
    environment=KEYED,
    prepare=_needing("elevenlabs", "fastapi", "granian"),
)
GUNICORN = Target(
    name="published SDK, FastAPI on gunicorn",
    command=(
        *(sys.executable, "-m", "gunicorn", "bench.load.targets.fastapi_app:app", "--bind", "127.0.0.1:0"),
        *("--worker-class", "asgi", "--workers", "1", "--asgi-loop", "uvloop", "--no-control-socket"),
    ),
    ready=r"ASGI server listening on https?://[^ ]*:(?P<port>\d+)",
    environment=KEYED,
    prepare=_needing("elevenlabs", "fastapi", "gunicorn.asgi"),
)
HYPERCORN = Target(
    name="published SDK, FastAPI on hypercorn",
    command=(
        *(sys.executable, "-m", "hypercorn", "bench.load.targets.fastapi_app:app", "--bind", "127.0.0.1:0"),
        *("--worker-class", "uvloop", "--workers", "1"),
    ),
    ready=r"Running on https?://[^ ]*:(?P<port>\d+)",
    environment=KEYED,
    prepare=_needing("elevenlabs", "fastapi", "hypercorn"),
)

NEXT_SDK = "elevenlabs==3.0.0a1"
NEXT_SDK_FOLDER = place("sdk", NEXT_SDK)
"""The published SDK's next version, beside the one that is installed."""


JAVASCRIPT = Target(
    name="JavaScript SDK",
    command=javascript.COMMAND,
    environment={**KEYED, **javascript.ENVIRONMENT},
    prepare=javascript.install,
)


def _targets() -> Iterator[Target]:
    yield OURS
    yield dataclasses.replace(
        OURS, name="se-server, no authentication", command=(*OURS.command, "--disable-auth"), environment={}
    )
    yield from on_other_pythons(OURS)
    yield _with(OURS, "paced", "--chunk-pace-s", "0.5")
    yield _observed()
    for count in (2, 4, 8):
        command = tuple(str(count) if before == "--workers" else part for before, part in pairwise(("", *OURS.command)))
        yield dataclasses.replace(OURS, name=f"{OURS.name}, {count} workers", command=command)
    for loop in ("asyncio", "uvloop"):
        yield Target(
            name=f"published SDK, {loop}",
            command=_script("published_sdk_target", loop),
            environment=KEYED,
            prepare=_needing("elevenlabs", "websockets"),
        )
    published = Target(
        name="published SDK on picows.websockets",
        command=_script("published_sdk_target", "uvloop"),
        environment={**KEYED, "BENCH_WEBSOCKETS": "picows.websockets"},
        prepare=_needing("elevenlabs", "picows.websockets"),
    )
    yield published
    yield dataclasses.replace(
        published,
        name="published SDK 3.0.0a1, uvloop",
        environment={**KEYED, "PYTHONPATH": os.pathsep.join([str(NEXT_SDK_FOLDER), *filter(None, sys.path)])},
        prepare=lambda: install_packages(NEXT_SDK_FOLDER, NEXT_SDK),
    )
    yield UVICORN
    yield GRANIAN
    yield GUNICORN
    yield HYPERCORN
    yield JAVASCRIPT
    yield Target(name="plain picows", command=_script("picows_plain_target"))
    yield Target(name="picows in Cython", command=_script("picows_cython_target"), prepare=bare.build_picows_limit)
    for unit in ("turn", "frame"):
        yield Target(name=f"bare C, one send a {unit}", command=(str(bare.C_SERVER), unit), prepare=bare.build_c_server)

    yield Target(
        name="bare uvloop, TLS",
        command=_script("uvloop_tls_target", str(certificate.CHAIN), str(certificate.KEY)),
        tls=True,
        prepare=certificate.make_certificate,
    )
    yield _over_tls(OURS, "--certfile", str(certificate.CHAIN), "--keyfile", str(certificate.KEY))
    yield _over_tls(UVICORN, "--ssl-certfile", str(certificate.CHAIN), "--ssl-keyfile", str(certificate.KEY))
    yield _over_tls(GRANIAN, "--ssl-certificate", str(certificate.CHAIN), "--ssl-keyfile", str(certificate.KEY))
    yield _over_tls(JAVASCRIPT, str(certificate.CHAIN), str(certificate.KEY))


TARGETS: dict[str, Target] = {target.name: target for target in _targets()}
