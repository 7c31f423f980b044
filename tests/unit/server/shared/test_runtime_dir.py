"""The directories of control sockets are the user's own, and se-ctl looks where servers put them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from se_server.cli.ctl import CtlError, find_socket
from se_server.errors import ConfigError
from se_server.server.shared import runtime_dir
from se_server.server.shared.runtime_dir import control_sockets, runtime_directory

USER = os.geteuid()


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A directory for /run, and one for temporary files."""
    run, temporary = tmp_path / "run", tmp_path / "tmp"
    run.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(runtime_dir, "RUN", str(run))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    return run, temporary


def mode(path: str) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_a_directory_below_run_is_made(places: tuple[Path, Path]) -> None:
    run, _ = places
    for _ in range(2):
        found = runtime_directory({})
        assert (found, mode(found)) == (f"{run}/se-server-{USER}", 0o700)


def test_the_temporary_directory_replaces_a_missing_run(places: tuple[Path, Path]) -> None:
    run, temporary = places
    run.rmdir()
    found = runtime_directory({"XDG_RUNTIME_DIR": str(run / "user")})
    assert (found, mode(found)) == (f"{temporary}/se-server-{USER}", 0o700)


def test_directories_of_the_login_come_first(places: tuple[Path, Path], tmp_path: Path) -> None:
    run, _ = places
    (run / "user" / str(USER)).mkdir(parents=True, mode=0o700)
    assert runtime_directory({}) == f"{run}/user/{USER}"
    assert runtime_directory({"XDG_RUNTIME_DIR": str(tmp_path)}) == str(tmp_path)


def test_links_and_open_directories_are_not_used(places: tuple[Path, Path], tmp_path: Path) -> None:
    run, temporary = places
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (run / f"se-server-{USER}").symlink_to(tmp_path / "elsewhere")
    (temporary / f"se-server-{USER}").mkdir()
    (temporary / f"se-server-{USER}").chmod(0o755)
    with pytest.raises(ConfigError) as caught:
        runtime_directory({})
    assert f"{run}/se-server-{USER} is a link or a file" in str(caught.value)
    assert f"{temporary}/se-server-{USER} is open to other users" in str(caught.value)
    for folder in (tmp_path / "elsewhere", temporary / f"se-server-{USER}"):
        (folder / "se-server-1.ctl").touch()
    assert not any(control_sockets({}))


@pytest.mark.skipif(USER != 0, reason="only root can give a directory away")
def test_directory_of_another_user_is_not_used(places: tuple[Path, Path]) -> None:
    run, temporary = places
    (run / "se-server-0").mkdir(mode=0o700)
    os.chown(run / "se-server-0", 1234, 1234)
    (run / "se-server-0" / "se-server-1.ctl").touch()
    assert runtime_directory({}) == f"{temporary}/se-server-0"
    assert not any(control_sockets({}))


@pytest.mark.skipif(USER != 0, reason="root sees the sockets of all users")
def test_root_finds_the_sockets_of_other_users(places: tuple[Path, Path]) -> None:
    run, temporary = places
    for folder, owner in ((run / "user" / "1234", 1234), (temporary / "se-server-77", 77), (run / "se-server-5", 6)):
        folder.mkdir(parents=True, mode=0o700)
        os.chown(folder, owner, owner)
        (folder / "se-server-1.ctl").touch()
    *own, others = control_sockets({})
    assert not any(own)
    assert others == [f"{run}/user/1234/se-server-1.ctl", f"{temporary}/se-server-77/se-server-1.ctl"]


def test_without_a_server_the_ways_out_are_named(places: tuple[Path, Path]) -> None:
    path = Path(runtime_directory({}), "se-server-7.ctl")
    path.touch()  # a server that was killed leaves its socket
    with pytest.raises(CtlError, match="no server found: give --socket PATH, the path that the server logs"):
        find_socket(None, {})


def test_sockets_are_found_where_servers_put_them(places: tuple[Path, Path], tmp_path: Path) -> None:
    """The environments of the server and of se-ctl may differ."""
    path = Path(runtime_directory({}), "se-server-7.ctl")
    path.touch()
    for environ in ({}, {"XDG_RUNTIME_DIR": str(tmp_path)}, {"XDG_RUNTIME_DIR": ""}):
        assert [found for found in control_sockets(environ) if found] == [[str(path)]]
