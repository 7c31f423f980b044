"""Questions of `se-ctl` that only the observer can answer."""

from __future__ import annotations

import time

from se_server.server.shared.control_messages import Ask, Reply
from se_server.server.supervisor.control_socket import Client
from se_server.server.supervisor.observer_process import ObserverProcess
from se_server.server.supervisor.orders import Order

ANSWER_S = 5.0
MAX_TURNS = 200


class ObserverQuestions:
    """Passes questions on to the observer, and its replies to those who asked.

    Args:
        observer: the observer; None if the server has none.
    """

    def __init__(self, observer: ObserverProcess | None) -> None:
        self._observer = observer
        self._waiting: dict[int, tuple[Client, float, list[object]]] = {}
        self._asked = 0

    def orders(self) -> dict[str, Order]:
        """Return the orders that the observer carries out, by name."""
        return {"turns": self._turns, "record": self._record, "forget": self._forget}

    def _turns(self, client: Client, given: object) -> dict[str, object] | None:
        """Ask for the turns whose first text took longest."""
        if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= MAX_TURNS:
            return {"error": f"turns takes a number from 1 to {MAX_TURNS}"}
        return self._ask(
            client, "turns", str(given), "this server keeps no turns: start it with --admin 127.0.0.1:9100"
        )

    def _record(self, client: Client, given: object) -> dict[str, object] | None:
        """Ask for a recording of a conversation."""
        return self._ask_about(client, "record", given)

    def _forget(self, client: Client, given: object) -> dict[str, object] | None:
        """Ask for the removal of all that is kept of a conversation."""
        return self._ask_about(client, "forget", given)

    def _ask_about(self, client: Client, what: str, given: object) -> dict[str, object] | None:
        if not isinstance(given, str) or not given:
            return {"error": f"{what} takes the id of a conversation: se-ctl conversations lists them"}
        return self._ask(
            client, what, given, "this server records nothing: start it with --record redacted --record-dir DIR"
        )

    def _ask(self, client: Client, what: str, about: str, without: str) -> dict[str, object] | None:
        """Ask the observer; return an error if nobody will answer."""
        if self._observer is None:
            return {"error": without}
        self._asked += 1
        if not self._observer.ask(Ask(self._asked, what, about)):
            return {"error": "the observer is starting: try again"}
        self._waiting[self._asked] = (client, time.monotonic() + ANSWER_S, [])
        return None

    def serve(self) -> None:
        """Answer those whose replies have come, or whose time is up."""
        for message in () if self._observer is None else self._observer.receive():
            if isinstance(message, Reply) and message.ticket in self._waiting:
                client, _, rows = self._waiting[message.ticket]
                rows += message.rows
                if not message.more:
                    del self._waiting[message.ticket]
                    refused = [row["error"] for row in rows if isinstance(row, dict) and "error" in row]
                    client.answer({"error": refused[0]} if refused else {"rows": rows})
        now = time.monotonic()
        for ticket, (client, due, _) in list(self._waiting.items()):
            if due <= now or client.closed:
                del self._waiting[ticket]
                client.answer({"error": "the observer does not answer: try again"})

    def next_due(self) -> list[float]:
        """Return the times at which `serve` has to run, in monotonic seconds."""
        return [due for _, due, _ in self._waiting.values()]
