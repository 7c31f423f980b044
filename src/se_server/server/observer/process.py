"""The observer's main function: one event loop with a web server, in a process of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
import uvloop

from se_server import __version__
from se_server.server.listen.admin import AdminSocket
from se_server.server.observer.app import Observer
from se_server.server.observer.connections import Connection
from se_server.server.observer.deletion_cost import DeletionCost
from se_server.server.observer.figures import Figures
from se_server.server.observer.watch import Watch
from se_server.server.shared.control import Ask, ControlChannel, Reply
from se_server.server.shared.exit_codes import EXIT_OK
from se_server.server.shared.logfile import LogFile
from se_server.server.shared.scoreboard import Scoreboard

logger = logging.getLogger("se_server.server.observer")

CLOSE_S = 1
SEND_S = 1.0


class _WebServer(uvicorn.Server):
    """A web server that leaves signals to the observer: Ctrl-C in a terminal is for the supervisor."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run_observer(
    admin: AdminSocket,
    board: Scoreboard,
    channel: ControlChannel,
    *,
    control_path: str | None,
    log_file: LogFile | None = None,
) -> int:
    """Serve until SIGTERM, or until the supervisor is gone; called in the forked child.

    Args:
        admin: the listen sockets.
        board: the scoreboard of the workers.
        channel: the observer's end of its control channel.
        control_path: the path of the control socket.
        log_file: the file that replaces stderr.

    Returns:
        The exit code.
    """
    with suppress(OSError):
        os.nice(5)  # conversations come first
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # its warnings are of requests: a peer decides how many
    watch = Watch(board)
    figures = Figures(board, version=__version__, overflows=watch.overflows, exemplars=watch.exemplars)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    observer = Observer(figures.read, watch, control_path)
    cost = DeletionCost(figures.read) if admin.writes_deletion_cost else None
    loop.run_until_complete(_serve(admin, observer, channel, log_file, cost))
    return EXIT_OK


async def _serve(
    admin: AdminSocket,
    observer: Observer,
    channel: ControlChannel,
    log_file: LogFile | None,
    cost: DeletionCost | None = None,
) -> None:
    app = observer.app(tokens=admin.tokens, is_local=admin.is_local, is_unix=admin.unix is not None, host=admin.host)
    server = _WebServer(
        uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=CLOSE_S,
        )
    )

    def stop() -> None:
        observer.stop()
        server.should_exit = True

    def receive() -> None:
        for message in channel.receive():
            if isinstance(message, Ask) and message.what == "reopen-log" and log_file is not None:
                log_file.reopen()
            elif isinstance(message, Ask) and message.what == "turns":
                channel.send(Reply(message.ticket, observer.slowest(int(message.about))), timeout_s=SEND_S)
        if channel.ended:
            loop.remove_reader(channel.fileno())
            stop()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_reader(channel.fileno(), receive)
    logger.info("the page for operators is at %s, metrics at %smetrics", admin.url, admin.url)
    tasks = [
        loop.create_task(observer.sample(), name="samples of the history"),
        loop.create_task(observer.watch(), name="reads the rings"),
    ]
    if cost is not None:
        tasks.append(loop.create_task(cost.run(), name="writes the deletion cost"))
    try:
        await server.serve(sockets=list(admin.sockets))
    finally:
        for task in tasks:
            task.cancel()
