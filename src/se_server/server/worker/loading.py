"""The APP of a worker: loading it with its key, and the report of one that cannot be loaded."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import replace

from se_server.errors import AppError, ConfigError, KeyMissing
from se_server.server.config.app import App, AppCrashed, load_app
from se_server.server.config.config import Config, complete, find_keys
from se_server.server.config.options import BY_NAME
from se_server.server.door.route_table import DoorRoute, RouteTable
from se_server.server.door.routes import KEY_VARIABLE
from se_server.server.shared.control import ControlChannel, Failed
from se_server.server.shared.exit_codes import EXIT_BOOT, EXIT_OK, EXIT_USAGE
from se_server.server.shared.tracing import Tracing
from se_server.server.worker.watchdog import SEND_TIMEOUT_S
from se_server.telemetry._ring import Ring

MAX_REASON, MAX_DETAILS = 4_000, 64_000  # characters; they fit into one control message


def check_app(config: Config) -> tuple[App | None, str, str, str, int]:
    """Load the APP and make its door as a worker does, without opening it.

    Returns:
        The APP, None if it cannot be used; the traceback of user code, one sentence on the problem, and a notice for
        the operator, each of which may be empty; and the exit code.
    """
    try:
        app = load(config)
        completed, late = complete(config, app.options)
        routes(completed, app)
    except (AppError, ConfigError) as error:
        return None, (error.details if isinstance(error, AppCrashed) else ""), str(error), "", code_of(error)
    return app, "", "", notice(app, late), EXIT_OK


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
            " FILE; --playground tries it without one (--disable-auth lets anyone in)"
        )
    return replace(app, api_keys=keys)


def notice(app: App, late: Sequence[str]) -> str:
    """Return sentences about options of the APP that come too late and about doubts, or an empty text."""
    if not late:
        return app.doubt
    flags = ", ".join(BY_NAME[name].flag for name in late)
    text = f"APP {app.name!r} sets options that se-server does not take from an APP: give {flags}"
    return f"{text}. {app.doubt}" if app.doubt else text


def code_of(error: Exception) -> int:
    """Return the exit code of a server that an error keeps from starting."""
    is_usage = isinstance(error, ConfigError) or isinstance(error.__cause__, KeyMissing)
    return EXIT_USAGE if is_usage else EXIT_BOOT


def fail(channel: ControlChannel, error: Exception) -> int:
    """Report to the supervisor that the worker cannot start; return the exit code."""
    details = error.details if isinstance(error, AppCrashed) else ""
    if len(details) > MAX_DETAILS:
        details = details[: MAX_DETAILS // 2] + "\n[...]\n" + details[-MAX_DETAILS // 2 :]
    channel.send(Failed(str(error)[:MAX_REASON], details, code_of(error)), timeout_s=SEND_TIMEOUT_S)
    return EXIT_BOOT


def routes(config: Config, app: App) -> RouteTable:
    """Make the routes of a door."""
    return RouteTable([route_of(config, app)])


def route_of(config: Config, app: App) -> DoorRoute:
    """Make the route of an APP from the options in force."""
    verifier = config.route.verifier(app.api_keys)
    settings = replace(config.session, goodbye=config.lifecycle.goodbye_text)
    return DoorRoute(config.route.path, verifier, app.handlers, settings, app.connect, config.access)


def trace_turns(options: Tracing, ring: Ring | None) -> None:
    """Begin the traces of this worker, if they are on; the APP is loaded, and may have set OpenTelemetry up."""
    if options.traces and ring is not None:
        # Imported here: the packages are optional, and take a tenth of a second.
        from se_server.server.worker.tracing import WorkerTraces

        traces = WorkerTraces()
        ring.tracer = traces.tracer
        atexit.register(traces.close)
