"""The APP of a worker: loading it with its key, and the report of one that cannot be loaded."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from se_server.errors import AppError, ConfigError, KeyMissing
from se_server.server.config.app import App
from se_server.server.config.config import Config, complete
from se_server.server.config.crashes import AppCrashed
from se_server.server.config.keys import find_keys
from se_server.server.config.options import BY_NAME
from se_server.server.config.preloaded import load_app
from se_server.server.door.access import Access
from se_server.server.door.route_table import DoorRoute, RouteTable
from se_server.server.door.routes import KEY_VARIABLE
from se_server.server.shared.control import ControlChannel
from se_server.server.shared.control_messages import Failed
from se_server.server.shared.exit_codes import EXIT_BOOT, EXIT_OK, EXIT_USAGE
from se_server.server.shared.route_rows import MAX_ROUTES, MAX_WORKERS
from se_server.server.shared.scoreboard import Slot
from se_server.server.shared.tracing import Tracing
from se_server.server.worker.program_ends import ProgramExited
from se_server.server.worker.watchdog import SEND_TIMEOUT_S
from se_server.telemetry._ring import Ring
from se_server.telemetry.counters import Counters

logger = logging.getLogger("se_server.server.worker")

TOO_MANY = f"the first {MAX_ROUTES} routes are counted, in the first {MAX_WORKERS} workers"
MAX_REASON, MAX_DETAILS = 4_000, 64_000  # characters; they fit into one control message


@dataclass(frozen=True)
class Engines:
    """All that a worker serves.

    Attributes:
        apps: the APPs, each once.
        routes: the route of each engine.
        access: conditions before the route of a connection is known.
        notice: sentences for the operator, or empty.
        path: the path of conversations, as `Ready` has it.
    """

    apps: Sequence[App]
    routes: RouteTable
    access: Access
    notice: str
    path: str


def load_engines(config: Config, slot: Slot | None = None, counters: Counters | None = None) -> Engines:
    """Load the APP of each route, with its key and its options.

    Args:
        slot: that of the worker, which counts by route; None for a check.
        counters: the worker's.

    Raises:
        AppError, ConfigError: an APP cannot be used; the sentence names its route, if there are several.
    """
    if not config.routes:
        app = load(config)
        completed, late = complete(config, app.options)
        table = RouteTable([route_of(completed, app)])
        return Engines((app,), table, completed.access, notice(app, late), completed.route.path or "")
    loaded: dict[str, App] = {}
    names: dict[str, list[str]] = {}
    routes, notices = [], []
    for route in config.routes:
        own = config.of_route(route)
        try:
            if route.app not in loaded:
                loaded[route.app] = load_app(route.app)
            app = with_key(loaded[route.app], own)
            completed, late = complete(own, app.options)
            engine = replace(route_of(completed, app), name=route.name, host=route.host)
            if slot is not None and counters is not None:
                counted = slot.route(route.name, route.max_sessions, counters)
                if counted is not None:
                    engine = replace(engine, stats=counted[0], seats=counted[1])
                elif route.max_sessions is not None:
                    logger.warning("max_sessions of route %r is not enforced: %s", route.name, TOO_MANY)
            routes.append(engine)
        except (AppError, ConfigError) as error:
            raise _of_route(route.name, error) from error.__cause__
        names.setdefault(route.app, []).append(route.name)
        notices.append(notice(app, late))
    apps = [replace(app, routes=tuple(names[spec])) for spec, app in loaded.items()]
    plain = (route.path for route in routes if route.path and not set(route.path) & set("{}*") and route.host is None)
    doubts = " ".join(filter(None, dict.fromkeys(notices)))
    return Engines(apps, RouteTable(routes), config.access, doubts, next(plain, ""))


def _of_route(name: str, error: AppError | ConfigError) -> AppError | ConfigError:
    """Return an error of the same kind that names its route."""
    sentence = f"route {name!r}: {error}"
    if isinstance(error, AppCrashed):
        return AppCrashed(sentence, error.details)
    return AppError(sentence) if isinstance(error, AppError) else ConfigError(sentence)


def check_engines(config: Config) -> tuple[Sequence[App], str, str, str, int]:
    """Load the APPs and make their routes as a worker does, without opening the door.

    Returns:
        The APPs, none if one cannot be used; the traceback of user code, one sentence on the problem, and a notice for
        the operator, each of which may be empty; and the exit code.
    """
    try:
        engines = load_engines(config)
    except (AppError, ConfigError) as error:
        return (), (error.details if isinstance(error, AppCrashed) else ""), str(error), "", code_of(error)
    return engines.apps, "", "", engines.notice, EXIT_OK


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
    if isinstance(error, ProgramExited):
        return error.code
    is_usage = isinstance(error, ConfigError) or isinstance(error.__cause__, KeyMissing)
    return EXIT_USAGE if is_usage else EXIT_BOOT


def fail(channel: ControlChannel, error: Exception) -> int:
    """Report to the supervisor that the worker cannot start; return the exit code."""
    details = error.details if isinstance(error, AppCrashed) else ""
    if len(details) > MAX_DETAILS:
        details = details[: MAX_DETAILS // 2] + "\n[...]\n" + details[-MAX_DETAILS // 2 :]
    channel.send(Failed(str(error)[:MAX_REASON], details, code_of(error)), timeout_s=SEND_TIMEOUT_S)
    return EXIT_BOOT


def route_of(config: Config, app: App) -> DoorRoute:
    """Make the route of an APP from the options in force."""
    verifier = config.route.verifier(app.api_keys)
    settings = replace(config.session, goodbye=config.lifecycle.goodbye_text)
    return DoorRoute(config.route.path, verifier, app.handlers, settings, app.connect, access=config.access)


def trace_turns(options: Tracing, ring: Ring | None) -> None:
    """Begin the traces of this worker, if they are on; the APP is loaded, and may have set OpenTelemetry up."""
    if options.traces and ring is not None:
        # Imported here: the packages are optional, and take a tenth of a second.
        from se_server.server.worker.tracing import WorkerTraces

        traces = WorkerTraces()
        ring.tracer = traces.tracer
        atexit.register(traces.close)
