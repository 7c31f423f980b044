"""Whether `se-server` imports its APP right now: a program that serves by itself would never end its import."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_state = {"is_loading": False}


@contextmanager
def loading() -> Iterator[None]:
    """Import an APP in this block."""
    _state["is_loading"] = True
    try:
        yield
    finally:
        _state["is_loading"] = False


def refuse_to_serve() -> None:
    """Refuse to serve while `se-server` imports the program.

    Raises:
        RuntimeError: it does; one sentence with the way out.
    """
    if _state["is_loading"]:
        raise RuntimeError(
            "serve() was called while se-server imports this file, which serves it itself: put the call behind"
            ' `if __name__ == "__main__":`'
        )
