"""All attacks: of strangers, of callers with a token, and of operators."""

from __future__ import annotations

from bench.attacks import callers, operators, strangers
from bench.attacks.registry import ALWAYS_TLS, REGISTERED

__all__ = ["ALWAYS_TLS", "ATTACKS", "OVER_TLS", "row_name"]

ATTACKS = {
    name: each
    for module in (strangers, callers, operators)
    for name, each in REGISTERED.items()
    if each.__module__ == module.__name__
}
OVER_TLS = [
    name
    for name, each in ATTACKS.items()
    if each.__module__ != operators.__name__ and name not in ALWAYS_TLS | {"silent connections", "descriptors"}
]
"""The attacks that TLS makes others: not those that never come to a handshake, and not those of operators."""


def row_name(name: str, *, tls: bool) -> str:
    """Return the name of an attack's row in the table."""
    return f"{name}, over TLS" if tls else name
