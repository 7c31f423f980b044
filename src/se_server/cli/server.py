"""`se-server`: serve Speech Engine conversations on all cores."""

from __future__ import annotations

import faulthandler
import io
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from se_server.cli.server_terminal import Terminal, complain

if TYPE_CHECKING:
    import click

    from se_server.cli.playing import PlaygroundPage
    from se_server.server.config.config import Config

log = logging.getLogger("se_server.server")

EXIT_USAGE = 2
WINDOWS_SENTENCE = "se-server runs on Linux and macOS, because its workers are forked; on Windows, use it inside WSL"

_ABOUT = """Serve ElevenLabs Speech Engine conversations.

APP names the agent: module, module:attr, file.py or file.py:attr. It is a module, an object or a dict with
on_transcript (and on_init, on_close, on_disconnect, on_error, on_interrupt, on_startup, on_shutdown), a
SpeechEngineServer, or a single function, which is used as on_transcript. Without APP the built-in demo agent answers.

\b
  se-server                          the demo agent, for se-chat on this machine
  se-server run script.py            a program that calls engine.serve(), unchanged, on all cores
  se-server agent.py --workers 4     your agent, with the key in ELEVENLABS_API_KEY
  se-server new my-agent             write a starting project: an agent, its test, a Dockerfile
"""

_EPILOG = """Every option is also an environment variable, SE_SERVER_PORT=3001, and a key of the TOML file, port = 3001.
The command line overrides the environment, and the environment overrides the file.

Exit codes: 0 stopped, 2 a wrong option or no API key, 3 APP cannot be loaded or started."""

