"""The options: their sources, their order, and the sentence when one is wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from se_server.cli.server import command
from se_server.conversation.settings import DEFAULT_SETTINGS
from se_server.demo import DEMO_API_KEY
from se_server.errors import ConfigError
from se_server.server.config.config import Config, load_config, read_addresses
from se_server.server.config.options import OPTIONS
from se_server.server.door.routes import KEY_VARIABLE
from se_server.server.shared import cpus

KEY = "sk_secret_of_the_test"


def load(*, env: dict[str, str] | None = None, **given: object) -> Config:
    return load_config(given, {KEY_VARIABLE: KEY} if env is None else env)


def sentence(*, env: dict[str, str] | None = None, **given: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load(env=env, **given)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_defaults_are_those_of_the_contract() -> None:
    config = load(app="agent")
    assert config.listening.host is None
    assert (config.listening.port, config.route.path, config.route.api_key) == (3001, None, (KEY,))
    assert (config.route.disable_auth, config.session.debug, config.program.log_level) == (False, False, "info")
    assert config.lifecycle.drain_timeout_s == 30.0
    assert config.session == DEFAULT_SETTINGS
    assert config.lifecycle.workers == cpus.usable_cpus() >= 1


def test_sources_have_an_order_of_precedence(tmp_path: Path) -> None:
    file = tmp_path / "se-server.toml"
    file.write_text('port = 1\npath = "/file"\ndrain_timeout_s = 3\nmax_message_bytes = "64KiB"\n')
    env = {KEY_VARIABLE: KEY, "SE_SERVER_PORT": "2", "SE_SERVER_PATH": "/env", "SE_SERVER_CONFIG": str(file)}
    config = load(env=env, port="3")
    assert (
        config.listening.port,
        config.route.path,
        config.lifecycle.drain_timeout_s,
        config.session.max_message_bytes,
    ) == (
        3,
        "/env",
        3.0,
        65536,
    )
    assert config.session.ping_interval_s == 20.0
    sources = {name: config.sources[name] for name in ("port", "path", "drain_timeout_s", "ping_interval_s")}
    assert sources == {
        "port": "--port",
        "path": "SE_SERVER_PATH",
        "drain_timeout_s": f"drain_timeout_s in {file}",
        "ping_interval_s": "default",
    }


def test_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load(app="agent").port = 1  # type: ignore[misc]


def test_every_option_is_a_flag_with_its_unit() -> None:
    names = {parameter.name for parameter in command().params}
    assert {option.name for option in OPTIONS} <= names
    for option in OPTIONS:
        if option.metavar == "SECONDS":
            assert option.name.endswith("_s")
        if option.metavar == "SIZE":
            assert option.name.endswith("_bytes")


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("workers", "4", 4),
        ("max_worker_rss", "512MiB", 512 << 20),
        ("max_worker_rss", "3GB", 3_000_000_000),
        ("max_worker_rss", 1 << 20, 1 << 20),
        ("max_worker_sessions", "1000", 1000),
        ("fd", ("3", "7"), (3, 7)),
        ("fd", 3, (3,)),
        ("host", "*", None),
        ("host", "", None),
        ("host", "[::1]", "::1"),
        ("port", 0, 0),
        ("path", "/ws", "/ws"),
        ("debug", "yes", True),
        ("debug", "off", False),
        ("log_level", "WARNING", "warning"),
        ("max_message_bytes", "1MiB", 1 << 20),
        ("max_message_bytes", "64kib", 1 << 16),
        ("max_message_bytes", "1.5 MiB", 3 << 19),
        ("max_message_bytes", "2MB", 2_000_000),
        ("max_message_bytes", 65536, 65536),
        ("ping_interval_s", "0.5", 0.5),
        ("drain_timeout_s", "0", 0.0),
        ("api_key", ("a,b", "c", "a"), ("a", "b", "c")),
    ],
)
def test_reads_a_value(name: str, raw: object, value: object) -> None:
    assert load(app="agent", **{name: raw}).value(name) == value


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("workers", "0"),
        ("max_worker_rss", "512"),
        ("max_worker_rss", "half"),
        ("max_worker_rss", "9" * 30),
        ("max_worker_sessions", "0"),
        ("hang_timeout_s", "0"),
        ("fd", "2"),
        ("fd", "-1"),
        ("workers", "2.5"),
        ("workers", "٣"),
        ("workers", True),
        ("host", "http://example.org/"),
        ("port", "65536"),
        ("port", "-1"),
        ("port", "1" * 5000),
        ("port", "0" * 12 + "99999999"),
        ("path", "ws"),
        ("path", "/ws?x=1"),
        ("path", "/healthz"),
        ("path", "/livez"),
        ("path", "/readyz"),
        ("path", "/available"),
        ("path", "/größe"),
        ("debug", "maybe"),
        ("log_level", "loud"),
        ("max_message_bytes", "10"),
        ("max_message_bytes", "1 apple"),
        ("max_message_bytes", "4GiB"),
        ("max_message_bytes", "9" * 400),
        ("ping_interval_s", "0"),
        ("ping_interval_s", "nan"),
        ("ping_interval_s", "inf"),
        ("drain_timeout_s", "-1"),
        ("drain_timeout_s", "30s"),
    ],
)
def test_wrong_value_is_one_sentence(name: str, raw: object) -> None:
    text = sentence(app="agent", **{name: raw})
    assert text.startswith(f"--{name.replace('_', '-')}: {raw!r} is not valid: expected ")


def test_wrong_value_in_the_environment_names_the_variable() -> None:
    assert sentence(env={"SE_SERVER_PORT": "abc"}) == (
        "SE_SERVER_PORT: 'abc' is not valid: expected a port from 0 to 65535"
    )


def test_an_unknown_variable_names_the_nearest() -> None:
    text = sentence(env={"SE_SERVER_PROT": "1"})
    assert text == "SE_SERVER_PROT in the environment is not an option; did you mean SE_SERVER_PORT?"


def test_unknown_key_of_the_file_names_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "se-server.toml"
    file.write_text("drain_timeout = 3\n")
    assert sentence(config=str(file)) == f"drain_timeout in {file} is not an option; did you mean drain_timeout_s?"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"playground_port": "0"}, "--playground-port is for --playground: give --playground too"),
        ({"no_open": True}, "--no-open is for --playground"),
        ({"no_alias": True}, "--no-alias is for se-server run FILE: leave it out"),
        ({"record_max_bytes": "1GiB"}, "--record-max-bytes is for recordings"),
    ],
)
def test_a_flag_without_effect_is_refused(given: dict[str, object], words: str) -> None:
    """A file or an environment may serve several starts; what was typed now was meant for this one."""
    assert words in sentence(app="agent", **given)
    env = {KEY_VARIABLE: KEY, **{f"SE_SERVER_{name.upper()}": str(value) for name, value in given.items()}}
    load(app="agent", env=env)
    load(app="run agent.py", playground=True, record="full", **given)


def test_an_overridden_value_must_be_right(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("workers = [1, 2]\n")
    assert sentence(app="agent", workers="2", config=str(tmp_path / "x.toml")).startswith("workers in ")
    assert sentence(app="agent", port="1", env={"SE_SERVER_PORT": "x"}).startswith("SE_SERVER_PORT: 'x'")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"check = true", "check in {} is for the command line only: give --check there"),
        (b"print_config = true", "print_config in {} is for the command line only: give --print-config there"),
        (b"port: 3001", "(at line 1, column 5); write NAME = VALUE"),
        (b"host = localhost", "(at line 1, column 8); texts stand in quotes"),
        (b'{"port": 3001}', "it looks like JSON: write NAME = VALUE, one a line"),
        (b"\xff\xfep\0", "the configuration file {} is not valid TOML: it is not a text in UTF-8"),
    ],
)
def test_a_mistake_in_the_file_names_the_way_out(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "se.toml"
    file.write_bytes(content)
    assert words.format(file) in sentence(app="agent", config=str(file))
    file.write_bytes(b"\xef\xbb\xbfport = 7")
    assert load(app="agent", config=str(file)).listening.port == 7


def test_a_broken_or_missing_file_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "se-server.toml"
    assert "No such file" in sentence(config=str(file))
    file.write_text("port = = 3\n")
    assert "not valid TOML" in sentence(config=str(file))
    for content in (b"\xff\xfe", b"port = " + b"9" * 5000, b"port = " + b"[" * 5000):
        file.write_bytes(content)
        assert "not valid TOML" in sentence(config=str(file))


def test_a_blank_variable_is_as_good_as_none() -> None:
    assert (
        load(env={"SE_SERVER_PORT": "", "SE_SERVER_HOST": " ", KEY_VARIABLE: KEY}, app="agent").listening.port == 3001
    )


def test_service_variables_of_kubernetes_are_ignored() -> None:
    env = {
        "SE_SERVER_PORT": "tcp://10.0.0.7:3001",
        "SE_SERVER_SERVICE_HOST": "10.0.0.7",
        "SE_SERVER_SERVICE_PORT": "3001",
        "SE_SERVER_SERVICE_PORT_WS": "3001",
        "SE_SERVER_PORT_3001_TCP": "tcp://10.0.0.7:3001",
        "SE_SERVER_PORT_3001_TCP_ADDR": "10.0.0.7",
    }
    assert load(env=env).listening.port == 3001


@pytest.mark.parametrize("service", ["SE_SERVER", "SE_SERVER_CANARY", "SE_SERVER_EU_WEST", "SE_SERVER_ALLOW_IPS_2"])
def test_variables_of_linked_services_are_passed_over(service: str) -> None:
    env = {
        f"{service}_PORT": "tcp://10.0.0.7:3001",
        f"{service}_SERVICE_HOST": "10.0.0.7",
        f"{service}_SERVICE_PORT": "3001",
        f"{service}_SERVICE_PORT_WS": "3001",
        f"{service}_PORT_3001_TCP": "tcp://10.0.0.7:3001",
        f"{service}_PORT_3001_TCP_PROTO": "tcp",
        f"{service}_PORT_3001_TCP_PORT": "3001",
        f"{service}_PORT_3001_TCP_ADDR": "10.0.0.7",
        f"{service}_PORT_53_UDP": "udp://10.0.0.7:53",
        f"{service}_NAME": "/web/agent",
        f"{service}_ENV_API_KEY": "sk_linked",
        f"{service}_ENV_PATH": "/usr/bin",
    }
    config = load(env=env)
    named_as_option = ("SE_SERVER_PORT",) if service == "SE_SERVER" else ()
    assert (config.listening.port, config.route.api_key, config.unknown) == (3001, (DEMO_API_KEY,), named_as_option)


@pytest.mark.parametrize("service", ["SE_SERVER", "SE_SERVER_CANARY"])
def test_variables_of_links_without_ports_are_passed_over(service: str) -> None:
    env = {f"{service}_NAME": "/web/se_server", f"{service}_ENV_PATH": "/usr/bin", f"{service}_ENV_API_KEY": "sk_link"}
    config = load(env=env)
    assert (config.route.api_key, set(config.unknown) - {f"{service}_NAME"}) == ((DEMO_API_KEY,), set())


def test_an_option_in_lower_case_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"did you mean SE_SERVER_ALLOW_IPS\?"):
        load(env={"se_server_allow_ips": "10.0.0.0/8"})


@pytest.mark.parametrize("name", ["VERSION", "COMMIT", "IMAGE", "RELEASE", "NAME", "ENVIRONMENT", "URL"])
def test_a_variable_that_resembles_no_option_is_kept(name: str) -> None:
    """It is logged when the server starts."""
    assert load(env={f"SE_SERVER_{name}": "1"}).unknown == (f"SE_SERVER_{name}",)


@pytest.mark.parametrize(
    "name",
    [
        "ALLOW_IP",
        "IP_ALLOWLIST",
        "WHITELIST",
        "AUTH",
        "TLS_CERT",
        "REQUIRED_HEADERS",
        "APIKEYS",
        "PROT",
        "HOSTNAME",
        "port",
    ],
)
def test_nearly_an_option_is_refused(name: str) -> None:
    """The server would start without a protection, or in another place."""
    assert f"SE_SERVER_{name} in the environment is not an option" in sentence(env={f"SE_SERVER_{name}": "1"})


# --- keys -----------------------------------------------------------------------------------------------------------


def test_keys_of_a_file_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# rotated on Monday\nnew\n\n  old  \n")
    assert load(app="agent", api_key_file=str(file)).route.api_key == ("new", "old")
    assert load(app="agent", api_key_file=str(file), api_key=("own",)).route.api_key == ("own", "new", "old")


def test_key_of_a_higher_source_wins(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("from_file\n")
    env = {"SE_SERVER_API_KEY_FILE": str(file)}
    assert load(env=env, app="agent", api_key=("own",)).route.api_key == ("own",)
    assert load(env={"SE_SERVER_API_KEY": "own"}, app="agent", api_key_file=str(file)).route.api_key == ("from_file",)


def test_unusable_key_file_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    assert f"cannot read {file}" in sentence(api_key_file=str(file))
    file.write_text("# nothing\n")
    assert "holds no key" in sentence(api_key_file=str(file))
    for content in (
        "my key: sk_secret\n",
        "sk_good\nsk_secret sk_other\n",
        "ELEVENLABS_API_KEY=sk_secret\n",
        '"sk_secret\n',
    ):
        file.write_text(content, encoding="utf-8")
        text = sentence(api_key_file=str(file))
        assert "a line that is not a key" in text
        assert "sk_" not in text
    file.write_text("sk_secret\n", encoding="utf-16")
    assert "is not a text file in UTF-8" in sentence(api_key_file=str(file))


@pytest.mark.parametrize(
    "text", ['"sk_own"', "'sk_own'", "\ufeffsk_own", "sk_own\r\n", ' "sk_own"\n', "\ufeff'sk_own'\r", '"sk_own,sk_own"']
)
def test_marks_around_a_key_are_removed(text: str, tmp_path: Path) -> None:
    assert load(env={KEY_VARIABLE: text}).route.api_key == ("sk_own",)
    assert load(env={"SE_SERVER_API_KEY": text}).route.api_key == ("sk_own",)
    if "," not in text:
        (tmp_path / "key").write_bytes(text.encode())
        assert load(env={}, api_key_file=str(tmp_path / "key")).route.api_key == ("sk_own",)


@pytest.mark.parametrize("text", ['"sk_own', "sk_own'", "sk_ówn", "sk\u200b_own", "ELEVENLABS_API_KEY=sk_own"])
def test_text_that_is_no_key_is_refused(text: str) -> None:
    said = sentence(env={KEY_VARIABLE: text})
    assert said.startswith(KEY_VARIABLE)
    assert "own" not in said


def test_elevenlabs_variable_is_the_last_resort() -> None:
    env = {KEY_VARIABLE: "general", "SE_SERVER_API_KEY": "a, b"}
    assert load(env=env).route.api_key == ("a", "b")
    assert load(env={KEY_VARIABLE: "general"}).route.api_key == ("general",)


def test_no_secret_is_shown() -> None:
    config = load(app="agent", api_key=(KEY,))
    assert KEY not in repr(config)
    assert KEY not in str(config.rows())
    assert "api_key=****" in repr(config)
    assert "two words" not in sentence(api_key=("two words",))


# --- the demo agent -------------------------------------------------------------------------------------------------


def test_demo_agent_without_a_key_binds_loopback() -> None:
    config = load(env={})
    assert (config.listening.host, config.route.api_key, config.demo_key) == ("127.0.0.1", (DEMO_API_KEY,), True)


def test_demo_key_is_never_served_beyond_loopback() -> None:
    assert "loopback only" in sentence(env={}, host="0.0.0.0")
    assert load(env={}, host="::1").demo_key


def test_demo_agent_with_a_key_binds_any_host() -> None:
    assert load().listening.host is None
    assert not load().demo_key
    config = load(env={}, disable_auth=True)
    assert (config.listening.host, config.route.api_key, config.demo_key) == (None, (), False)


def test_an_app_never_gets_the_demo_key() -> None:
    assert load(env={}, app="agent").route.api_key == ()


# --- CPUs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_cpu_quota_of_both_versions_of_control_groups(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    assert cpus.cpu_quota(str(tmp_path)) == quota


@pytest.mark.parametrize("reported", [[], [1], [{"port": 3001}, None], [{"port": "x"}], [{"host": {}}], [{"uds": 7}]])
def test_reported_addresses_are_read_like_options(reported: list[object]) -> None:
    """A worker runs code of the user: its report stops the start with a sentence, never the supervisor."""
    with pytest.raises(ConfigError):
        read_addresses(reported)
    assert read_addresses([{"host": "*", "port": 0, "path": "/ws"}]) == [{"host": None, "port": 0}]
