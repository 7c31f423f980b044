"""Words of messages: numbers with their nouns, and names of options as the user would write them.

The same option is `--max-sessions` on the command line, `SE_SERVER_MAX_SESSIONS` in the environment, and `max_sessions`
in a file and as a keyword.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

MAX_NAMED = 12
CLOSE = 0.6
"""The least likeness of two names of which one may be meant by the other, from 0 to 1."""

# Names that other servers and clients have for our options.
_SYNONYMS = {
    **dict.fromkeys(("b", "bind", "listen", "address", "interface"), "host"),
    **dict.fromkeys(("w", "worker", "threads", "processes", "num_workers"), "workers"),
    **dict.fromkeys(("p", "ports", "listen_port"), "port"),
    **dict.fromkeys(("unix", "unix_socket", "unix_socket_path", "socket"), "uds"),
    **dict.fromkeys(("c", "conf", "config_file"), "config"),
    **dict.fromkeys(("v", "verbose", "verbosity"), "log_level"),
    **dict.fromkeys(("root_path", "url_path", "prefix"), "path"),
    **dict.fromkeys(("ssl_certfile", "tls_cert", "ssl_cert", "certificate", "cert"), "certfile"),
    **dict.fromkeys(("ssl_keyfile", "tls_key", "ssl_key", "private_key", "key"), "keyfile"),
    **dict.fromkeys(("ssl_ca_certs", "client_ca", "cafile", "cacert"), "ca_certs"),
    **dict.fromkeys(("forwarded_allow_ips", "proxy_headers", "trust_proxy"), "trusted_proxies"),
    **dict.fromkeys(("limit_concurrency", "max_connections", "max_conversations", "max_clients"), "max_sessions"),
    **dict.fromkeys(("drain", "graceful_timeout", "timeout_graceful_shutdown", "shutdown_timeout"), "drain_timeout_s"),
    **dict.fromkeys(("pid", "pid_file"), "pidfile"),
    **dict.fromkeys(("worker_timeout", "timeout_worker_healthcheck"), "hang_timeout_s"),
    **dict.fromkeys(("no_auth", "disable_authentication"), "disable_auth"),
    **dict.fromkeys(("ip_allowlist", "allowed_ips", "allow"), "allow_ips"),
    **dict.fromkeys(("watch", "autoreload", "auto_reload", "reload_dir", "reload_include", "reload_exclude"), "reload"),
    **dict.fromkeys(("metrics", "prometheus", "admin_port"), "admin"),
    **dict.fromkeys(("validate", "dry_run", "test"), "check"),
    **dict.fromkeys(("k", "no_verify", "skip_verify", "trust_any"), "insecure"),
    **dict.fromkeys(("ca_certs", "cacert", "ca_file", "ca"), "cafile"),
    **dict.fromkeys(("certfile", "client_cert"), "cert"),
    **dict.fromkeys(("keyfile", "client_key"), "key"),
    **dict.fromkeys(("clients", "users", "connections", "concurrency"), "conversations"),
    **dict.fromkeys(("d", "time", "duration"), "duration_s"),
    **dict.fromkeys(("rate", "qps", "rps"), "turns_per_s"),
    **dict.fromkeys(("timeout", "timeout_s"), "reply_timeout_s"),
    **dict.fromkeys(("tls", "ssl", "https"), "certfile"),
    **dict.fromkeys(("quit", "exit", "kill", "shutdown"), "stop"),
    **dict.fromkeys(("restart", "upgrade"), "reload"),
    **dict.fromkeys(("list", "ls", "sessions"), "conversations"),
    **dict.fromkeys(("ps", "info", "top", "workers"), "status"),
    **dict.fromkeys(("logs", "rotate"), "reopen_log"),
}
# The same word means another option in a server than in a client; each command has one of the two.
_ALSO = {
    **dict.fromkeys(("cafile", "cacert"), "ca_certs"),
    **dict.fromkeys(("timeout", "timeout_s"), "turn_timeout_s"),
    "cert": "certfile",
    "key": "keyfile",
    "c": "conversations",
}

_NAME = re.compile(r"(?<![\w./-])(?:--[a-z][a-z-]*[a-z]|[a-z]+(?:_[a-z]+)+)(?![\w/-])")

_BEGUN = re.compile(r"([a-z]+)(?=: | ')")
"""A name without a hyphen is a word like any other, but at the beginning of a sentence about its value."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 turn`, `2,000 turns`."""
    return f"1 {noun}" if number == 1 else f"{number:,} {noun}s"


def nearest(name: str, known: Iterable[str], help_command: str = "") -> str:
    """Return the end of an error's sentence: the name that was probably meant, or all names if they are few.

    Args:
        name: the unknown name.
        known: the names that there are, in the spelling of the same place.
        help_command: a command that lists the names if they are many.
    """
    names = list(known)
    bare = {_bare(each): each for each in names}
    for meanings in (_SYNONYMS, _ALSO):
        meant = bare.get(meanings.get(_bare(name), ""))
        if meant is not None:
            return f"; did you mean {meant}?"
    is_letter = len(_bare(name)) < 2  # one letter is like nothing
    close = [] if is_letter else difflib.get_close_matches(_bare(name), bare, n=1, cutoff=CLOSE)
    begun = [] if is_letter else [each for each in bare if each.startswith(_bare(name) + "_")]
    if close or begun:
        return f"; did you mean {bare[min(begun, key=len) if begun else close[0]]}?"
    if len(names) <= MAX_NAMED:
        return f"; known are {', '.join(names)}"
    return f"; {help_command} lists all" if help_command else ""


def spelled(text: str, sources: Mapping[str, str]) -> str:
    """Return an error's sentence with its options named as in the place that they came from.

    Args:
        text: the sentence, with options as on the command line or as keywords.
        sources: the source of every option, by name, as in `Config.sources`.
    """
    begun = _BEGUN.match(text)
    if begun is not None and begun[1] in sources:
        text = f"--{text}"
    places = [sources[name] for token in _NAME.findall(text) if _is_place(sources.get(name := _bare(token), ""), name)]

    def place_of(found: re.Match[str]) -> str:
        name = _bare(found[0])
        if name not in sources:
            return found[0]
        own = sources[name]
        if _is_place(own, name):
            return found[0] if own in text else own
        # An option that is to be added goes where the others stand.
        if not places or places[0].startswith("--"):
            return "--" + name.replace("_", "-")
        return f"SE_SERVER_{name.upper()}" if places[0].startswith("SE_SERVER_") else name

    return _NAME.sub(place_of, text)


def _is_place(source: str, name: str) -> bool:
    flag = "--" + name.replace("_", "-")
    return source in (flag, f"SE_SERVER_{name.upper()}") or source.startswith(f"{name} in ")


def _bare(name: str) -> str:
    return name.lstrip("-").lower().replace("-", "_").removeprefix("se_server_")
