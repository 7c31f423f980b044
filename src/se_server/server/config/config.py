"""Load the options of `se-server` from their sources into one frozen `Config`.

The sources in order of precedence: the command line, the environment (`SE_SERVER_<NAME>`), the file named with
`--config`, and the default of the option.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from se_server.conversation.settings import SessionSettings
from se_server.demo import DEMO_API_KEY
from se_server.errors import ConfigError
from se_server.options import ENVIRONMENT_PREFIX, options_of, shown_file
from se_server.server.config.environment import read_environment
from se_server.server.config.keys import read_keys
from se_server.server.config.options import BY_NAME, GROUP_OF, GROUPS, OF_CONVERSATIONS, OPTIONS, read_keywords
from se_server.server.config.playground import Playground
from se_server.server.config.program import Program
from se_server.server.config.routes import KEY as ROUTES
from se_server.server.config.routes import RouteConfig, read_routes
from se_server.server.config.scripts import WORD as SCRIPT
from se_server.server.door.access import Access
from se_server.server.door.admission import Capacity
from se_server.server.door.patterns import Kind, Pattern
from se_server.server.door.routes import KEY_VARIABLE, RouteOptions
from se_server.server.listen.admin import Admin
from se_server.server.listen.distinct import check_distinct
from se_server.server.listen.listening import Listening
from se_server.server.shared.lifecycle import Lifecycle
from se_server.server.shared.preload import Preload
from se_server.server.shared.recording import Recording
from se_server.server.shared.tracing import Tracing
from se_server.spelling import nearest, spelled
from se_server.toml_file import read_toml

LOOPBACK = "127.0.0.1"
DEMO_HOST_SOURCE = "loopback, because of the demo key"
MASK = "********"
HELP = "se-server --help"
_TYPED = ("config", "check", "print_config", "print_schema", "help", "version")
_OF_RECORDINGS = ("record_memory", "record_max_age_s", "record_max_bytes")
EDITED_DRAIN_TIMEOUT_S = 5.0
"""Seconds that a conversation may stay on the former code of an agent that is being edited."""


@dataclass(frozen=True)
class Config:
    """The options in force, by group; made by `load_config`, never changed.

    Attributes:
        listening: addresses and certificates.
        route: path and keys; `api_key` holds all keys in force, those of the file included.
        access: conditions besides the token.
        session: limits and times of conversations.
        capacity: limits beyond which new conversations are refused.
        lifecycle: number, drain and replacement of workers.
        preload: what is imported before the workers are forked.
        admin: the address of metrics and of the page for operators.
        playground: the page for developers.
        recording: the flight recorder.
        tracing: traces.
        program: APP, log and files.
        routes: the engines of `[[routes]]`; none for a server with one.
        demo_key: whether the public demo key is in use, because there is no key, and no APP that others could reach.
        sources: the source of each value, in words, by option.
        unknown: variables of the environment that begin like options and are none.
    """

    listening: Listening
    route: RouteOptions
    access: Access
    session: SessionSettings
    capacity: Capacity
    lifecycle: Lifecycle
    preload: Preload
    admin: Admin
    playground: Playground
    recording: Recording
    tracing: Tracing
    program: Program
    routes: tuple[RouteConfig, ...] = ()
    demo_key: bool = False
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    unknown: tuple[str, ...] = field(default=(), compare=False)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value, _ in self.rows())
        return f"Config({shown})"

    def value(self, name: str) -> Any:
        """Return the value of any option."""
        return getattr(getattr(self, GROUP_OF[name]), name)

    def rows(self) -> list[tuple[str, str, str]]:
        """Return name, value and source of every option as text, secrets masked."""
        rows = []
        for option in OPTIONS:
            value = self.value(option.name)
            text = MASK if option.secret and value else repr(value)
            rows.append((option.name, text, self.sources.get(option.name, "default")))
        return rows

    def wants_port(self) -> bool:
        """Return whether to listen on host and port: with a Unix socket only if one of them was given."""
        return self.listening.uds is None or self.was_given("host") or self.was_given("port")

    def carried(self) -> int | None:
        """Return how many conversations the server carries: the limit, else the given capacity, else None."""
        return self.capacity.max_sessions or self.admin.capacity

    def was_given(self, name: str) -> bool:
        """Return whether one of the sources gave the option."""
        return self.sources.get(name, "default") not in ("default", DEMO_HOST_SOURCE)

    def of_route(self, route: RouteConfig) -> Config:
        """Return the options in force for one of the routes."""
        program = replace(self.program, app=route.app)
        return replace(
            self,
            route=route.route,
            access=route.access,
            session=route.session,
            program=program,
            sources=route.sources,
            routes=(),
        )

    def doubts(self) -> list[str]:
        """Return sentences about values that are allowed and probably a mistake, those of routes included."""
        every: tuple[Config | RouteConfig, ...] = (self, *self.routes)
        return list(dict.fromkeys(spelled(text, each.sources) for each in every for text in each.session.doubts()))

    def of_playground(self) -> Config:
        """Return the options in force for the engine that the playground speaks with: the first with an exact path.

        Raises:
            ConfigError: there are routes, and none has one.
        """
        if not self.routes:
            return self
        for kind in (Kind.EXACT, Kind.ANY):
            for route in self.routes:
                if route.host is None and Pattern.of(route.route.path).kind is kind:
                    return self.of_route(route)
        raise ConfigError("--playground speaks with a route of an exact path and without a host: [[routes]] has none")

    def apps(self) -> list[str]:
        """Return the APPs, each once; none for the demo agent."""
        if not self.routes:
            return [] if self.program.app is None else [self.program.app]
        return list(dict.fromkeys(route.app for route in self.routes))

    def says_all_of_where(self) -> bool:
        """Return whether options leave nothing to a program: open sockets, a Unix socket, or host and port."""
        return self.says_where() and (
            self.was_given("fd") or self.was_given("uds") or (self.was_given("host") and self.was_given("port"))
        )

    def says_where(self) -> bool:
        """Return whether an option says where to listen, and not only the program that is run."""
        return any(self.was_given(name) and self.sources[name] != "APP" for name in (*LISTENING, "fd"))


LISTENING = ("host", "port", "uds")


def listening(config: Config, options: Mapping[str, Any]) -> Config:
    """Add the address of a program's server, as far as no source has said where to listen; an option wins."""
    given = [name for name in (*LISTENING, "fd") if config.was_given(name)]
    if "fd" in given or "uds" in given:
        return config
    names = ("host", "port") if given else LISTENING
    taken = {name: options[name] for name in names if name in options and name not in given}
    if "port" in names and "port" not in given and "uds" not in taken:
        taken.setdefault("port", config.listening.port)  # the default, which the program keeps to
    sources = {**config.sources, **dict.fromkeys(taken, "APP")}
    return replace(config, sources=sources, listening=replace(config.listening, **taken))