NO_AUTH_WARNING = (
    "WARNING: authentication is disabled: anyone who reaches the port can hold conversations at your LLM's expense, as"
    " many as the machine can serve, with invented words, history and headers, and read every answer of your agent."
    " Accept only requests with a secret header (--require-header NAME=VALUE, and the same among the engine's"
    " request headers), or from known addresses (--allow-ips CIDR,...)"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    if sys.platform == "win32":
        print(f"se-server: {WINDOWS_SENTENCE}", file=sys.stderr)
        return EXIT_USAGE
    # Imported here: they import modules that do not exist on Windows.
    from se_server.errors import ConfigError
    from se_server.server.config.scripts import as_script
    from se_server.telemetry.log_writer import flush_logs

    words = as_script(sys.argv[1:] if arguments is None else arguments)
    try:
        if words[:1] == ["new"]:
            from se_server.cli import new

            if new.is_wanted(words):
                return new.main(words[1:])
        given = _read_command_line(words)
        return 0 if given is None else _serve(given, os.environ)
    except BrokenPipeError:  # `se-server --print-config | head`: nobody reads the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except ConfigError as error:
        complain(f"se-server: {error}\n", form=_form_of(words, os.environ))
        return EXIT_USAGE
    finally:
        flush_logs()


def _form_of(words: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return the format of the log as far as it is known when the options cannot be read: text or json."""
    from se_server.observe.formats import JsonFormatter

    form = environ.get("SE_SERVER_LOG_FORMAT", "")
    for place, word in enumerate(words):
        if word == "--log-format":
            form = words[place + 1] if place + 1 < len(words) else form
        elif word.startswith("--log-format="):
            form = word.partition("=")[2]
    if not form and any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers):
        form = "json"  # a file says so
    return str(form or _form_in_file(words, environ)).strip().lower() or "text"


def _form_in_file(words: Sequence[str], environ: Mapping[str, str]) -> object:
    from se_server.toml_file import read_toml

    places = [words[place + 1] for place, word in enumerate(words[:-1]) if word == "--config"]
    name = places[-1] if places else environ.get("SE_SERVER_CONFIG")
    try:
        return read_toml(name or os.devnull).get("log_format", "")
    except (OSError, ValueError, RecursionError):  # the error that is about to be shown may be about this file
        return ""


def command() -> click.Command:
    """Make the click command from the option table. Values stay text, which `load_config` reads."""
    import click

    from se_server import __version__
    from se_server.cli.grouped_help import GroupedCommand
    from se_server.server.config.options import HEADINGS, OPTIONS

    parameters: list[click.Parameter] = []
    # Help lists the headings in the order of HEADINGS.
    groups = {option.name: option.group for option in sorted(OPTIONS, key=lambda row: HEADINGS.index(row.group))}
    for option in OPTIONS:
        if option.positional:
            parameters.append(click.Argument([option.name], required=False, metavar=option.metavar))
            continue
        shown = "one blank" if option.default_text == " " else option.default_text
        default = f"  [default: {shown}]" if shown else ""
        parameters.append(
            click.Option(
                [option.flag],
                help=option.help + default,
                metavar=option.metavar or None,
                is_flag=option.is_flag,
                multiple=option.repeatable,
                default=None,
            )
        )
    parameters.append(click.Option(["--config"], metavar="FILE", help="Read options from a TOML file.", default=None))
    parameters.append(
        click.Option(
            ["--check"],
            is_flag=True,
            help="Check options, certificates, addresses and APP without serving; --check=startup runs on_startup.",
        )
    )
    parameters.append(click.Option(["--check-startup"], is_flag=True, hidden=True))
    parameters.append(
        click.Option(
            ["--print-config"],
            is_flag=True,
            help="Print the value and the source of every option, as TOML into a pipe, without serving.",
        )
    )
    parameters.append(
        click.Option(
            ["--print-schema"],
            is_flag=True,
            help="Print the JSON Schema of the configuration file, for editors, without serving.",
        )
    )
    return click.version_option(__version__, prog_name="se-server", message="%(prog)s %(version)s")(
        GroupedCommand(
            "se-server",
            groups=groups,
            params=parameters,
            callback=lambda **given: given,
            help=_ABOUT,
            epilog=_EPILOG,
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        )
    )


def _read_command_line(arguments: list[str]) -> dict[str, object] | None:
    """Return the options that were given; None if the answer was printed already (--help, --version)."""
    import click

    from se_server.cli.commands import sentence_of
    from se_server.cli.misplaced import about_app, about_extra
    from se_server.errors import ConfigError
    from se_server.server.config.config import HELP
    from se_server.server.config.options import OPTIONS
    from se_server.spelling import nearest

    try:
        words = [word for argument in arguments for word in _check_words(argument)]
        given = command().main(words, prog_name="se-server", standalone_mode=False)
    except click.NoSuchOption as error:
        known = [option.flag for option in OPTIONS if not option.positional] + ["--config", "--check", "--print-config"]
        known.append("--print-schema")
        if error.option_name == "--app":
            raise ConfigError("APP is given without an option: se-server APP") from None
        raise ConfigError(f"there is no option {error.option_name}{nearest(error.option_name, known, HELP)}") from None
    except click.ClickException as error:
        read = {} if not isinstance(error, click.UsageError) or error.ctx is None else error.ctx.params
        raise ConfigError(about_extra(error.format_message(), read, words) or sentence_of(error)) from None
    if not isinstance(given, dict):
        return None
    if problem := about_app(given.get("app") or ""):
        raise ConfigError(problem)
    return {name: value for name, value in given.items() if value is not None and value is not False and value != ()}


def _check_words(argument: str) -> tuple[str, ...]:
    """Return `--check=startup` as two flags: click's options have a value always or never."""
    from se_server.errors import ConfigError

    if not argument.startswith("--check="):
        return (argument,)
    if argument != "--check=startup":
        raise ConfigError(f"{argument}: --check alone or --check=startup was expected")
    return "--check", "--check-startup"


def _serve(given: Mapping[str, object], environ: Mapping[str, str]) -> int:
    from se_server.cli.aliases import alias_once
    from se_server.errors import ConfigError
    from se_server.observe.log_config import apply_log_config, read_log_config
    from se_server.observe.logs import setup_logging
    from se_server.server.config.config import load_config
    from se_server.server.config.environment import warn_of_unknown
    from se_server.server.shared.logfile import LogFile
    from se_server.server.supervisor.launch import serve
    from se_server.spelling import spelled
    from se_server.telemetry.log_writer import allow_threads

    def load() -> Config:
        config = load_config(given, environ)
        if page is not None:
            config = page.observed(config)
        log_config = None if config.program.log_config is None else read_log_config(config.program.log_config)
        setup_logging(config.program.log_level, config.program.log_format)
        aliased = alias_once(config.program.app, config.program.no_alias)
        if log_config is not None:
            apply_log_config(log_config, str(config.program.log_config))
        if aliased and not (given.get("check") or given.get("print_config")):
            log.info(aliased)
        warn_of_unknown(config.unknown)
        if not given.get("check"):  # which lists them itself
            for doubt in config.doubts():
                log.warning("%s", doubt)
        return config

    def terminal_of(config: Config, port: int | None) -> Terminal:
        is_open = any(
            each.route.disable_auth and not (each.access.is_restricted or config.listening.ca_certs)
            for each in config.routes or (config,)
        )
        if is_open:
            complain(NO_AUTH_WARNING + "\n", log_file, config.program.log_format, "warning")
        return Terminal(config, port, log_file, page)

    page: PlaygroundPage | None = None
    _settle_descriptors()
    if given.get("print_schema"):
        from se_server.cli.config_schema import print_schema

        print_schema()
        return 0
    if given.get("check") or given.get("print_config"):
        looked_at = load()
        try:
            return _look(looked_at, given)
        except ConfigError as error:
            raise type(error)(spelled(str(error), looked_at.sources)) from None
    faulthandler.enable(2)
    allow_threads(False)  # this process forks
    config = load_config(given, environ)
    log_file = None if config.program.log_file is None else LogFile(config.program.log_file)
    try:
        with _watching(config, given.get("config") or environ.get("SE_SERVER_CONFIG")), _playing(config) as page:
            code = serve(load, terminal_of, log_file)
            if code == 0:
                log.info("stopped")
            return code
    except ConfigError as error:
        if log_file is not None:
            log_file.give_back()  # the error goes to the terminal where the server was started
        raise type(error)(spelled(str(error), config.sources)) from None


def _watching(config: Config, config_file: object) -> AbstractContextManager[None]:
    """Watch the files of the APP with --reload."""
    if not config.program.reload:
        return nullcontext()
    from se_server.cli.watch import watching

    # Python compares compiled files by whole seconds and sizes, and would miss a quick change.
    sys.dont_write_bytecode = True
    places = [str(config_file)] if config_file else []
    return watching(config.apps(), places, config.program.log_level, config.program.log_format, config.program.log_file)


def _playing(config: Config) -> AbstractContextManager[PlaygroundPage | None]:
    """Serve the page of --playground."""
    if not config.playground.playground:
        return nullcontext()
    from se_server.cli.playing import playing

    return playing(config)


def _look(config: Config, given: Mapping[str, object]) -> int:
    from se_server.cli.checking import check
    from se_server.cli.show_config import print_config

    if given.get("print_config"):
        print_config(config)
    return check(config, with_startup=bool(given.get("check_startup"))) if given.get("check") else 0


def _settle_descriptors() -> None:
    """Make the standard descriptors safe to write to, from several processes."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:  # it was closed: a socket would take its number, and receive log lines
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    # Write whole lines at once: a killed worker loses the text in its buffers.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


if __name__ == "__main__":
    sys.exit(main())
