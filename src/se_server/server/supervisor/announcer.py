"""`Announcer`: receives the events in a supervisor's life that users and service managers see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Announcer(Protocol):
    """Reports the state of the server to the terminal and to the service manager."""

    def ready(self, workers: int, path: str, addresses: Sequence[str]) -> None:
        """Report that all workers are ready, once.

        Args:
            path: the path of conversations; empty allows any.
            addresses: the URLs of a program's servers; none for an APP, which serves at the server's address.
        """

    def failed(self, reason: str, details: str) -> None:
        """Report that the server cannot start: one sentence, and the traceback of user code or an empty string."""

    def reloading(self) -> None:
        """Report that a reload begins."""

    def reloaded(self) -> None:
        """Report that the reload is over, successful or not."""

    def handed_over(self, pid: int) -> None:
        """Report that another supervisor serves now."""

    def upgrade_failed(self) -> None:
        """Report that another supervisor has ended before it served: this one goes on."""

    def stopping(self) -> None:
        """Report that the server takes no new conversations."""

    def alive(self) -> None:
        """Report that the supervisor's loop runs; called at least every `alive_s`."""

    @property
    def alive_s(self) -> float | None:
        """The longest interval between two calls of `alive`, in seconds; None to never call it."""
