"""`se-server --playground`: a separate process that serves the page on which one speaks with the agent.

It is not the supervisor's child in the sense of a worker: it is started before the server, and its end changes nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from se_server import __version__
from se_server.errors import ConfigError
from se_server.playground.access import kept_token
from se_server.server.config.config import Config
from se_server.server.config.keys import find_keys
from se_server.server.listen.admin import read_tokens
from se_server.server.listen.sockets import bind

LOOPBACK = "127.0.0.1"
END_S = 5.0
UPGRADE_VARIABLE = "_SE_SERVER_HANDOVER"


class PlaygroundPage:
    """The page of a server that is about to start, and its process.

    Args:
        config: the options of the server.

    Attributes:
        url: the page's address, with its token.

    Raises:
        ConfigError: the options do not go together, or the port is in use.
    """

    def __init__(self, config: Config) -> None:
        _check(config)
        self._folder = tempfile.mkdtemp(prefix="se-play-")
        self._process: subprocess.Popen[bytes] | None = None
        try:
            sock = _bind(config)
            port = sock.getsockname()[1]
            token = kept_token(port)
            self.url = f"http://{LOOPBACK}:{port}/{token}/"
            self._opens = not config.playground.no_open
            self._token_file = Path(self._folder, "token")
            self._token_file.touch(0o600)
            self._token_file.write_text(token_hex(16) + "\n")
            with sock:
                self._start(config, sock, token)
        except BaseException:
            self.end()
            raise

    def _start(self, config: Config, sock: socket.socket, token: str) -> None:
        observed = self.observed(config)
        assert observed.admin.admin is not None
        assert observed.admin.admin_token_file is not None
        place = observed.admin.admin
        own = config.of_playground()
        access = own.access
        required = [header for header in (access.require_header, access.require_header_file) if header is not None]
        given = {
            "descriptor": sock.fileno(),
            "token": token,
            "folder": self._folder,
            "log_level": config.program.log_level,
            "log_format": config.program.log_format,
            "observer": {
                "url": f"http://{place}",
                "uds": place if "/" in place else "",
                "token": read_tokens(observed.admin.admin_token_file)[0],
            },
            "server": {
                "app": own.program.app,
                "key": None if own.route.disable_auth else next(iter(own.route.api_key or find_keys(os.environ)), None),
                "headers": {header.name: header.value.decode("latin-1") for header in required},
                "path": None if own.route.path == "/*" else own.route.path,
                "reloads": config.program.reload,
                "failure_text": own.session.failure_text or "",
                "version": __version__,
            },
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "se_server.playground"], stdin=subprocess.PIPE, pass_fds=(sock.fileno(),)
        )
        self._write(given)

    def observed(self, config: Config) -> Config:
        """Return the options with an observer, which knows the server's side of each turn."""
        place = config.admin.admin or os.path.join(self._folder, "observer")
        if config.admin.admin_token_file is not None and config.admin.admin is not None:
            return config
        admin = dataclasses.replace(config.admin, admin=place, admin_token_file=str(self._token_file))
        return dataclasses.replace(config, admin=admin)

    def ready(self, url: str) -> None:
        """Tell the page that the server is ready, and open it."""
        self._write({"url": url, "open": self.url if self._opens else None})
        self._opens = False

    def _write(self, message: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(OSError):  # the page is gone, and the server goes on
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def end(self) -> None:
        """End the process and remove its files."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def playing(config: Config) -> Iterator[PlaygroundPage | None]:
    """Serve the page until the end of the block, if the options ask for it.

    Raises:
        ConfigError: the options do not go together, or the port is in use.
    """
    # The supervisor that replaces another one leaves the page to that: two could not have the same port.
    if not config.playground.playground or UPGRADE_VARIABLE in os.environ:
        yield None
        return
    page = PlaygroundPage(config)
    try:
        yield page
    finally:
        page.end()


def check_page(config: Config) -> None:
    """Check that the page can be served.

    Raises:
        ConfigError: the options do not go together, or the port is in use.
    """
    _check(config)
    _bind(config).close()


def _check(config: Config) -> None:
    for is_given, option in (
        (not config.wants_port(), "--uds alone"),
        (config.listening.ca_certs is not None, "--ca-certs"),
        (config.access.proxy_protocol, "--proxy-protocol"),
    ):
        if is_given:
            raise ConfigError(
                f"--playground speaks with the server as a plain client on a port: it cannot be used with {option}"
            )


def _bind(config: Config) -> socket.socket:
    """Bind the page's port; a free one if the usual one is in use."""
    try:
        return bind(LOOPBACK, config.playground.playground_port)[0]
    except ConfigError as error:
        if config.was_given("playground_port"):
            raise type(error)(f"--playground-port: {error}") from None
        return bind(LOOPBACK, 0)[0]
