"""The table of `se-server`'s options: what it is told about listening and access, and those of its conversations.

The table is the only place that knows an option: the command line's help, the environment's names, the file's keys and
the checks are all read from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from se_server.conversation.settings import CONVERSATIONS, LIMITS, SESSION_OPTIONS
from se_server.options import Option, duration, flag, interval, memory, number, text
from se_server.server.config import readers
from se_server.server.door.access import Networks

KEY_VARIABLE = "ELEVENLABS_API_KEY"

LISTENING = "Listening"
ACCESS = "Who may come in"
CAPACITY = "How much is taken on"
RUNNING = "Running"
GROUPS = (LISTENING, ACCESS, CONVERSATIONS, LIMITS, CAPACITY, RUNNING)

SERVER_OPTIONS = (
    Option("app", text, None, "What answers.", "[APP]", group=RUNNING, positional=True),
    Option(
        "workers",
        readers.count,
        readers.usable_cpus,
        "Worker processes.",
        "N",
        "the CPUs this process may use",
        RUNNING,
    ),
    Option("host", readers.host, None, "Address to listen on.", "ADDRESS", "all interfaces", LISTENING),
    Option("port", readers.port, 3001, "Port to listen on; 0 takes a free one.", "PORT", "3001", LISTENING),
    Option(
        "uds",
        text,
        None,
        "Listen on this Unix socket, which only this user can connect to; and on a port if --host or --port is given.",
        "PATH",
        group=LISTENING,
    ),
    Option(
        "fd",
        readers.descriptors,
        (),
        "Listen on this open socket instead of opening one; may be given several times.",
        "N",
        group=LISTENING,
        repeatable=True,
    ),
    Option("path", readers.path, None, "The only path that conversations may use.", "PATH", "any path", LISTENING),
    Option("certfile", text, None, "Speak TLS, with this certificate and its chain.", "FILE", group=LISTENING),
    Option("keyfile", text, None, "The certificate's key, if it is not in the same file.", "FILE", group=LISTENING),
    Option(
        "ca_certs",
        text,
        None,
        "Let in only clients with a certificate that these authorities sign.",
        "FILE",
        group=LISTENING,
    ),
    Option(
        "api_key",
        readers.keys,
        (),
        "The ElevenLabs API key that signs the calls; may be given several times while keys are rotated. "
        "Other users of this machine can read it in the process list: prefer --api-key-file or the environment.",
        "KEY",
        f"${KEY_VARIABLE}",
        ACCESS,
        secret=True,
        repeatable=True,
    ),
    Option("api_key_file", text, None, "A file with one API key a line.", "FILE", group=ACCESS),
    Option(
        "disable_auth",
        flag,
        False,
        "Let anyone in who reaches the port. For tests and closed networks.",
        group=ACCESS,
    ),
    Option(
        "allow_ips",
        readers.networks,
        Networks(),
        "Let in only conversations from these addresses. Health checks are answered everywhere.",
        "CIDR,...",
        "all",
        ACCESS,
        repeatable=True,
    ),
    Option(
        "require_header",
        readers.required_header,
        None,
        "Let in only conversations whose request carries this header. Prefer the environment or a file for it.",
        "NAME=VALUE",
        group=ACCESS,
        secret=True,
    ),
    Option(
        "trusted_proxies",
        readers.proxies,
        Networks(),
        "Believe what these proxies say about their clients' addresses (Forwarded, X-Forwarded-For).",
        "CIDR,...",
        "none",
        ACCESS,
        repeatable=True,
    ),
    Option(
        "proxy_protocol",
        flag,
        False,
        "Expect the PROXY protocol, version 1 or 2, from the trusted proxies, and nobody else.",
        group=ACCESS,
    ),
    Option(
        "max_sessions",
        number,
        None,
        "Conversations at once, over all workers. Beyond this limit and the next three, new ones are answered 503.",
        "N",
        "no limit",
        CAPACITY,
    ),
    Option(
        "max_pending_handshakes",
        number,
        None,
        "Connections of a worker that have not sent their whole request yet.",
        "N",
        "no limit",
        CAPACITY,
    ),
    Option("max_turns", number, None, "Turns of a worker that are being answered at once.", "N", "no limit", CAPACITY),
    Option(
        "shed_loop_lag_s",
        interval,
        None,
        "How late the event loop of a worker may be.",
        "SECONDS",
        "no limit",
        CAPACITY,
    ),
    Option(
        "log_level",
        readers.log_level,
        "info",
        "What to log: debug, info, warning or error.",
        "LEVEL",
        "info",
        RUNNING,
    ),
    Option(
        "log_format",
        readers.log_format,
        "text",
        "How to log, one line a record: text for people, json for programs.",
        "text|json",
        "text",
        RUNNING,
    ),
    Option(
        "log_file",
        text,
        None,
        "Where stderr goes: the log, and what else is printed there. SIGUSR1 opens it anew after a rotation.",
        "FILE",
        "stderr",
        RUNNING,
    ),
    Option(
        "reload",
        flag,
        False,
        "For development: reload when the APP's files change, and wait for a change when it cannot start; one worker"
        " unless --workers is given.",
        group=RUNNING,
    ),
    Option("drain_timeout_s", duration, 30.0, "How long a stop waits for conversations.", "SECONDS", "30", RUNNING),
    Option(
        "drain_notice_s",
        duration,
        0.0,
        "How long a stop still takes conversations while /readyz says 503: as long as balancers take to see it.",
        "SECONDS",
        "0",
        RUNNING,
    ),
    Option(
        "drain_turn_grace_s",
        duration,
        10.0,
        "How long an answer may go on when the time to drain is up.",
        "SECONDS",
        "10",
        RUNNING,
    ),
    Option(
        "goodbye_text",
        text,
        None,
        "What to say in a last turn to a caller whose conversation is about to be closed.",
        "TEXT",
        "nothing",
        RUNNING,
    ),
    Option(
        "reload_drain_timeout_s",
        duration,
        3600.0,
        "How long a reload leaves conversations to the old workers, which go on in the background.",
        "SECONDS",
        "3600",
        RUNNING,
    ),
    Option(
        "hang_timeout_s",
        interval,
        30.0,
        "Kill a worker whose event loop stood still this long, after logging where it stands.",
        "SECONDS",
        "30",
        RUNNING,
    ),
    Option(
        "max_worker_age_s",
        interval,
        None,
        "Replace a worker at this age. This and the next two cut no conversation, and come up to a tenth early.",
        "SECONDS",
        "never",
        RUNNING,
    ),
    Option(
        "max_worker_rss",
        memory,
        None,
        "Replace a worker that uses this much memory (Linux).",
        "MEMORY",
        "never",
        RUNNING,
    ),
    Option(
        "max_worker_sessions",
        number,
        None,
        "Replace a worker that has had this many conversations.",
        "N",
        "never",
        RUNNING,
    ),
    Option(
        "control_socket",
        text,
        None,
        "Where se-ctl reaches the server: a Unix socket that only this user can connect to; `off` for none.",
        "PATH|off",
        "beside the pidfile, or in $XDG_RUNTIME_DIR",
        RUNNING,
    ),
    Option(
        "pidfile", text, None, "Hold this file, with the supervisor's process id, while it runs.", "FILE", group=RUNNING
    ),
)

OPTIONS = (*SERVER_OPTIONS, *SESSION_OPTIONS.values())

BY_NAME = {option.name: option for option in OPTIONS}

OF_CONVERSATIONS = frozenset(
    ("path", "allow_ips", "require_header", "trusted_proxies", "proxy_protocol", *SESSION_OPTIONS)
)
"""What workers may still take from their APP: it concerns conversations, and no open socket."""


def read_keywords(keywords: Mapping[str, object]) -> dict[str, Any]:
    """Read values of options that were given as keywords; None stands for the default.

    Raises:
        ConfigError: a value is not valid.
    """
    return {
        name: BY_NAME[name].default if raw is None else BY_NAME[name].read(raw, name) for name, raw in keywords.items()
    }
