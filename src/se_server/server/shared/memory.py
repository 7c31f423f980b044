"""Memory that processes share through a descriptor."""

from __future__ import annotations

import os
import tempfile


def nameless_file(name: str, size_bytes: int) -> int:
    """Return the descriptor of a file in no directory, of which a page takes memory once it is written to.

    Args:
        name: shown in /proc, where the system has such files in memory.
        size_bytes: its size.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create(f"se-server {name}")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size_bytes)
    return descriptor
