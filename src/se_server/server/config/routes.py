"""`[[routes]]` of the configuration file: several engines in one server, each with a path, an APP and options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from se_server.conversation.settings import SessionSettings
from se_server.errors import ConfigError
from se_server.options import number, options_of, text
from se_server.server.config.keys import read_keys
from se_server.server.config.options import BY_NAME, GROUP_OF
from se_server.server.config.scripts import Script
from se_server.server.door.access import Access
from se_server.server.door.host_header import is_host
from se_server.server.door.patterns import Pattern
from se_server.server.door.routes import RouteOptions
from se_server.spelling import nearest, spelled

KEY = "routes"
OF_THE_SERVER = ("trusted_proxies", "proxy_protocol", "max_failed_handshakes_per_s")
"""Options of `Access` that hold before the route of a connection is known."""
OF_ROUTES = (
    "app",
    *options_of(RouteOptions),
    *(name for name in options_of(Access) if name not in OF_THE_SERVER),
    *options_of(SessionSettings),
)
"""Options that a route may have for itself."""
OWN = ("name", "host", "max_sessions")
"""Entries that are not options of the whole server, or mean something else there."""
MAX_NAME_CHARS = 100


@dataclass(frozen=True)
class RouteConfig:
    """One route.

    Attributes:
        name: its name in logs, metrics and errors.
        host: the name in the requests' `Host` header; None for every name.
        max_sessions: its conversations at once, over all workers; None for no limit of its own.
        app: the APP that answers.
        route: path and keys.
        access: conditions besides the token.
        session: limits and times of conversations.
        sources: the source of each value, in words, by option.
        given: the names of the route's own entries.
    """

    name: str
    host: str | None
    max_sessions: int | None
    app: str
    route: RouteOptions
    access: Access
    session: SessionSettings
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    given: tuple[str, ...] = ()


def read_routes(
    tables: object, file_name: str, app: str | None, groups: Mapping[str, Any], sources: Mapping[str, str]
) -> tuple[RouteConfig, ...]:
    """Read the routes of a configuration file.

    Args:
        tables: the value of `routes`.
        file_name: the file, for errors.
        app: the APP of routes that name none.
        groups: the options of the server by group, which hold where a route has none of its own.
        sources: their sources.

    Raises:
        ConfigError: an entry is unknown or wrong, a route has no APP, or two have the same name.
    """
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"routes in {file_name}: write each route as a table of its own, under [[routes]]")
    if tables and sources["path"] != "default":
        raise ConfigError(f"{sources['path']} and [[routes]] in {file_name} both name paths: leave it to the routes")
    if Script.of(app) is not None and tables:
        raise ConfigError(f"{app} and [[routes]] in {file_name}: the servers of a program are its routes")
    read = _Reader(app, groups, sources)
    routes: dict[str, RouteConfig] = {}
    for place, table in enumerate(tables, 1):
        route = read.route(table, f"[[routes]] {place} in {file_name}")
        first = routes.setdefault(route.name, route)
        if first is not route:
            places = f"[[routes]] {list(routes).index(route.name) + 1} and {place} in {file_name}"
            what = "name" if "name" in route.given or "name" in first.given else "path"
            raise ConfigError(f"{places} have the same {what} {route.name!r}: give each its own")
    return tuple(routes.values())


class _Reader:
    def __init__(self, app: str | None, groups: Mapping[str, Any], sources: Mapping[str, str]) -> None:
        self._app = app
        self._groups = groups
        self._sources = sources

    def route(self, table: Mapping[str, object], where: str) -> RouteConfig:
        for entry in table:
            if entry not in OF_ROUTES and entry not in OWN:
                raise ConfigError(f"{entry} in {where} {_no_entry(entry)}")
        given = {name: BY_NAME[name].read(raw, f"{name} in {where}") for name, raw in table.items() if name not in OWN}
        path = given.get("path")
        try:
            Pattern.of(path)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        host = _host(table["host"], where) if "host" in table else None
        name = _name(table["name"], where) if "name" in table else f"{host or ''}{path or '/*'}"
        app = given.pop("app", self._app)
        if app is None:
            raise ConfigError(f"{where}: route {name!r} has no app: name the agent that answers, such as agent.py")
        if Script.of(app) is not None:
            raise ConfigError(f"app in {where}: {app!r} is a program that serves by itself: name an APP with handlers")
        if given.get("disable_auth") and {"api_key", "api_key_file"} & given.keys():
            raise ConfigError(f"{where}: disable_auth asks for no token, and a key is given: leave one of them out")
        sources = {**self._sources, **{option: f"{option} in {where}" for option in given}}
        if "api_key_file" in given:
            source = f"api_key_file in {where}"
            given["api_key"] = (*given.get("api_key", ()), *read_keys(given["api_key_file"], source))
            sources["api_key"] = f"{source}, {given['api_key_file']}"
        made: dict[str, Any] = {}
        for group in ("route", "access", "session"):
            options = {option: value for option, value in given.items() if GROUP_OF[option] == group}
            if group == "route":
                options = {"path": None, **_own_keys(options)}
            try:
                made[group] = replace(self._groups[group], **options) if options else self._groups[group]
            except ConfigError as error:
                text = spelled(str(error), sources)
                raise ConfigError(text if where in text else f"{where}: {text}") from None
        most = _most(table.get("max_sessions"), where)
        return RouteConfig(name, host, most, app, **made, sources=sources, given=tuple(table))


def _own_keys(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a route without the server's keys, if it has keys of its own."""
    if not {"api_key", "api_key_file", "disable_auth"} & options.keys():
        return options
    if "api_key" in options:
        return {"api_key_file": None, "disable_auth": False, **options}
    return options


def _most(raw: object, where: str) -> int | None:
    try:
        return None if raw is None else number(raw)
    except ValueError as wrong:
        raise ConfigError(f"max_sessions in {where}: {raw!r} is not valid: expected {wrong}") from None


def _no_entry(entry: str) -> str:
    if entry in BY_NAME:
        return "is an option of the whole server: write it at the top of the file"
    return f"is no entry of a route{nearest(entry, (*OWN, *OF_ROUTES), 'docs/routes.md')}"


def _host(raw: object, where: str) -> str:
    if not isinstance(raw, str) or not raw.isascii() or not is_host(raw.encode()) or not raw or raw.endswith(":"):
        raise ConfigError(f"host in {where}: {raw!r} is not valid: expected a host name without a port, in ASCII")
    if "*" in raw:
        raise ConfigError(f"host in {where}: {raw!r} is not one name: give each name a route of its own")
    if ":" in raw and not raw.endswith("]"):
        raise ConfigError(f"host in {where}: {raw!r} has a port, and a route is found by the name alone: leave it out")
    return raw.lower().rstrip(".")


def _name(raw: object, where: str) -> str:
    try:
        name = text(raw)
    except ValueError as wrong:
        raise ConfigError(f"name in {where}: expected {wrong}") from None
    if not name.isprintable() or len(name) > MAX_NAME_CHARS:
        raise ConfigError(f"name in {where}: expected at most {MAX_NAME_CHARS} printable characters")
    return name