def read_addresses(reported: Sequence[object]) -> list[dict[str, Any]]:
    """Read the addresses that the first worker of a program reports: code of the user runs there.

    Raises:
        ConfigError: there is none, or one of them is not valid.
    """
    if not reported or not all(isinstance(address, dict) for address in reported):
        raise ConfigError("the program has not said where to listen: give --host and --port")
    return [
        read_keywords({name: value for name, value in address.items() if name in LISTENING})
        for address in reported
        if isinstance(address, dict)
    ]


def complete(config: Config, options: Mapping[str, Any]) -> tuple[Config, list[str]]:
    """Add the options of an APP that concern conversations, as far as no source has given them.

    Args:
        options: the options that the APP was made with, by name.

    Returns:
        The options in force, and the names of those that are not taken: the sockets are open already, and an APP must
        not switch off their protection.

    Raises:
        ConfigError: the options do not go together.
    """
    unsaid = {name: value for name, value in options.items() if not config.was_given(name)}
    taken = {name: value for name, value in unsaid.items() if name in OF_CONVERSATIONS}
    groups = {
        group: replace(getattr(config, group), **{name: taken[name] for name in taken if GROUP_OF[name] == group})
        for group in {GROUP_OF[name] for name in taken}
    }
    completed = replace(config, sources={**config.sources, **dict.fromkeys(taken, "APP")}, **groups)
    return completed, [name for name in unsaid if name not in taken]


def load_config(command_line: Mapping[str, object], environ: Mapping[str, str]) -> Config:
    """Merge the sources.

    Args:
        command_line: the given options, by name, as typed; `config` names a file.
        environ: the process's environment.

    Raises:
        ConfigError: a name is unknown or a value is wrong; one sentence with the source and the way out.
    """
    file_name = command_line.get("config") or environ.get(ENVIRONMENT_PREFIX + "CONFIG")
    from_file = _read_file(str(file_name)) if file_name else {}
    tables = from_file.pop(ROUTES, [])
    from_environment, unknown = read_environment(environ)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    ranks: dict[str, int] = {}
    for option in OPTIONS:
        candidates: tuple[tuple[object, str], ...] = (
            (command_line.get(option.name), option.flag),
            (from_environment.get(option.name), option.variable),
            (from_file.get(option.name), f"{option.name} in {file_name}"),
        )
        for rank, (raw, where) in enumerate(candidates):
            if raw is None or raw == ():
                continue
            value = option.read(raw, where)  # a value that another source overrides is read, too
            if option.name not in values:
                values[option.name] = value
                sources[option.name] = where
                ranks[option.name] = rank
        if option.name not in values:
            values[option.name] = option.default() if callable(option.default) else option.default
            sources[option.name] = "default"
    _check_use(values, sources)
    _find_keys(values, sources, ranks, environ)
    if values["reload"] and sources["workers"] == "default":
        values["workers"], sources["workers"] = 1, "--reload"
    if values["reload"] and sources["reload_drain_timeout_s"] == "default":
        values["reload_drain_timeout_s"], sources["reload_drain_timeout_s"] = EDITED_DRAIN_TIMEOUT_S, "--reload"
    demo_key = not tables and _fall_back_to_demo_key(values, sources)
    check_distinct(values, sources)
    try:
        groups: dict[str, Any] = {
            group: declared(**{name: values[name] for name in options_of(declared)})
            for group, declared in GROUPS.items()
        }
    except ConfigError as error:
        raise ConfigError(spelled(str(error), sources)) from None
    routes = read_routes(tables, str(file_name), values["app"], groups, sources)
    return Config(routes=routes, demo_key=demo_key, sources=sources, unknown=unknown, **groups)


