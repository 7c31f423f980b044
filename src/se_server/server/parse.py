"""Readers of option values: from text, or a TOML value, to a checked value.

Each raises ValueError with what it wants, worded to follow "expected".
"""

from __future__ import annotations

import math
import os
import re
from ipaddress import ip_network
from urllib.parse import quote

from se_server.server.access import UNIX, Networks, RequiredHeader
from se_server.server.handshake import HEALTH_PATH

_UNITS = {"": 1, "b": 1, "k": 1024, "kib": 1024, "m": 1024**2, "mib": 1024**2, "g": 1024**3, "gib": 1024**3}
_UNITS |= {"kb": 1000, "mb": 1000**2, "gb": 1000**3}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
_FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_LEVELS = ("debug", "info", "warning", "error")
_HEADER_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
MAX_WORKERS = 1024
MIN_MESSAGE_BYTES = 1024


def text(raw: object) -> str:
    """Read a text that is not empty."""
    if not isinstance(raw, str) or not raw.strip():
        raise ValueError("a text")
    return raw.strip()


def _integer(raw: object, low: int, high: int, expected: str) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int | str):
        raise ValueError(expected)
    digits = str(raw).strip()
    # isdecimal alone lets digits of other scripts pass; int() would take "1_000", and refuses very many.
    if not (digits.isascii() and digits.isdecimal()):
        raise ValueError(expected)
    value = int(digits.lstrip("0")[:12] or "0")
    if not low <= value <= high:
        raise ValueError(expected)
    return value


def count(raw: object) -> int:
    """Read a number of workers."""
    return _integer(raw, 1, MAX_WORKERS, f"a whole number from 1 to {MAX_WORKERS}")


def port(raw: object) -> int:
    """Read a TCP port; 0 asks for a free one."""
    return _integer(raw, 0, 65535, "a port from 0 to 65535")


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
    if raw == HEALTH_PATH:
        raise ValueError(f"another path, such as /ws, because {HEALTH_PATH} answers health checks")
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


def flag(raw: object) -> bool:
    """Read a yes or no."""
    if isinstance(raw, bool):
        return raw
    value = _FLAGS.get(raw.strip().lower()) if isinstance(raw, str) else None
    if value is None:
        raise ValueError("true or false")
    return value


def log_level(raw: object) -> str:
    """Read a log level, in any case."""
    level = raw.strip().lower() if isinstance(raw, str) else ""
    if level not in _LEVELS:
        raise ValueError(f"one of {', '.join(_LEVELS)}")
    return level


def size(raw: object) -> int:
    """Read the size of a message in bytes: a whole number, or one with a unit."""
    expected = f"a size of at least {MIN_MESSAGE_BYTES}, such as 65536, 64KiB or 1MiB"
    if isinstance(raw, bool) or not isinstance(raw, int | str):
        raise ValueError(expected)
    match = _SIZE.fullmatch(str(raw).strip())
    unit = _UNITS.get(match.group(2).lower()) if match else None
    if match is None or unit is None:
        raise ValueError(expected)
    value = float(match.group(1)) * unit
    # picows counts payloads in a signed 32-bit number.
    if value >= 2**31:
        raise ValueError(expected + ", below 2GiB")
    if value != int(value) or value < MIN_MESSAGE_BYTES:
        raise ValueError(expected)
    return int(value)


def _seconds(raw: object, expected: str) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise ValueError(expected)
    try:
        value = float(raw)
    except ValueError:
        raise ValueError(expected) from None
    if not math.isfinite(value) or value < 0:
        raise ValueError(expected)
    return value


def duration(raw: object) -> float:
    """Read a time in seconds, 0 included."""
    return _seconds(raw, "a number of seconds, such as 30 or 0.5")


def interval(raw: object) -> float:
    """Read a time in seconds above 0."""
    expected = "a number of seconds above 0, such as 20 or 0.5"
    value = _seconds(raw, expected)
    if value == 0:
        raise ValueError(expected)
    return value


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
