"""The desk bounds what whoever reaches its socket can ask for, hold and wait for."""

from __future__ import annotations

import json
import select
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from se_server.errors import ConfigError
from se_server.server.supervisor import control_socket as control_socket_module
from se_server.server.supervisor.control_socket import MAX_CLIENTS, MAX_REQUEST_BYTES, Client, Desk, default_path


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "ctl")


@pytest.fixture
def desk(path: str) -> Iterator[Desk]:
    made = Desk(path, required=True)
    made.open()
    yield made
    made.remove()


def connect(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(5)
    connection.connect(path)
    return connection


def requests(desk: Desk) -> list[tuple[Client, dict[str, object]]]:
    """Wait as the supervisor does, and return what has come."""
    poll = select.poll()
    desk.register(poll)
    assert poll.poll(5000)
    return desk.take()


def test_only_its_user_may_come(desk: Desk, path: str) -> None:
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600


def test_a_request_in_pieces_is_answered_when_it_is_whole(desk: Desk, path: str) -> None:
    with connect(path) as connection:
        connection.sendall(b'{"command": ')
        assert requests(desk) == []
        connection.sendall(b'"status"}\n')
        ((client, request),) = requests(desk)
        assert request == {"command": "status"}
        client.answer({"big": "x" * 5_000_000})
        data = b""
        while not data.endswith(b"\n"):
            data += connection.recv(1 << 20)
            desk.take()
        assert len(json.loads(data)["big"]) == 5_000_000
        assert connection.recv(1) == b""


@pytest.mark.parametrize("sent", [b"nonsense\n", b"[1]\n", b"\xff\n", b"x" * (MAX_REQUEST_BYTES + 1)])
def test_what_is_no_request_is_told_so(desk: Desk, path: str, sent: bytes) -> None:
    with connect(path) as connection:
        connection.sendall(sent)
        assert requests(desk) == []
        assert b"a request is one JSON object" in connection.recv(1000)


def test_who_says_nothing_is_given_up_and_no_more_than_a_few_can_wait(
    desk: Desk, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = [connect(path) for _ in range(MAX_CLIENTS)]
    requests(desk)
    late = connect(path)
    late.sendall(b'{"command": "status"}\n')
    poll = select.poll()
    desk.register(poll)
    assert poll.poll(0) == []  # nothing to do until somebody goes: the supervisor sleeps
    due = max(desk.next_due())
    monkeypatch.setattr(control_socket_module.time, "monotonic", lambda: due)
    desk.take()
    ((_, request),) = requests(desk)
    assert request == {"command": "status"}
    for connection in (*crowd, late):
        connection.close()


def test_who_goes_before_the_answer_does_not_keep_the_supervisor_awake(desk: Desk, path: str) -> None:
    connection = connect(path)
    connection.sendall(b'{"command": "calls"}\n')
    ((client, _),) = requests(desk)
    connection.close()
    requests(desk)
    assert client.closed
    poll = select.poll()
    desk.register(poll)
    assert poll.poll(0) == []


def test_a_path_in_use_is_refused_and_that_of_one_that_was_killed_is_not(desk: Desk, path: str) -> None:
    with pytest.raises(ConfigError, match=f"control_socket: {path} is already in use"):
        Desk(path, required=True).open()
    desk.close()
    again = Desk(path, required=True)
    again.open()
    again.remove()
    assert not Path(path).exists()


def test_a_supervisor_that_follows_takes_the_path_and_the_old_one_leaves_it(desk: Desk, path: str) -> None:
    following = Desk(path, required=True)
    following.open(replace=True)
    desk.remove()
    with connect(path) as connection:
        connection.sendall(b'{"command": "status"}\n')
        assert len(requests(following)) == 1
    following.remove()
    assert list(Path(path).parent.iterdir()) == []


def test_the_default_is_beside_the_pidfile_or_among_the_users_files_or_nowhere() -> None:
    assert default_path("/run/agent.pid", {"XDG_RUNTIME_DIR": "/run/user/7"}) == "/run/agent.pid.ctl"
    found = default_path(None, {"XDG_RUNTIME_DIR": "/run/user/7"})
    assert found is not None
    assert found.startswith("/run/user/7/se-server-")
    assert default_path(None, {"XDG_RUNTIME_DIR": ""}) is None
