"""Readers of the values that only the server's options have; `se_server.options` says what a reader is."""

from __future__ import annotations

import math
import os
import re
from ipaddress import ip_network
from urllib.parse import quote

from se_server.options import integer, one_of, text
from se_server.server.door.access import UNIX, Networks, RequiredHeader
from se_server.server.door.handshake import OWN_PATHS
from se_server.server.shared.seats import MAX_WORKERS

_HEADER_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)

log_level = one_of("debug", "info", "warning", "error")
log_format = one_of("text", "json")


def count(raw: object) -> int:
    """Read a number of workers."""
    return integer(raw, 1, MAX_WORKERS, f"a whole number from 1 to {MAX_WORKERS}")


def port(raw: object) -> int:
    """Read a TCP port; 0 asks for a free one."""
    return integer(raw, 0, 65535, "a port from 0 to 65535")


def descriptors(raw: object) -> tuple[int, ...]:
    """Read descriptors of open sockets: one number or several."""
    expected = "the number of an open descriptor, such as 3, or several"
    found = raw if isinstance(raw, list | tuple) else [raw]
    return tuple(integer(item, 3, 2**20, expected) for item in found)


def host(raw: object) -> str | None:
    """Read an address or host name; `*` or nothing means all interfaces, as None does."""
    if raw in ("", "*"):
        return None
    name = text(raw)
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    if any(character.isspace() or character in "/@" for character in name):
        raise ValueError("an address or a host name, such as 127.0.0.1 or ::1")
    return name


def path(raw: object) -> str:
    """Read the path of a URL."""
    expected = "a path that starts with a slash, such as /ws, without a query"
    if isinstance(raw, str) and not raw.isascii():
        # Requests come so, and are compared as they come.
        raise ValueError(f"other letters than ASCII percent-encoded, as in {quote(raw, safe='/%', errors='replace')}")
    if not isinstance(raw, str) or not raw.startswith("/"):
        raise ValueError(expected)
    if raw in OWN_PATHS:
        raise ValueError(f"another path, such as /ws, because {raw} answers health checks")
    if any(character.isspace() or character in "?#" or not character.isprintable() for character in raw):
        raise ValueError(expected)
    return raw


def keys(raw: object) -> tuple[str, ...]:
    """Read API keys: one text with commas between them, or several texts."""
    texts = [raw] if isinstance(raw, str) else raw
    if not isinstance(texts, list | tuple) or not all(isinstance(item, str) for item in texts):
        raise ValueError("a key, or several with commas between them")
    found = tuple(key.strip() for item in texts for key in item.split(",") if key.strip())
    if not found or any(not key.isprintable() or " " in key for key in found):
        raise ValueError("a key without blanks, or several with commas between them")
    return tuple(dict.fromkeys(found))


def networks(raw: object) -> Networks:
    """Read addresses and blocks of addresses: one text with commas between them, or several texts."""
    expected = "addresses or blocks of them with commas between them, such as 10.0.0.0/8,2001:db8::1"
    texts = [raw] if isinstance(raw, str) else raw
    if not isinstance(texts, list | tuple) or not all(isinstance(item, str) for item in texts):
        raise ValueError(expected)
    words = [word.strip() for item in texts for word in item.split(",") if word.strip()]
    if not words or UNIX in words:
        raise ValueError(expected)
    try:
        return Networks(tuple(ip_network(word) for word in words))
    except ValueError as error:
        wrong = str(error)
        raise ValueError(f"{expected} ({wrong})") from None


def proxies(raw: object) -> Networks:
    """Read as `networks` does; the word `unix` stands for whoever connects by the Unix socket."""
    texts = [raw] if isinstance(raw, str) else raw
    if not isinstance(texts, list | tuple) or not all(isinstance(item, str) for item in texts):
        return networks(raw)
    words = [word.strip() for item in texts for word in item.split(",")]
    others = [word for word in words if word.lower() != UNIX]
    if len(others) == len(words):
        return networks(raw)
    return Networks(networks(others).blocks if any(others) else (), unix=True)


def required_header(raw: object) -> RequiredHeader:
    """Read NAME=VALUE."""
    name, _, value = raw.partition("=") if isinstance(raw, str) else ("", "", "")
    name, value = name.strip(), value.strip()
    printable = value.isprintable() and value.isascii()
    if not _HEADER_NAME.fullmatch(name) or not value or not printable:
        raise ValueError("NAME=VALUE, the name of a header and its value in printable ASCII")
    return RequiredHeader(name, value.encode())


def usable_cpus() -> int:
    """Count the CPUs this process may use: its affinity, bounded by the quota of its control group.

    The quota is that of the group visible as root: the container's own, under Docker and Kubernetes.
    """
    if hasattr(os, "process_cpu_count"):  # Python 3.13: affinity, and -X cpu_count
        cpus = os.process_cpu_count() or 1
    elif hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    quota = _cpu_quota()
    return max(1, min(cpus, math.ceil(quota))) if quota else max(1, cpus)


def _cpu_quota(root: str = "/sys/fs/cgroup") -> float | None:
    """Read how many CPUs' worth of time the control group may use; None if it is not limited."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        words: list[str] = []
        try:
            for name in names:
                with open(f"{root}/{name}", encoding="ascii") as file:
                    words += file.read().split()
            quota, period = float(words[0]), float(words[1])
        except (OSError, ValueError, IndexError):  # another version of control groups, none, or "max"
            continue
        if quota > 0 and period > 0:
            return quota / period
    return None
