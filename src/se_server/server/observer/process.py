"""The observer's main function: one event loop with a web server, in a process of its own."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING

import uvloop

from se_server import __version__
from se_server.server.config.config import Config
from se_server.server.listen.admin import AdminSocket
from se_server.server.observer.app import Observer
from se_server.server.observer.deletion_cost import DeletionCost
from se_server.server.observer.figures import Figures
from se_server.server.observer.giving_way import lower_priority
from se_server.server.observer.recorder import make_recorder
from se_server.server.observer.watch import Watch
from se_server.server.observer.web import WebServer
from se_server.server.shared.control import ControlChannel
from se_server.server.shared.control_messages import Ask, Reply
from se_server.server.shared.exit_codes import EXIT_OK
from se_server.server.shared.logfile import LogFile
from se_server.server.shared.recording import Recording
from se_server.server.shared.scoreboard import Scoreboard

if TYPE_CHECKING:
    from se_server.server.observer.spans import TurnExporter

logger = logging.getLogger("se_server.server.observer")

SEND_S = 1.0


def run_observer(
    admin: AdminSocket | None,
    board: Scoreboard,
    channel: ControlChannel,
    config: Config,
    recording: Recording,
    *,
    control_path: str | None,
    log_file: LogFile | None = None,
) -> int:
    """Serve until SIGTERM, or until the supervisor is gone; called in the forked child.

    Args:
        admin: the listen sockets; None to serve nothing.
        board: the scoreboard of the workers.
        channel: the observer's end of its control channel.
        config: the options of the server.
        recording: the options of the recorder, with the size of a tape.
        control_path: the path of the control socket.
        log_file: the file that replaces stderr.

    Returns:
        The exit code.
    """
    lower_priority()
    recorder = make_recorder(recording, config.program.app, __version__, config.session.changed())
    exporter = _make_exporter(config)
    watch = Watch(board, recorder, exporter)
    figures = Figures(board, version=__version__, overflows=watch.overflows, exemplars=watch.exemplars)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    observer = Observer(figures.read, watch, control_path)
    cost = DeletionCost(figures.read) if admin is not None and admin.writes_deletion_cost else None
    loop.run_until_complete(_serve(admin, observer, channel, log_file, cost))
    watch.poll()  # the last worker has ended after the last reading
    if recorder is not None:
        recorder.close()
    if exporter is not None:
        exporter.close()
    return EXIT_OK


def _make_exporter(config: Config) -> TurnExporter | None:
    if not config.tracing.traces:
        return None
    # Imported here: the packages are optional.
    from se_server.server.observer.spans import TurnExporter

    return TurnExporter(config.program.app)


async def _serve(
    admin: AdminSocket | None,
    observer: Observer,
    channel: ControlChannel,
    log_file: LogFile | None,
    cost: DeletionCost | None = None,
) -> None:
    server = None if admin is None else _web_server(admin, observer)
    stopped = asyncio.Event()
    answers: set[asyncio.Task[None]] = set()

    def stop() -> None:
        observer.stop()
        stopped.set()
        if server is not None:
            server.should_exit = True

    async def answer(ask: Ask) -> None:
        try:
            rows = await observer.answer(ask.what, ask.about)
        except Exception as error:
            logger.exception("a bug of se-server's: %s was not carried out", ask.what)
            rows = [{"error": f"{ask.what} failed with {type(error).__name__}, see the server's log"}]
        channel.send(Reply(ask.ticket, rows), timeout_s=SEND_S)

    def receive() -> None:
        for message in channel.receive():
            if isinstance(message, Ask) and message.what == "reopen-log":
                if log_file is not None:
                    log_file.reopen()
            elif isinstance(message, Ask):
                task = loop.create_task(answer(message))
                answers.add(task)
                task.add_done_callback(answers.discard)
        if channel.ended:
            loop.remove_reader(channel.fileno())
            stop()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_reader(channel.fileno(), receive)
    tasks = [
        loop.create_task(observer.sample(), name="samples of the history"),
        loop.create_task(observer.watch(), name="reads the rings"),
    ]
    if cost is not None:
        tasks.append(loop.create_task(cost.run(), name="writes the deletion cost"))
    try:
        if server is not None and admin is not None:
            metrics = f"{admin.url}metrics" if admin.unix is None else "/metrics there"
            logger.info("the page for operators is at %s, metrics at %s", admin.url, metrics)
            await server.serve(sockets=list(admin.sockets))
        else:
            await stopped.wait()
    finally:
        for task in tasks:
            task.cancel()


def _web_server(admin: AdminSocket, observer: Observer) -> WebServer:
    app = observer.app(tokens=admin.tokens, is_local=admin.is_local, is_unix=admin.unix is not None, host=admin.host)
    return WebServer(app)
