"""The options of the program `se-server`: its APP, its log, and the files by which it is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from se_server.options import flag, one_of, option, text
from se_server.server.shared.lifecycle import RUNNING

log_level = one_of("debug", "info", "warning", "error")
log_format = one_of("text", "json")
loop = one_of("uvloop", "asyncio")


@dataclass(frozen=True)
class Program:
    """The APP, the log and the files of one `se-server`.

    Attributes:
        app: the APP as it was named; None for the demo agent.
        log_level: the lowest level that is logged.
        log_format: `text` or `json`.
        log_config: the file with a `dictConfig` of logging; None for none.
        log_file: the file that stderr goes to; None leaves stderr alone.
        loop: the event loop of the workers, `uvloop` or `asyncio`.
        no_alias: whether a program's imports of the published SDK are left alone.
        reload: whether changes of the APP's files cause a reload.
        control_socket: the path of se-ctl's socket; `off` for none, None for the default path.
        pidfile: the path of the pidfile; None for none.
    """

    HEADING: ClassVar[str] = RUNNING

    app: str | None = option(None, text, "The agent to run.", "[APP]", positional=True)
    log_level: str = option(
        "info", log_level, "The lowest level to log: debug, info, warning or error.", "LEVEL", default_text="info"
    )
    log_format: str = option(
        "text",
        log_format,
        "The form of the log, one line a record: text for people, json for programs.",
        "text|json",
        default_text="text",
    )
    log_config: str | None = option(
        None,
        text,
        "Configure logging from this file, TOML or JSON, whose keys are those of logging.config.dictConfig.",
        "FILE",
    )
    log_file: str | None = option(
        None,
        text,
        "Write stderr to this file: the log and everything else printed there. SIGUSR1 reopens it after a rotation.",
        "FILE",
        default_text="stderr",
    )
    loop: str = option(
        "uvloop",
        loop,
        "The event loop of the workers: uvloop, or asyncio's own for an agent that patches it.",
        "uvloop|asyncio",
        default_text="uvloop",
    )
    no_alias: bool = option(
        False,
        flag,
        "With `run`: leave `elevenlabs.speech_engine` to the installed package, whose serve() is not captured.",
    )
    reload: bool = option(
        False,
        flag,
        "For development: reload when the APP's files change, and wait for a change when it cannot start; one worker"
        " unless --workers is given, and 5 s for conversations on the old code unless --reload-drain-timeout-s is.",
    )
    control_socket: str | None = option(
        None,
        text,
        "The Unix socket of se-ctl, which only this user can connect to; `off` for none.",
        "PATH|off",
        default_text="beside the pidfile, or in $XDG_RUNTIME_DIR, /run or the temporary directory",
    )
    pidfile: str | None = option(
        None, text, "Hold this file, with the supervisor's process id, while the server runs.", "FILE"
    )
