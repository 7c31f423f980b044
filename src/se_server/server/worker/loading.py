"""The APP of a worker: loading it with its key, and the report of one that cannot be loaded."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from se_server.conversation.route import Route
from se_server.errors import AppError, ConfigError, KeyMissing
from se_server.server.config.app import App, AppCrashed, app_of, load_app
from se_server.server.config.config import LISTENING, Config, complete, find_keys
from se_server.server.config.options import BY_NAME
from se_server.server.config.scripts import Script, Serving
from se_server.server.door.routes import KEY_VARIABLE, RouteTable
from se_server.server.shared.control import ControlChannel, Failed
from se_server.server.shared.exit_codes import EXIT_BOOT, EXIT_OK, EXIT_USAGE
from se_server.server.shared.tracing import Tracing
from se_server.server.worker.script import run_script
from se_server.server.worker.watchdog import SEND_TIMEOUT_S
from se_server.telemetry._ring import Ring

MAX_REASON, MAX_DETAILS = 4_000, 64_000  # characters; they fit into one control message


def check_app(config: Config) -> tuple[App | None, str, str, str, int]:
    """Load the APP and make its door as a worker does, without opening it.

    Returns:
        The APP, None if it cannot be used; the traceback of user code, one sentence on the problem, and a notice for
        the operator, each of which may be empty; and the exit code.
    """
    script = Script.of(config.program.app)
    if script is not None:
        return _check_script(script, config)
    try:
        app = load(config)
        completed, late = complete(config, app.options)
        routes(completed, app)
    except (AppError, ConfigError) as error:
        return None, (error.details if isinstance(error, AppCrashed) else ""), str(error), "", _code_of(error)
    return app, "", "", notice(app, late), EXIT_OK


@dataclass(frozen=True)
class Guests:
    """The servers of a program, as a worker serves them.

    Attributes:
        app: the first server; its name is the program's.
        config: the options, completed with those of the first server.
        routes: a route for each server.
        notice: sentences for the operator, or empty.
    """

    app: App
    config: Config
    routes: RouteTable
    notice: str


def guests_of(servings: Sequence[Serving], script: Script, config: Config) -> Guests:
    """Read the servers of a program.

    Raises:
        AppError, ConfigError: as for every APP; or two servers have the same path.
    """
    found = [_guest_of(serving, script, config) for serving in servings]
    paths = [completed.route.path for _, completed, _ in found]
    for path in paths:
        if paths.count(path) > 1:
            raise ConfigError(
                f"{script.file} has {len(paths)} servers, of which several take"
                f" {'all paths' if path is None else f'the path {path!r}'}: give each a path of its own"
            )
    app, first, _ = found[0]
    table = RouteTable([_route(completed, app) for app, completed, _ in found])
    return Guests(app, first, table, " ".join(filter(None, dict.fromkeys(doubt for _, _, doubt in found))))


def _guest_of(serving: Serving, script: Script, config: Config) -> tuple[App, Config, str]:
    app = app_of(serving.server, script.file)
    if app.options.get("disable_auth") and not config.was_given("disable_auth"):
        # The program is the server here, and has decided for itself.
        config = replace(config, route=replace(config.route, disable_auth=True))
    app = with_key(app, config)
    completed, late = complete(config, app.options)
    # The sockets were opened where the program wanted them.
    return app, completed, notice(app, [name for name in late if name not in (*LISTENING, "disable_auth")])


def _check_script(script: Script, config: Config) -> tuple[App | None, str, str, str, int]:
    found: list[tuple[App, str]] = []
    errors: list[Exception] = []

    async def look(servings: Sequence[Serving]) -> None:
        try:
            guests = guests_of(servings, script, config)
            found.append((guests.app, guests.notice))
        except (AppError, ConfigError) as error:
            errors.append(error)
        raise SystemExit

    failed = run_script(script, look, use_uvloop=config.program.loop == "uvloop")
    for error in (failed, *errors):
        if error is not None:
            return None, (error.details if isinstance(error, AppCrashed) else ""), str(error), "", _code_of(error)
    app, doubt = found[0]
    return app, "", "", doubt, EXIT_OK


def load(config: Config) -> App:
    """Load the APP, with a key of the environment if it has none."""
    return with_key(load_app(config.program.app), config)


def with_key(app: App, config: Config) -> App:
    """Return an APP with a key of the environment if neither it nor the options have one."""
    if config.route.api_key or app.api_keys or config.route.disable_auth:
        return app
    keys = find_keys(os.environ)  # the import may have read them from a file, as load_dotenv() does
    if not keys:
        raise KeyMissing(
            f"APP {app.name!r} has no API key to check its callers with: set {KEY_VARIABLE}, or give --api-key-file"
            " FILE (--disable-auth lets anyone in)"
        )
    return replace(app, api_keys=keys)


def notice(app: App, late: Sequence[str]) -> str:
    """Return sentences about options of the APP that come too late and about doubts, or an empty text."""
    if not late:
        return app.doubt
    flags = ", ".join(BY_NAME[name].flag for name in late)
    text = f"APP {app.name!r} sets options that se-server does not take from an APP: give {flags}"
    return f"{text}. {app.doubt}" if app.doubt else text


def _code_of(error: Exception) -> int:
    is_usage = isinstance(error, ConfigError) or isinstance(error.__cause__, KeyMissing)
    return EXIT_USAGE if is_usage else EXIT_BOOT


def fail(channel: ControlChannel, error: Exception) -> int:
    """Report to the supervisor that the worker cannot start; return the exit code."""
    details = error.details if isinstance(error, AppCrashed) else ""
    if len(details) > MAX_DETAILS:
        details = details[: MAX_DETAILS // 2] + "\n[...]\n" + details[-MAX_DETAILS // 2 :]
    channel.send(Failed(str(error)[:MAX_REASON], details, _code_of(error)), timeout_s=SEND_TIMEOUT_S)
    return EXIT_BOOT


def routes(config: Config, app: App) -> RouteTable:
    """Make the routes of a door."""
    return RouteTable([_route(config, app)])


def _route(config: Config, app: App) -> Route:
    verifier = config.route.verifier(app.api_keys)
    settings = replace(config.session, goodbye=config.lifecycle.goodbye_text)
    return Route(config.route.path, verifier, app.handlers, settings, app.connect)


def trace_turns(options: Tracing, ring: Ring | None) -> None:
    """Begin the traces of this worker, if they are on; the APP is loaded, and may have set OpenTelemetry up."""
    if options.traces and ring is not None:
        # Imported here: the packages are optional, and take a tenth of a second.
        from se_server.server.worker.tracing import WorkerTraces

        traces = WorkerTraces()
        ring.tracer = traces.tracer
        atexit.register(traces.close)
