"""The process of the user's redactor: loads the function, and calls it with each text that comes.

It ends when the observer does, also while the function runs.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from se_server.errors import AppError
from se_server.server.config.importing import load_object
from se_server.server.observer.redactor import HEAD, MAX_BYTES, PROBLEM, READY, TEXT


def serve(descriptor: int) -> None:
    """Serve a socket until its other end is closed.

    Args:
        descriptor: that of the socket. The first text that comes is MODULE:FUNCTION or FILE.py:FUNCTION.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the observer still has recordings to write
    wire = socket.socket(fileno=descriptor)
    texts: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(wire, texts), daemon=True).start()
    function: object = None
    try:
        function = load_object(texts.get())
        problem = "" if callable(function) else "it is not a function"
    except AppError as error:
        problem = str(error).removeprefix("APP ")
    except BaseException as error:
        problem = f"importing it raised {type(error).__name__}"
    _send(wire, PROBLEM if problem else READY, problem)
    while callable(function):
        text = texts.get()
        try:
            result = function(text)
        except BaseException as error:  # also SystemExit: the next text may be another
            _send(wire, PROBLEM, f"raised {type(error).__name__}{_place_of(error)}")
            continue
        if not isinstance(result, str):
            _send(wire, PROBLEM, f"returned {type(result).__name__} in place of a text")
        elif len(result) > MAX_BYTES // 4:
            _send(wire, PROBLEM, "returned a text that is too long")
        else:
            _send(wire, TEXT, result)


def _place_of(error: BaseException) -> str:
    """Return the line of the user's code; the exception's own text may have what is private."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _end() -> NoReturn:
    """End this process, and those that the function started in its process group."""
    if os.getpgrp() == os.getpid():
        with suppress(OSError):
            os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _send(wire: socket.socket, kind: bytes, text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    try:
        wire.sendall(HEAD.pack(kind, len(data)) + data)
    except OSError:
        _end()


def _receive(wire: socket.socket, texts: queue.SimpleQueue[str]) -> None:
    while True:
        head = _read(wire, HEAD.size)
        texts.put(_read(wire, HEAD.unpack(head)[1]).decode("utf-8", "surrogatepass"))


def _read(wire: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        try:
            more = wire.recv(size - len(data))
        except OSError:
            more = b""
        if not more:
            _end()  # not an exception: the function may run, or block, in the main thread
        data += more
    return data
