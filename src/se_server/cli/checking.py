"""`se-server --check`: check everything that can be checked without serving, and name the rest."""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import ssl
import sys
import time
from collections.abc import Callable
from typing import Any

from se_server.conversation.handlers import HANDLER_NAMES
from se_server.errors import AppError, ConfigError
from se_server.server.config.app import App, AppCrashed
from se_server.server.config.config import Config
from se_server.server.config.options import OPTIONS
from se_server.server.config.scripts import Script
from se_server.server.listen.admin import open_admin
from se_server.server.listen.sockets import bind
from se_server.server.listen.tls import make_context
from se_server.server.listen.uds import UnixListenSocket
from se_server.server.shared.exit_codes import EXIT_BOOT, flush_streams
from se_server.server.shared.logfile import check_log_file
from se_server.server.supervisor.launch import check_listening
from se_server.server.worker.guests import check_script
from se_server.server.worker.loading import check_app
from se_server.spelling import counted

EXIT_KILLED = 3
_NAME_CHARS = 14
_SOON_S = 14 * 86400
_OK, _WARNING, _OPEN = "ok", "warn", "--"


def check(config: Config, *, with_startup: bool = False) -> int:
    """Check the options, certificates, addresses and the APP, and print what was checked and what was not.

    User code runs in a child process, as in a worker: threads that it leaves running do not keep the command alive.

    Args:
        with_startup: whether `on_startup` and `on_shutdown` of the APP are run, too.

    Returns:
        The exit code: 0 if the configuration is valid, 2 without an API key, 3 if the APP cannot be loaded or started.

    Raises:
        ConfigError: a certificate, an address or the log file cannot be used.
    """
    given = [option.flag for option in OPTIONS if config.was_given(option.name) and not option.positional]
    lines = [(_OK, "options", f"{counted(len(given), 'option')} given" + (f": {', '.join(given)}" if given else ""))]
    lines += _certificate(config)
    lines += _addresses(config)
    if config.program.log_file is not None:
        check_log_file(config.program.log_file)
        lines.append((_OK, "log file", f"{config.program.log_file} can be written to"))
    flush_streams()
    done, is_done = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = EXIT_KILLED
        try:
            code = _check_app(config, lines, with_startup)
            os.write(is_done, b".")
        finally:
            flush_streams()
            os._exit(code)
    os.close(is_done)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with open(done, "rb", buffering=0) as pipe:
        os.set_blocking(done, False)  # a process that the APP has left behind may hold the other end
        if pipe.read(1):
            return code
    how = f"was killed by signal {-code}" if code < 0 else f"ended the process with exit code {code}"
    print(f"se-server: loading the APP {how}", file=sys.stderr)
    return EXIT_KILLED


def _certificate(config: Config) -> list[tuple[str, str, str]]:
    listening = config.listening
    if make_context(listening.certfile, listening.keyfile, listening.ca_certs) is None:
        return []
    left_s = _seconds_left(str(listening.certfile))
    if left_s is None:
        return [(_OK, "certificate", f"{listening.certfile} and its key belong together")]
    days = counted(int(abs(left_s) / 86400), "day")
    if left_s < 0:
        return [(_WARNING, "certificate", f"{listening.certfile} has expired {days} ago: renew it")]
    state = _WARNING if left_s < _SOON_S else _OK
    return [(state, "certificate", f"{listening.certfile} and its key belong together; it expires in {days}")]


def _seconds_left(certfile: str) -> float | None:
    try:
        found = ssl._ssl._test_decode_cert(certfile)  # type: ignore[attr-defined]  # nothing public reads a file
        return ssl.cert_time_to_seconds(found["notAfter"]) - time.time()
    except Exception:  # another version of Python may lack it
        return None


