from typing import final

from se_server.conversation._listener import Connection, SocketOutbox
from se_server.telemetry._clock import Clock
from se_server.telemetry._tape import Tape

@final
class RecordedOutbox(SocketOutbox):
    """Messages that are put on the tape of a recorded conversation as they are sent."""

@final
class RecordedConnection(Connection):
    """A connection whose messages are recorded."""

    def record(self, tape: Tape, number: int, clock: Clock) -> None:
        """Put what arrives and what is sent on a tape from now on."""
