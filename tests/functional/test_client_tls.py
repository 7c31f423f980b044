"""se-chat, se-doctor and se-bench over TLS: an own authority, a self-signed certificate, and mutual TLS."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.functional.test_tls import Files, files  # noqa: F401
from tests.helpers import TEST_API_KEY, ServerProcess, running_server

COMMANDS = {
    "se-chat": ("chat",),
    "se-doctor": ("doctor", "--only", "question"),
    "se-bench load": ("load", "-n", "1", "--duration-s", "0.1"),
}


@pytest.fixture(scope="module", params=[False, True], ids=["one-sided", "mutual"])
def server(request: pytest.FixtureRequest, files: Files) -> Iterator[tuple[ServerProcess, bool]]:  # noqa: F811
    mutual = ("--ca-certs", str(files.authority)) if request.param else ()
    options = ("--certfile", str(files.both), *mutual, "--drain-timeout-s", "0")
    with running_server(*options, workers=1) as running:
        yield running, request.param


def run(name: str, *arguments: str) -> tuple[int, str]:
    module, *more = COMMANDS[name]
    done = subprocess.run(
        [sys.executable, "-m", f"se_server.cli.{module}", *arguments, *more],
        input="hello\n", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_take_certificates(name: str, server: tuple[ServerProcess, bool], files: Files) -> None:  # noqa: F811
    running, is_mutual = server
    own = ("--cert", str(files.client)) if is_mutual else ()
    call = (running.url, "--api-key", TEST_API_KEY)
    for trust in (("--cafile", str(files.authority)), ("--insecure",)):
        code, output = run(name, *call, *trust, *own)
        assert code == 0, output
    code, output = run(name, *call, *own)
    assert code != 0
    assert "certificate is not trusted" in output
    assert "--cafile FILE" in output
    assert "--insecure" in output
    if is_mutual:
        code, output = run(name, *call, "--cafile", str(files.authority))
        assert code != 0
        assert "--cert" in output, output
