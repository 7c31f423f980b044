"""The servers of a program that `se-server run` executes: their options, their routes, and the sockets of each."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ssl import SSLContext
from typing import Any

from se_server.errors import AppError, ConfigError
from se_server.server.config.app import App, app_of
from se_server.server.config.config import LISTENING, Config, complete
from se_server.server.config.crashes import AppCrashed
from se_server.server.config.options import BY_NAME
from se_server.server.config.scripts import Script, Serving
from se_server.server.door.place import Place
from se_server.server.door.route_table import DoorRoute, RouteTable
from se_server.server.door.routes import KEY_VARIABLE
from se_server.server.listen.sockets import resolve, url_of
from se_server.server.shared.exit_codes import EXIT_OK
from se_server.server.worker.loading import code_of, notice, route_of, with_key
from se_server.server.worker.script import run_script

# The sockets were opened where the program wanted them, its context serves there, and the program decides for itself
# whether it authenticates.
_TAKEN = (*LISTENING, "disable_auth", "certfile")


@dataclass(frozen=True)
class Guests:
    """The servers of a program, as a worker serves them.

    Attributes:
        app: the first server; its name is the program's.
        config: the options, completed with those of the first server.
        places: the sockets, with the routes of the servers there.
        ports: the port of each server; 0 for one that listens on a Unix socket alone.
        addresses: the addresses of all servers, as URLs.
        notice: sentences for the operator, or empty.
    """

    app: App
    config: Config
    places: Sequence[Place]
    ports: Sequence[int]
    addresses: Sequence[str]
    notice: str


def addresses_of(servings: Sequence[Serving]) -> list[object]:
    """Return the options of each server that say where to listen."""
    options = [serving.server.options for serving in servings]
    return [{name: each[name] for name in LISTENING if name in each} for each in options]


def guests_of(
    servings: Sequence[Serving],
    script: Script,
    config: Config,
    sockets: Sequence[socket.socket] = (),
    tls: SSLContext | None = None,
) -> Guests:
    """Read the servers of a program.

    Args:
        sockets: all listen sockets; without any, each server has the address that it names.
        tls: the context that the options name; else that of each server holds.

    Raises:
        AppError, ConfigError: as for every APP; or two servers have the same path at the same address, or a server's
            address is not open.
    """
    found = [_guest_of(serving, script, config) for serving in servings]
    options = [app.options for app, _, _ in found]
    if sockets:
        grouped = _by_servers(options, script, config, sockets)
    else:
        grouped = [(numbers, []) for numbers in _same_address(options, config)]
    places = []
    own: list[list[socket.socket]] = [[] for _ in found]
    for numbers, listening in grouped:
        members = [found[number][:2] for number in numbers]
        _check_paths([completed.route.path for _, completed in members], script)
        contexts = [app.options["certfile"] for app, _ in members if "certfile" in app.options]
        table = RouteTable(
            [_route_of(completed, app, listening if len(found) > 1 else []) for app, completed in members]
        )
        places.append(Place(listening, table, members[0][1].access, tls or next(iter(contexts), None)))
        for number in numbers:
            own[number] += listening
    app, first, _ = found[0]
    ports = [next((s.getsockname()[1] for s in each if s.family != socket.AF_UNIX), 0) for each in own]
    addresses = [
        address
        for (app, completed, _), port in zip(found, ports, strict=True)
        for address in _addresses(completed, app.options, port, is_tls=tls is not None)
    ]
    doubts = filter(None, dict.fromkeys(doubt for _, _, doubt in found))
    return Guests(app, first, places, ports, addresses, " ".join(doubts))


def _guest_of(serving: Serving, script: Script, config: Config) -> tuple[App, Config, str]:
    app = app_of(serving.server, script.file)
    if app.options.get("disable_auth") and not config.was_given("disable_auth"):
        # The program is the server here, and has decided for itself.
        config = replace(config, route=replace(config.route, disable_auth=True))
    config, doubt = _with_own_key(app, script, config)
    app = with_key(app, config)
    completed, late = complete(config, app.options)
    doubts = filter(None, (notice(app, [name for name in late if name not in _TAKEN]), doubt))
    return app, completed, " ".join(doubts)


def _with_own_key(app: App, script: Script, config: Config) -> tuple[Config, str]:
    """Prefer the keys of a program's server to ELEVENLABS_API_KEY, as the server by itself does, and not to an option.

    Returns:
        The options in force, and a sentence for the operator where an option replaces the program's key, or empty.
    """
    given, source = config.route.api_key, config.sources.get("api_key", "default")
    try:
        own = BY_NAME["api_key"].read(app.api_keys, "api_key") if app.api_keys else ()
    except ConfigError:
        own = app.api_keys
    if not own or not given or set(own) == set(given) or config.route.disable_auth:
        return config, ""
    if source == KEY_VARIABLE and not config.playground.playground:  # the page speaks with the server's key
        return replace(config, route=replace(config.route, api_key=())), ""
    return config, f"{source} replaces the API key that {script.file} gives: tokens are checked with the option's"


def _route_of(config: Config, app: App, listening: Sequence[socket.socket]) -> DoorRoute:
    """Return the route of a server; one of several has a name, for the log."""
    port = next((f":{sock.getsockname()[1]}" for sock in listening if sock.family != socket.AF_UNIX), "")
    return replace(route_of(config, app), name=f"{port}{config.route.path or '/*'}" if listening else "")


def _check_paths(paths: Sequence[str | None], script: Script) -> None:
    for path in paths:
        if paths.count(path) > 1:
            raise ConfigError(
                f"{script.file} has {len(paths)} servers at one address, of which several take"
                f" {'all paths' if path is None else f'the path {path!r}'}: give each a path or a port of its own"
            )


def _port_of(options: Any) -> int | None:
    """Return the port that a server was made with; None if it listens on a Unix socket alone."""
    if "uds" in options and "port" not in options and "host" not in options:
        return None
    return int(options.get("port", BY_NAME["port"].default))


def _same_address(options: Sequence[Any], config: Config) -> list[list[int]]:
    """Group servers by the address that they name, as numbers."""
    if config.says_where():
        return [list(range(len(options)))]
    groups: dict[object, list[int]] = {}
    for number, each in enumerate(options):
        port = _port_of(each)
        key = (number,) if port == 0 else (each.get("host"), port, each.get("uds"))
        groups.setdefault(key, []).append(number)
    return list(groups.values())


def _by_servers(
    options: Sequence[Any], script: Script, config: Config, sockets: Sequence[socket.socket]
) -> list[tuple[list[int], list[socket.socket]]]:
    """Group sockets by the servers that listen there, as numbers."""
    by_name: dict[object, list[socket.socket]] = {}
    for sock in sockets:
        name = sock.getsockname()
        by_name.setdefault(name if sock.family == socket.AF_UNIX else name[1], []).append(sock)
    for each in options[:1] if config.says_where() else options:
        _check_kept(each, script, config, by_name)
    everybody = list(range(len(options)))
    if len(options) == 1 or len(by_name) == 1 or config.says_where():
        return [(everybody, list(sockets))]
    named = {_port_of(each) for each in options}
    free = [name for name in by_name if isinstance(name, int) and name not in named]
    servers: dict[object, list[int]] = {name: [] for name in by_name}
    for number, each in enumerate(options):
        port, uds = _port_of(each), each.get("uds")
        wanted: list[object] = [] if port is None else [free.pop(0) if port == 0 and free else port]
        wanted += [] if uds is None else [uds]
        for name in wanted:
            if name not in servers:
                raise _closed(script, name)
            servers[name].append(number)
    grouped: dict[tuple[int, ...], list[socket.socket]] = {}
    for name, numbers in servers.items():
        if numbers:
            grouped.setdefault(tuple(numbers), []).extend(by_name[name])
    return [(list(numbers), listening) for numbers, listening in grouped.items()]


def _check_kept(
    options: Any, script: Script, config: Config, by_name: Mapping[object, Sequence[socket.socket]]
) -> None:
    """Refuse a server that names another address than the program did when the sockets were opened for it."""
    named = {name for name in LISTENING if config.sources.get(name) == "APP"}
    port, uds = _port_of(options), options.get("uds")
    if "port" in named and port and port not in by_name:
        raise _closed(script, port)
    if "uds" in named and uds is not None and uds not in by_name:
        raise _closed(script, uds)
    is_by_program = bool(named & {"host", "port"}) and config.sources.get("host", "default") in ("APP", "default")
    if port is None or not is_by_program:
        return
    host = options.get("host")
    listening = by_name.get(port) or [sock for sockets in by_name.values() for sock in sockets]
    if not {address[0] for _, address in resolve(host, port)} & {sock.getsockname()[0] for sock in listening}:
        raise _changed(script, f"the host {host}" if host else "all interfaces")


def _closed(script: Script, name: object) -> AppError:
    """Return the error of an address that was not opened: a port, or the path of a Unix socket."""
    return _changed(script, f"port {name}" if isinstance(name, int) else f"the Unix socket {name}")


def _changed(script: Script, where: str) -> AppError:
    return AppError(
        f"{script.file} serves at {where} now, which is not open: a reload and an upgrade keep the addresses, restart"
        " the server to change them"
    )


def _addresses(config: Config, options: Any, port: int, *, is_tls: bool) -> list[str]:
    """Return the addresses of a server as URLs, with the port that it is bound to, if it is."""
    listening = config.listening
    if config.says_where():
        host, wanted, uds = listening.host, listening.port if config.wants_port() else None, listening.uds
    else:
        host, wanted, uds = options.get("host"), _port_of(options), options.get("uds")
    is_tls = is_tls or "certfile" in options or listening.certfile is not None
    found = [] if wanted is None else [url_of(host, port or wanted, is_tls=is_tls) + (config.route.path or "/")]
    return found + ([] if uds is None else [f"unix:{uds}"])


def check_script(script: Script, config: Config) -> tuple[Guests | None, str, str, int]:
    """Run a program up to its `serve()`.

    Returns:
        Its servers, None if they cannot be used; the traceback of user code and one sentence on the problem, each of
        which may be empty; and the exit code.
    """
    found: list[Guests] = []
    errors: list[Exception] = []

    async def look(servings: Sequence[Serving]) -> None:
        try:
            found.append(guests_of(servings, script, config))
        except (AppError, ConfigError) as error:
            errors.append(error)
        raise SystemExit

    failed = run_script(script, look, use_uvloop=config.program.loop == "uvloop")
    if found:
        return found[0], "", "", EXIT_OK
    error = next(each for each in (*errors, failed) if each is not None)
    return None, (error.details if isinstance(error, AppCrashed) else ""), str(error), code_of(error)
