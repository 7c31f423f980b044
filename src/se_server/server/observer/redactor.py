"""The user's own redactor, in a process of its own: it may raise, block, or end its process, and harms nothing else."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import OrderedDict
from contextlib import suppress

logger = logging.getLogger("se_server.server.observer")

LOAD_S = 30.0
"""The time that the function's module may take to be imported."""
TEXT_S = 2.0
"""The time that the function may take for a text."""
STRIKES, STRIKES_S, PAUSE_S = 2, 60.0, 30.0
"""So many texts within this time at which the process is killed or ends are followed by a pause: all are withheld."""
MAX_BYTES = 8 * 1024 * 1024
KEPT = 2048
"""Results that are kept: each transcript repeats those before it."""
KEPT_CHARACTERS = 2_000
HEAD = struct.Struct("!cI")
TEXT, PROBLEM, READY = b"t", b"p", b"r"
# The working directory leaves the path first: a file there may have the name of a module of Python.
_PROGRAM = """
import sys
if sys.path[:1] == [""]:
    del sys.path[0]
import json
sys.path[:] = json.loads(sys.argv[2])
from se_server.server.observer.redactor_process import serve
serve(int(sys.argv[1]))
"""


class Withheld(Exception):
    """A text is not recorded, since the user's function did not return it."""


class OwnRedactor:
    """Calls the user's function for each text; used by one thread.

    Args:
        spec: MODULE:FUNCTION or FILE.py:FUNCTION.
    """

    def __init__(self, spec: str) -> None:
        self._spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._wire: socket.socket | None = None
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._named: set[str] = set()
        self._strikes: list[float] = []
        self._paused_until = 0.0
        self._is_unusable = False

    def __call__(self, text: str) -> str:
        """Return a text without what is private.

        Raises:
            Withheld: the function raised, took too long, or returned no text; the first time of each is logged.
        """
        if (known := self._kept.get(text)) is not None:
            self._kept.move_to_end(text)
            return known
        if self._is_unusable or time.monotonic() < self._paused_until:
            raise Withheld
        self.start()
        kind, answer = self._ask(text)
        if kind != TEXT:
            self._fail(answer)
        if len(text) <= KEPT_CHARACTERS:
            self._kept[text] = answer
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return answer

    def forget(self) -> None:
        """Forget the texts that were seen."""
        self._kept.clear()

    def start(self) -> None:
        """Start the process, and wait until it has loaded the function.

        Raises:
            Withheld: it cannot be loaded.
        """
        if self._wire is not None:
            return
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), json.dumps(sys.path)]
        with theirs:
            try:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
                )
            except OSError as error:
                ours.close()
                self._fail(f"cannot be started ({error.strerror})")
        self._wire = ours
        try:
            self._send(TEXT, self._spec)
            kind, answer = self._receive(LOAD_S)
        except TimeoutError:
            kind, answer = PROBLEM, f"takes longer than {LOAD_S:g} s to load"
        except OSError:
            kind, answer = PROBLEM, "ended its process while it was loaded"
        if kind != READY:
            self._is_unusable = True
            self.close()
            self._fail(f"cannot be used: {answer}")

    @property
    def spec(self) -> str:
        """The function, as the option names it."""
        return self._spec

    def close(self) -> None:
        """End the process, and those that the function started in its process group."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        if self._process is not None:
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def give_up(self) -> None:
        """Withhold all texts that are left, also the one that the function has; called from another thread."""
        self._is_unusable = True
        if (process := self._process) is not None:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)

    def _ask(self, text: str) -> tuple[bytes, str]:
        try:
            self._send(TEXT, text)
            return self._receive(TEXT_S)
        except TimeoutError:
            problem = f"took longer than {TEXT_S:g} s"
        except OSError:
            problem = "ended its process"
        self.close()
        now = time.monotonic()
        self._strikes = [at for at in self._strikes if now - at < STRIKES_S] + [now]
        if len(self._strikes) >= STRIKES:
            self._paused_until = now + PAUSE_S
        return PROBLEM, problem

    def _fail(self, problem: str) -> None:
        if problem not in self._named and len(self._named) < 100:
            self._named.add(problem)
            rest = "every text is withheld" if self._is_unusable else "such texts are withheld, and this is logged once"
            logger.error("--record-redactor %s %s: %s", self._spec, problem, rest)
        raise Withheld

    def _send(self, kind: bytes, text: str) -> None:
        assert self._wire is not None
        data = text.encode("utf-8", "surrogatepass")
        self._wire.settimeout(TEXT_S)
        self._wire.sendall(HEAD.pack(kind, len(data)) + data)

    def _receive(self, timeout_s: float) -> tuple[bytes, str]:
        due = time.monotonic() + timeout_s
        kind, size = HEAD.unpack(self._read(HEAD.size, due))
        if size > MAX_BYTES:
            raise ConnectionError
        return kind, self._read(size, due).decode("utf-8", "surrogatepass")

    def _read(self, size: int, due: float) -> bytes:
        assert self._wire is not None
        data = b""
        while len(data) < size:
            left_s = due - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._wire.settimeout(left_s)
            with suppress(InterruptedError):
                more = self._wire.recv(min(size - len(data), 65536))
                if not more:
                    raise ConnectionError
                data += more
        return data