def _addresses(config: Config) -> list[tuple[str, str, str]]:
    """Bind each address and give it back. One in use is no fault: the server that runs may be the one to replace."""
    check_listening(config)
    listening, lines = config.listening, []
    if listening.fd:
        lines.append((_OPEN, "address", "--fd: the sockets are those of the program that starts the server"))
    elif Script.of(config.program.app) is not None and not config.says_where():
        pass  # the program says where to listen, once it runs
    elif config.wants_port():
        lines.append(_port(listening.host, listening.port))
    if listening.uds is not None:
        path = listening.uds

        def bind_unix() -> None:
            unix = UnixListenSocket(path, group=listening.uds_group)
            unix.socket.close()
            unix.remove()

        lines.append(_bound("Unix socket", path, bind_unix))
    if config.admin.admin is not None:

        def bind_admin() -> None:
            opened = open_admin(config.admin)
            if opened is not None:
                opened.close()
                opened.remove()

        lines.append(_bound("admin", config.admin.admin, bind_admin))
    return lines


def _port(host: str | None, port: int) -> tuple[str, str, str]:
    def bind_port() -> None:
        for sock in bind(host, port):
            sock.close()

    return _bound("address", f"{host or 'all interfaces'}, port {port}", bind_port)


def _bound(name: str, where: str, open_and_close: Callable[[], None]) -> tuple[str, str, str]:
    try:
        open_and_close()
    except ConfigError as error:
        cause = error.__cause__ or error.__context__
        in_use = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
        if in_use or "already in use" in str(error):
            return _WARNING, name, f"{where} is in use: only a reload or an upgrade of the server there can begin"
        raise
    return _OK, name, f"{where} can be listened on"


def _check_app(config: Config, lines: list[tuple[str, str, str]], with_startup: bool) -> int:
    """Check the APP, in a child process, and print all results if it is valid."""
    script = Script.of(config.program.app)
    if script is None:
        app, details, problem, notice, code = check_app(config)
    else:
        guests, details, problem, code = check_script(script, config)
        app, notice = (None, "") if guests is None else (guests.app, guests.notice)
        lines += [] if guests is None else [(_OK, "serves at", address) for address in guests.addresses]
    if app is not None and with_startup:
        try:
            _start_and_stop(app, config)
        except AppError as error:
            details, problem, code = (error.details if isinstance(error, AppCrashed) else ""), str(error), EXIT_BOOT
    if problem or app is None:
        sys.stderr.write(f"{details}se-server: {problem}\n")
        return code
    if notice:
        sys.stderr.write(f"se-server: {notice}\n")
    name = "the demo agent" if config.program.app is None else f"APP {config.program.app!r}"
    lines += _app_lines(app, name, with_startup)
    for state, what, text in lines:
        print(f"{state:<5}{what:<{_NAME_CHARS}} {text}")
    print(f"se-server: the configuration and {name} are valid")
    return 0


def _app_lines(app: App, name: str, with_startup: bool) -> list[tuple[str, str, str]]:
    named = [handler for handler in HANDLER_NAMES if getattr(app.handlers, handler) is not None]
    handlers = ", ".join(named) or "its own handle_connection"
    lines = [(_OK, "agent", f"{name} is loaded, with {handlers}")]
    if app.on_startup is not None or app.on_shutdown is not None:
        hooks = "on_startup and on_shutdown"
        ran = (_OK, "startup", f"{hooks} ran")
        lines.append(ran if with_startup else (_OPEN, "not checked", f"{hooks}: --check=startup runs them"))
    lines.append((_OPEN, "not checked", "the handlers, and the way from ElevenLabs: se-doctor does, once it serves"))
    return lines


def _start_and_stop(app: App, config: Config) -> None:
    """Run `on_startup` and `on_shutdown` on a loop of the kind that the workers have.

    Raises:
        AppCrashed: one of them failed.
    """
    if config.program.loop == "uvloop":
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    for hook in ("on_startup", "on_shutdown"):
        try:
            loop.run_until_complete(_call(getattr(app, hook)))
        except BaseException as error:
            raise AppCrashed.of(f"APP {app.name!r}: {hook}", error) from None


async def _call(function: Callable[[], Any] | None) -> None:
    if function is not None:
        result = function()
        if inspect.isawaitable(result):
            await result
