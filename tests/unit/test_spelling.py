"""Suggestions for unknown names, and names of options in the spelling of their place."""

from __future__ import annotations

import pytest

from se_server.server.config.config import load_config
from se_server.server.config.options import OPTIONS
from se_server.spelling import nearest, spelled
from tests.unit.server.config.test_config import sentence

FLAGS = [option.flag for option in OPTIONS]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--bind", "--host"), ("-b", "--host"), ("-w", "--workers"), ("--worker", "--workers"), ("-p", "--port"),
        ("--ssl-keyfile", "--keyfile"), ("--cafile", "--ca-certs"), ("--forwarded-allow-ips", "--trusted-proxies"),
        ("--max-conversations", "--max-sessions"), ("--drain", "--drain-timeout-s"), ("--prot", "--port"),
        ("--no-auth", "--disable-auth"), ("--cert", "--certfile"), ("--reload-dir", "--reload"),
        ("--worker-timeout", "--hang-timeout-s"),
    ],
)  # fmt: skip
def test_a_foreign_name_has_its_meaning(given: str, meant: str) -> None:
    assert nearest(given, FLAGS, "se-server --help") == f"; did you mean {meant}?"


@pytest.mark.parametrize("given", ["--xyz", "-q", "-z", "--qqqqqqq"])
def test_a_name_like_no_other_gets_the_help(given: str) -> None:
    assert nearest(given, FLAGS, "se-server --help") == "; se-server --help lists all"


def test_few_names_are_all_known() -> None:
    assert nearest("purple", ["one", "two"]) == "; known are one, two"


def test_options_of_a_file_are_named_as_there(tmp_path: object) -> None:
    file = f"{tmp_path}/agent.toml"
    with open(file, "w") as opened:
        opened.write("proxy_protocol = true\n")
    assert sentence(config=file).startswith(f"proxy_protocol in {file} is believed from")
    assert "(trusted_proxies, such as" in sentence(config=file)


def test_options_of_the_environment_are_named_as_there() -> None:
    said = sentence(env={"SE_SERVER_FIRST_WORD_AFTER_S": "1"})
    assert said.startswith("SE_SERVER_FIRST_WORD_AFTER_S and SE_SERVER_FIRST_WORD_TEXT need each other")


def test_options_of_the_command_line_are_named_as_there() -> None:
    assert sentence(proxy_protocol=True).startswith("--proxy-protocol is believed from")
    assert "(--trusted-proxies, such as" in sentence(proxy_protocol=True)


def test_later_errors_take_the_place_of_the_option() -> None:
    sources = load_config({}, {"SE_SERVER_KEYFILE": "key.pem", "ELEVENLABS_API_KEY": "sk_1"}).sources
    said = spelled("--keyfile key.pem has no effect without a certificate: give --certfile FILE, too", sources)
    assert said == ("SE_SERVER_KEYFILE key.pem has no effect without a certificate: give SE_SERVER_CERTFILE FILE, too")


def test_a_short_name_at_the_beginning_is_an_option() -> None:
    sources = load_config({}, {"ELEVENLABS_API_KEY": "sk_1", "SE_SERVER_HOST": "300.1.1.1"}).sources
    assert spelled("host '300.1.1.1' is unknown", sources) == "SE_SERVER_HOST '300.1.1.1' is unknown"
    assert spelled("uds: cannot listen on /x", sources) == "--uds: cannot listen on /x"
    assert spelled("path: a word", {}) == "path: a word"


def test_words_that_are_no_options_stay() -> None:
    sources = load_config({}, {"ELEVENLABS_API_KEY": "sk_1", "SE_SERVER_PATH": "/x"}).sources
    for text in ("cannot read /etc/max_sessions.pem", "the path a/turn_timeout_s", "an --unknown-thing", "a path"):
        assert spelled(text, sources) == text


def test_a_section_of_the_file_is_explained(tmp_path: object) -> None:
    file = f"{tmp_path}/agent.toml"
    with open(file, "w") as opened:
        opened.write("[server]\nworkers = 2\n")
    assert sentence(config=file) == (
        f"[server] in {file}: options have no section: write workers = ... at the top of the file"
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("10.0.0", "10.0.0 is the beginning of an address: write 10.0.0.0/24"),
        ("10.", "write 10.0.0.0/8"),
        ("192.168", "write 192.168.0.0/16"),
        ("10.0.0.1/8", "10.0.0.1/8 is an address within the block 10.0.0.0/8"),
        ("example.com", "such as 203.0.113.7,10.0.0.0/8,2001:db8::1"),
    ],
)
def test_half_an_address_is_completed(given: str, said: str) -> None:
    text = sentence(allow_ips=(given,))
    assert text.startswith(f"--allow-ips: {given!r} is not valid: expected addresses or blocks")
    assert said in text