def _read_file(name: str) -> dict[str, object]:
    try:
        content: dict[str, object] = read_toml(name)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {shown_file(name)}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, and errors of values out of range
        raise ConfigError(f"the configuration file {name} is not valid TOML: {error}") from None
    for entry in content:
        if entry not in BY_NAME and entry != ROUTES:
            raise ConfigError(_no_option(entry, content[entry], name))
    return content


def _no_option(entry: str, value: object, file_name: str) -> str:
    if isinstance(value, dict):
        within = next((each for each in value if each in BY_NAME), "port")
        return f"[{entry}] in {file_name}: options have no section: write {within} = ... at the top of the file"
    if entry in _TYPED:
        return f"{entry} in {file_name} is for the command line only: give --{entry.replace('_', '-')} there"
    return f"{entry} in {file_name} is not an option{nearest(entry, BY_NAME, HELP)}"


def _check_use(values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    """Refuse an option of the command line that has no effect. A file or an environment may serve several starts."""
    script = values["app"] is not None and values["app"].startswith(SCRIPT + " ")
    for name, is_used, way_out in (
        ("playground_port", values["playground"], "is for --playground: give --playground too"),
        ("no_open", values["playground"], "is for --playground: give --playground too"),
        ("no_alias", script, "is for se-server run FILE: leave it out"),
        ("preload_app", not script, "is for an APP, and a program runs in each worker: give --preload MODULE,..."),
        ("preload_timeout_s", values["preload"] or values["preload_app"], "is for --preload: give --preload too"),
        *((name, values["record"] != "off", "is for recordings: give --record too") for name in _OF_RECORDINGS),
    ):
        if not is_used and sources[name] == BY_NAME[name].flag:
            raise ConfigError(f"{BY_NAME[name].flag} {way_out}")


def _find_keys(
    values: dict[str, Any], sources: dict[str, str], ranks: Mapping[str, int], environ: Mapping[str, str]
) -> None:
    """Set `api_key`: the source of higher rank wins, equal ones add up, ELEVENLABS_API_KEY is the last resort."""
    file_name = values["api_key_file"]
    key_rank, file_rank = ranks.get("api_key", len(OPTIONS)), ranks.get("api_key_file", len(OPTIONS))
    if file_name is not None and file_rank <= key_rank:
        given = values["api_key"] if file_rank == key_rank else ()
        values["api_key"] = (*given, *read_keys(file_name, sources["api_key_file"]))
        sources["api_key"] = f"{sources['api_key_file']} {file_name}"
    elif not values["api_key"] and environ.get(KEY_VARIABLE, "").strip():
        values["api_key"] = BY_NAME["api_key"].read(environ[KEY_VARIABLE], KEY_VARIABLE)
        sources["api_key"] = KEY_VARIABLE


def _fall_back_to_demo_key(values: dict[str, Any], sources: dict[str, str]) -> bool:
    is_tried_out = values["app"] is None or values["playground"]
    if not is_tried_out or values["api_key"] or values["disable_auth"]:
        return False
    if values["host"] not in (None, LOOPBACK, "::1", "localhost"):
        agent = "the demo agent" if values["app"] is None else "an agent on the playground"
        raise ConfigError(
            f"{sources['host']}: {agent} without a key listens on loopback only, because everybody knows the"
            f" demo key; give a key (--api-key-file FILE or {KEY_VARIABLE}) to listen on {values['host']}"
        )
    values["api_key"] = (DEMO_API_KEY,)
    sources["api_key"] = "the public demo key"
    if values["host"] is None:
        values["host"] = LOOPBACK
        sources["host"] = DEMO_HOST_SOURCE
    return True
