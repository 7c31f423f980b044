"""The address of the observer: what is accepted, and what would let everybody in."""

from __future__ import annotations

from pathlib import Path

import pytest

from se_server.errors import ConfigError
from se_server.server.listen.admin import Admin, address, open_admin, read_tokens

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize("given", ["127.0.0.1:9100", "[::1]:0", "localhost:65535", "*:9100", "/run/x.sock", "./x"])
def test_addresses_and_paths_are_accepted(given: str) -> None:
    assert address(f" {given} ") == given


@pytest.mark.parametrize("given", ["", "9100", ":9100", "127.0.0.1", "::1:9100", "a:70000", "a:b", 9100, None, "a@b:1"])
def test_everything_else_is_refused_with_the_form(given: object) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        address(given)


def test_loopback_needs_no_token() -> None:
    opened = open_admin(Admin("127.0.0.1:0"))
    assert opened is not None
    try:
        assert opened.is_local
        assert opened.url.startswith("http://127.0.0.1:")
        assert opened.host == "127.0.0.1"
    finally:
        opened.close()


def test_other_addresses_need_a_token_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--admin-token-file"):
        open_admin(Admin("0.0.0.0:0"))
    (tmp_path / "tokens").write_text(TOKEN)
    opened = open_admin(Admin("0.0.0.0:0", str(tmp_path / "tokens")))
    assert opened is not None
    opened.close()
    assert not opened.is_local
    assert opened.tokens == (TOKEN,)


def test_a_token_file_alone_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="give --admin"):
        open_admin(Admin(None, "tokens"))


def test_tokens_are_lines_without_comments(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"\ufeff# of Ann\n{TOKEN}\n\n  {TOKEN}2  \n")
    assert read_tokens(str(tmp_path / "tokens")) == (TOKEN, TOKEN + "2")


@pytest.mark.parametrize("text", ["", "# none\n", "short\n", f"{TOKEN}\nshort", "péché-mignon-très-long", "\0" * 20])
def test_files_without_usable_tokens_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_tokens(str(tmp_path / "tokens"))
    assert "short" not in str(caught.value).replace("is too short", "")
    with pytest.raises(ConfigError, match="cannot read"):
        read_tokens(str(tmp_path / "missing"))


def test_an_address_that_is_taken_names_the_option() -> None:
    first = open_admin(Admin("127.0.0.1:0"))
    assert first is not None
    try:
        with pytest.raises(ConfigError, match="already in use"):
            open_admin(Admin(first.url.removeprefix("http://").rstrip("/")))
    finally:
        first.close()
