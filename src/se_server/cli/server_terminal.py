"""The terminal of `se-server`: its start on stdout, its warnings and errors on stderr, as text or as JSON."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from se_server.cli.playing import PlaygroundPage
    from se_server.server.config.config import Config
    from se_server.server.shared.logfile import LogFile
    from se_server.telemetry.log_writer import LogWriter

log = logging.getLogger("se_server.server")


def _show(text: str, descriptor: int) -> None:
    """Write to stdout or stderr, without waiting for a reader that stalls."""
    from se_server.telemetry.log_writer import LogWriter

    writer = _writers.get(descriptor)
    if writer is None:
        writer = _writers[descriptor] = LogWriter(descriptor)
    writer.put(text.encode("utf-8", "backslashreplace"))


_writers: dict[int, LogWriter] = {}


def complain(text: str, log_file: LogFile | None = None, form: str = "text", level: str = "error") -> None:
    """Write to stderr, and to the former stderr while the server starts.

    Args:
        text: lines; those before the last one are a traceback of user code.
        form, level: with json, the text becomes one record of this level.
    """
    if form == "json":
        *details, text = text.rstrip("\n").rsplit("\n", 1)
        prefix = "WARNING: " if level == "warning" else "se-server: "
        text = _json_line(text.removeprefix(prefix), level, "".join(details))
    _show(_wrapped(text) if form != "json" else text, 2)
    if log_file is not None:
        log_file.write_to_starter(text.encode("utf-8", "backslashreplace"))


def _wrapped(text: str) -> str:
    """Wrap the sentence at the end of a text between words, on a terminal."""
    from se_server.cli.commands import fitted

    if not os.isatty(2):
        return text
    *details, sentence = text.rstrip("\n").split("\n")
    return "\n".join([*details, fitted(sentence, sys.stderr)]) + "\n"


def _json_line(message: str, level: str, exception: str = "", **fields: object) -> str:
    from se_server.observe.formats import JsonFormatter
    from se_server.telemetry.log_writer import LINE_BYTES

    record = logging.LogRecord(log.name, logging.getLevelName(level.upper()), "", 0, message, (), None)
    record.exc_text = exception
    record.__dict__["fields"] = fields
    return JsonFormatter(limit_bytes=LINE_BYTES).format(record) + "\n"


class Terminal:
    """Shows the start of the server on stdout and stderr."""

    def __init__(
        self, config: Config, port: int | None, log_file: LogFile | None, page: PlaygroundPage | None = None
    ) -> None:
        self._config = config
        self._page = page
        self._log_file = log_file
        self._url = ""
        self._places = [] if config.listening.uds is None else [f"unix:{config.listening.uds}"]
        if port is None:
            return
        from se_server.server.listen.sockets import url_of

        self._url = url_of(config.listening.host, port, is_tls=config.listening.certfile is not None)

    def ready(self, workers: int, path: str, addresses: Sequence[str], control_socket: str | None) -> None:
        """Print and log that the server is ready, and print the next steps if the demo agent answers."""
        from se_server import __version__
        from se_server.spelling import counted
        from se_server.telemetry.fields import Fields

        if addresses:
            self._url, self._places = addresses[0], list(addresses)
        elif self._url:
            self._places.insert(0, self._url + ("/" if self._config.routes else path or "/"))
            self._url += path or "/"
        count = f"{counted(len(self._config.routes), 'route')}, " if self._config.routes else ""
        line = f"se-server ready: {' and '.join(self._places)} ({count}{counted(workers, 'worker')})"
        lines = [line, *([] if self._config.apps() else self._welcome())]
        if self._page is not None:
            self._page.ready(self._url)
            lines.append(f"  Speak with it:   {self._page.url}")
        is_json = self._config.program.log_format == "json"
        _show(_json_line(line, "info", addresses=self._places) if is_json else "\n".join(lines) + "\n", 1)
        fields = Fields(
            version=__version__,
            addresses=self._places,
            workers=workers,
            app=" ".join(self._config.apps()) or "demo",
            control_socket=control_socket,
        )
        log.info("started: %s", fields, extra={"event": "started", "fields": fields})

    def _welcome(self) -> list[str]:
        if self._config.demo_key:
            about = "The demo agent answers, with the public demo key and for this machine only."
            key = ""
        elif self._config.route.disable_auth:
            about, key = "The demo agent answers anyone who reaches the port.", ""
        else:
            about, key = "The demo agent answers, with your API key.", f"   (with the same {self._key_variable()})"
        return [
            f"  {about}",
            *([f"  Talk to it:      se-chat {self._url}{key}"] if self._url else []),
            "  Serve your own:  ELEVENLABS_API_KEY=... se-server agent.py",
        ]

    @staticmethod
    def _key_variable() -> str:
        from se_server.server.door.routes import KEY_VARIABLE

        return KEY_VARIABLE

    def failed(self, reason: str, details: str) -> None:
        """Print the traceback of user code, if any, and the reason."""
        complain(f"{details}se-server: {reason}\n", self._log_file, self._config.program.log_format)
