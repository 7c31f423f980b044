"""The control socket bounds the requests, the number and the time of its clients."""

from __future__ import annotations

import json
import os
import select
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from se_server.errors import ConfigError
from se_server.server.supervisor import control_socket as control_socket_module
from se_server.server.supervisor.control_socket import (
    MAX_ANSWER_BYTES,
    MAX_CLIENTS,
    MAX_REQUEST_BYTES,
    Client,
    ControlSocket,
    default_path,
)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "ctl")


@pytest.fixture
def control_socket(path: str) -> Iterator[ControlSocket]:
    made = ControlSocket(path, required=True)
    made.open()
    yield made
    made.remove()


def connect(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(5)
    connection.connect(path)
    return connection


def requests(control_socket: ControlSocket) -> list[tuple[Client, dict[str, object]]]:
    """Wait as the supervisor does, and return the requests that have arrived."""
    poll = select.poll()
    control_socket.register(poll)
    assert poll.poll(5000)
    return control_socket.take()


@pytest.mark.usefixtures("control_socket")
def test_only_its_user_may_connect(path: str) -> None:
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600


def test_a_request_in_pieces_is_answered(control_socket: ControlSocket, path: str) -> None:
    with connect(path) as connection:
        connection.sendall(b'{"command": ')
        assert requests(control_socket) == []
        connection.sendall(b'"status"}\n')
        ((client, request),) = requests(control_socket)
        assert request == {"command": "status"}
        client.answer({"big": "x" * 5_000_000})
        data = b""
        while not data.endswith(b"\n"):
            data += connection.recv(1 << 20)
            control_socket.take()
        assert len(json.loads(data)["big"]) == 5_000_000
        assert connection.recv(1) == b""


@pytest.mark.parametrize("sent", [b"nonsense\n", b"[1]\n", b"\xff\n", b"x" * (MAX_REQUEST_BYTES + 1)])
def test_an_invalid_request_gets_an_error(control_socket: ControlSocket, path: str, sent: bytes) -> None:
    with connect(path) as connection:
        connection.sendall(sent)
        assert requests(control_socket) == []
        assert b"a request is one JSON object" in connection.recv(1000)


def sleeps(control_socket: ControlSocket) -> bool:
    """Whether nothing wakes the supervisor up."""
    poll = select.poll()
    control_socket.register(poll)
    return poll.poll(0) == []


def test_a_request_takes_the_place_of_a_silent_client(control_socket: ControlSocket, path: str) -> None:
    crowd = [connect(path) for _ in range(MAX_CLIENTS)]
    requests(control_socket)
    assert sleeps(control_socket)
    late = connect(path)
    late.sendall(b'{"command": "status"}\n')
    ((client, request),) = requests(control_socket)
    assert request == {"command": "status"}
    assert crowd[0].recv(1) == b""
    assert sleeps(control_socket)
    client.answer({})
    assert late.recv(100) == b"{}\n"
    for connection in (*crowd, late):
        connection.close()


def test_silent_clients_are_limited_in_time(
    control_socket: ControlSocket, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(path) as silent:
        requests(control_socket)
        (due,) = control_socket.next_due()
        monkeypatch.setattr(control_socket_module.time, "monotonic", lambda: due)
        control_socket.take()
        assert silent.recv(1) == b""


def test_clients_that_wait_for_workers_keep_their_places(
    control_socket: ControlSocket, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = [connect(path) for _ in range(MAX_CLIENTS)]
    for connection in crowd:
        connection.sendall(b'{"command": "calls"}\n')
    asked = requests(control_socket)
    assert len(asked) == MAX_CLIENTS
    late = connect(path)
    late.sendall(b'{"command": "status"}\n')
    assert sleeps(control_socket)
    asked[0][0].answer({"rows": "x" * 5_000_000})  # which its client does not read
    assert sleeps(control_socket)
    due = min(control_socket.next_due())
    monkeypatch.setattr(control_socket_module.time, "monotonic", lambda: due)
    ((_, request),) = requests(control_socket)
    assert request == {"command": "status"}
    for connection in (*crowd, late):
        connection.close()


@pytest.mark.parametrize("text", ["x" * (MAX_ANSWER_BYTES + 1), "\udcff.key"])
def test_any_text_can_be_answered(control_socket: ControlSocket, path: str, text: str) -> None:
    with connect(path) as connection:
        connection.sendall(b'{"command": "reload"}\n')
        ((client, _),) = requests(control_socket)
        client.answer({"error": text})
        answer = json.loads(connection.recv(1000))["error"]
        assert answer == ("\\udcff.key" if len(text) < 10 else "the answer is larger than 16 MiB")


def test_a_client_that_leaves_lets_poll_sleep(control_socket: ControlSocket, path: str) -> None:
    connection = connect(path)
    connection.sendall(b'{"command": "calls"}\n')
    ((client, _),) = requests(control_socket)
    connection.close()
    requests(control_socket)
    assert client.closed
    poll = select.poll()
    control_socket.register(poll)
    assert poll.poll(0) == []


def test_a_path_in_use_is_refused(control_socket: ControlSocket, path: str) -> None:
    with pytest.raises(ConfigError, match=f"control_socket: {path} is already in use"):
        ControlSocket(path, required=True).open()
    control_socket.close()
    again = ControlSocket(path, required=True)
    again.open()
    again.remove()
    assert not Path(path).exists()


def test_the_next_supervisor_takes_over_the_path(control_socket: ControlSocket, path: str) -> None:
    following = ControlSocket(path, required=True)
    following.open(replace=True)
    control_socket.remove()
    with connect(path) as connection:
        connection.sendall(b'{"command": "status"}\n')
        assert len(requests(following)) == 1
    following.remove()
    assert list(Path(path).parent.iterdir()) == []


def test_the_default_path_follows_pidfile_or_runtime_directory(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert default_path("/run/agent.pid", environ) == "/run/agent.pid.ctl"
    assert default_path(None, environ) == f"{tmp_path}/se-server-{os.getpid()}.ctl"
