"""`se-server --check`: check everything that can be checked without serving, and name the rest."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import ssl
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from se_server.cli.commands import fitted
from se_server.cli.playing import check_page
from se_server.cli.watch import check_watch
from se_server.conversation.handlers import HANDLER_NAMES
from se_server.errors import AppError
from se_server.server.config.app import App
from se_server.server.config.config import Config
from se_server.server.config.crashes import AppCrashed
from se_server.server.config.importing import load_object
from se_server.server.config.options import OPTIONS
from se_server.server.config.scripts import Script
from se_server.server.door.routes import KEY_VARIABLE
from se_server.server.listen.sockets import InUse
from se_server.server.shared.exit_codes import EXIT_BOOT, flush_streams
from se_server.server.shared.logfile import check_log_file
from se_server.server.supervisor.launch import checked, tls_of
from se_server.server.supervisor.places import Places
from se_server.server.worker.exit_hooks import end_with_parent
from se_server.server.worker.guests import check_script
from se_server.server.worker.loading import check_engines
from se_server.server.worker.preloading import preload
from se_server.signatures import signature_of
from se_server.spelling import counted

EXIT_KILLED = 3
SLOW_S, LIMIT_S = 10.0, 60.0
"""Seconds after which a check says that user code still runs, and after which it ends a program."""
LOOK_S = 0.02
_NAME_CHARS = 14
_SOON_S = 14 * 86400
_OK, _WARNING, _OPEN = "ok", "warn", "--"

_Place = TypeVar("_Place")


def check(config: Config, *, with_startup: bool = False) -> int:
    """Check the options, certificates, addresses and the APP, and print what was checked and what was not.

    User code runs in a child process, as in a worker: threads that it leaves running do not keep the command alive.

    Args:
        with_startup: whether `on_startup` and `on_shutdown` of the APP are run, too.

    Returns:
        The exit code: 0 if the configuration is valid, 2 without an API key, 3 if the APP cannot be loaded or started.

    Raises:
        ConfigError: a certificate, an address or a file cannot be used, as at a start.
    """
    config = checked(config)
    given = [
        KEY_VARIABLE if config.sources.get(option.name) == KEY_VARIABLE else option.flag
        for option in OPTIONS
        if config.was_given(option.name) and not option.positional
    ]
    lines = [(_OK, "options", f"{counted(len(given), 'option')} given" + (f": {', '.join(given)}" if given else ""))]
    lines += [(_WARNING, "options", doubt) for doubt in config.doubts()]
    lines += _certificate(config)
    lines += _places(config)
    if config.program.log_file is not None:
        check_log_file(config.program.log_file)
        lines.append((_OK, "log file", f"{config.program.log_file} can be written to"))
    flush_streams()
    done, is_done = os.pipe()
    pid = os.fork()
    if pid == 0:
        end_with_parent()
        code = EXIT_KILLED
        try:
            code = _check_app(config, lines, with_startup)
            os.write(is_done, b".")
        finally:
            flush_streams()
            os._exit(code)
    os.close(is_done)
    ended = _await_child(pid, Script.of(config.program.app))
    if ended is None:
        return EXIT_KILLED
    code = ended
    with open(done, "rb", buffering=0) as pipe:
        os.set_blocking(done, False)  # a process that the APP has left behind may hold the other end
        if pipe.read(1):
            return code
    how = f"was killed by signal {-code}" if code < 0 else f"ended the process with exit code {code}"
    print(f"se-server: loading the APP {how}", file=sys.stderr)
    return EXIT_KILLED


def _await_child(pid: int, script: Script | None) -> int | None:
    """Wait for the child that runs user code, and say so if that takes long; it ends with this process.

    Returns:
        The exit code; None for a program that was ended, because it has not come to `serve()`.
    """
    what = "the import of APP still runs" if script is None else f"{script.file} has not come to serve()"
    former = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGINT)}
    began = time.monotonic()
    report_s = SLOW_S
    code = None
    try:
        while code is None:
            found, status = os.waitpid(pid, os.WNOHANG)
            age_s = time.monotonic() - began
            if found:
                code = os.waitstatus_to_exitcode(status)
            elif script is not None and age_s >= LIMIT_S:
                print(f"se-server: {what} within {LIMIT_S:g} s", file=sys.stderr)
                break
            elif age_s >= report_s:
                print(f"se-server: {what} after {age_s:.0f} s", file=sys.stderr, flush=True)
                report_s *= 2
            else:
                time.sleep(LOOK_S)
    finally:
        if code is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for number, handler in former.items():
            signal.signal(number, handler)
    return code


def _leave(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _certificate(config: Config) -> list[tuple[str, str, str]]:
    listening = config.listening
    if tls_of(config) is None:
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


def _places(config: Config) -> list[tuple[str, str, str]]:
    """Open all that a start opens, and give it back. What is in use is no fault: a server there may be replaced."""
    lines = []

    def attempt(name: str, where: str, use: str, opener: Callable[[], _Place]) -> _Place | None:
        if name == "sockets":
            lines.append((_OPEN, name, f"{where}: they are those of the program that starts the server"))
            return None
        if name == "control socket" and not where:
            return None  # its default path is another one in each process
        if name == "address" and Script.of(config.program.app) is not None and not config.says_where():
            return None  # the program says where to listen, once it runs
        try:
            place = opener()
        except InUse:
            lines.append(
                (_WARNING, name, f"{where} is in use: only a reload or an upgrade of the server there can begin")
            )
            return None
        if where:
            lines.append((_OK, name, f"{where} can be {use}"))
        return place

    Places(config, attempt=attempt).give_back()
    if config.playground.playground:
        attempt("playground", f"port {config.playground.playground_port}", "listened on", lambda: check_page(config))
    if config.program.reload:
        check_watch(config.apps())
    return lines


def _check_app(config: Config, lines: list[tuple[str, str, str]], with_startup: bool) -> int:
    """Check the APP, in a child process, and print all results if it is valid."""
    script = Script.of(config.program.app)
    try:
        preload(config, lambda _: None)
    except AppError as error:
        sys.stderr.write(f"{error.details if isinstance(error, AppCrashed) else ''}se-server: {error}\n")
        return EXIT_BOOT
    if config.preload.preload:
        lines.append((_OK, "preload", f"{', '.join(config.preload.preload)}: imported, and nothing left behind"))
    if script is None:
        apps, details, problem, notice, code = check_engines(config)
    else:
        guests, details, problem, code = check_script(script, config)
        apps, notice = ((), "") if guests is None else ([guests.app], guests.notice)
        lines += [] if guests is None else [(_OK, "serves at", address) for address in guests.addresses]
    if apps:
        try:
            if config.recording.record_redactor is not None:
                _check_redactor(config.recording.record_redactor)
            for app in apps if with_startup else ():
                _start_and_stop(app, config)
        except AppError as error:
            details, problem, code = (error.details if isinstance(error, AppCrashed) else ""), str(error), EXIT_BOOT
    if problem:
        sys.stderr.write(f"{details}se-server: {problem}\n")
        return code
    if notice:
        sys.stderr.write(f"se-server: {notice}\n")
    named = [app.title for app in apps] if config.apps() else ["the demo agent"]
    for app, name in zip(apps, named, strict=True):
        lines += _app_lines(app, name, with_startup)
    lines.append((_OPEN, "not checked", "the handlers, and the way from ElevenLabs: se-doctor does, once it serves"))
    shown = counted(len(config.routes), "route") if config.routes else named[0]
    for state, what, text in lines:
        print(fitted(f"{state:<5}{what:<{_NAME_CHARS}} {text}", sys.stdout, indent=" " * (6 + _NAME_CHARS)))
    print(f"se-server: the configuration and {shown} are valid")
    return 0


def _check_redactor(spec: str) -> None:
    """Check the function that the recorder loads in its own process.

    Raises:
        AppError: there is none.
    """
    try:
        found = load_object(spec)
    except AppError as error:
        error.args = (f"--record-redactor: {str(error).removeprefix('APP ')}",)
        raise
    if not callable(found):
        raise AppError(f"--record-redactor: {spec!r} is not a function")
    if inspect.iscoroutinefunction(found):
        raise AppError(f"--record-redactor: {spec!r} is a coroutine function: write def in place of async def")
    try:
        signature_of(found).bind("a text")
    except TypeError:
        raise AppError(f"--record-redactor: {spec!r} cannot be called with one argument, the text") from None
    except ValueError:
        return  # a function in C without a signature


def _app_lines(app: App, name: str, with_startup: bool) -> list[tuple[str, str, str]]:
    named = [handler for handler in HANDLER_NAMES if getattr(app.handlers, handler) is not None]
    handlers = ", ".join(named) or "its own handle_connection"
    lines = [(_OK, "agent", f"{name} is loaded, with {handlers}")]
    if app.on_startup is not None or app.on_shutdown is not None:
        hooks = "on_startup and on_shutdown"
        ran = (_OK, "startup", f"{hooks} ran")
        lines.append(ran if with_startup else (_OPEN, "not checked", f"{hooks}: --check=startup runs them"))
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
            raise AppCrashed.of(f"{app.title}: {hook}", error) from None


async def _call(function: Callable[[], Any] | None) -> None:
    if function is not None:
        result = function()
        if inspect.isawaitable(result):
            await result
