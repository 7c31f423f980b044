"""An upgrade whose old or new supervisor is killed at any step: docs/design/upgrades.md has the table of outcomes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import WebSocketException

from tests.functional.processes import call, needs_proc, write_agent
from tests.functional.test_se_ctl import run
from tests.helpers import ServerProcess, running_server, wait_for_end, wait_for_text

pytestmark = needs_proc

# Kills the old or the new supervisor before or after one of its steps.
HOOK = """
    import os, signal
    step = os.environ.get("CHAOS_STEP", "")
    is_new = "_SE_SERVER_HANDOVER" in os.environ
    who, _, rest = step.partition(" ")
    if step and (who == "new") == is_new:
        import se_server.server.supervisor.launch as launch
        from se_server.server.supervisor import control_socket, pidfile, pool, rollout, supervisor, upgrade
        from se_server.server.worker import worker
        supervisor_pid = os.getpid()
        places = {
            "inherits": (upgrade.Handover, "take"),
            "opens": (launch.Places, "_take_over"),
            "forks": (pool.Pool, "fork"),
            "announces": (launch._Announcer, "ready"),
            "names itself": (pidfile.PidFile, "write"),
            "takes the control socket": (control_socket.ControlSocket, "open"),
            "reports": (upgrade.Handover, "report_ready"),
            "starts the other": (launch, "begin_upgrade"),
            "hands over": (launch._Announcer, "handed_over"),
            "drains": (pool.Pool, "drain"),
            "begins": (rollout.Rollout, "begin"),
            "sees ready": (rollout.Rollout, "became_ready"),
            "worker": (launch, "run_worker"),
            "worker serves": (worker.Watchdog, "attach"),
        }
        when, _, name = rest.partition(" ")
        owner, attribute = places[name]
        real = getattr(owner, attribute)
        def step_of(*args, **options):
            def die():
                armed = is_new or os.path.exists(os.environ["CHAOS_ARMED"])
                if (os.getpid() == supervisor_pid) != name.startswith("worker") and armed:
                    if name.startswith("worker"):
                        os.unlink(os.environ["CHAOS_ARMED"])  # only the first one
                    os.kill(os.getpid(), signal.SIGKILL)
            if when == "before":
                die()
            result = real(*args, **options)
            die()
            return result
        setattr(owner, attribute, classmethod(lambda cls, *args: step_of(*args)) if attribute == "take" else step_of)
"""

NEW_DIES = [
    "new before inherits",
    "new before opens",
    "new after opens",
    "new before forks",
    "new after forks",
    "new before announces",
    "new after names itself",
    "new after takes the control socket",
    "new before reports",
]
OLD_DIES = ["old after starts the other", "old before hands over", "old after hands over", "old after drains"]


@pytest.fixture
def armed(tmp_path: Path) -> Path:
    return tmp_path / "armed"


@pytest.fixture
def server(tmp_path: Path, armed: Path, request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(textwrap.dedent(HOOK))
    env = {"PYTHONPATH": str(site), "CHAOS_STEP": request.param, "CHAOS_ARMED": str(armed)}
    app = write_agent(tmp_path / "agent.py")
    options = ("--pidfile", str(tmp_path / "pid"), "--drain-timeout-s", "30", "--reload-drain-timeout-s", "30")
    with running_server(*options, app=app, workers=1, env=env) as running:
        yield running


async def pid_of_supervisor(server: ServerProcess) -> int:
    """Return the supervisor whose worker answers a new conversation."""
    async with call(server) as caller:
        return (await caller.who())[0]


def is_server(pid: int) -> bool:
    """Whether a process is a supervisor: the parent of an orphaned worker is init, or what stands for it."""
    with contextlib.suppress(OSError):
        return "se_server" in Path(f"/proc/{pid}/cmdline").read_text()
    return False


async def until_serving(server: ServerProcess, *, but: int = 0) -> int:
    """Wait until a new conversation is answered, by another supervisor than `but`."""
    deadline = time.monotonic() + 30
    while True:
        try:
            found = await pid_of_supervisor(server)
        except (OSError, WebSocketException, asyncio.TimeoutError):
            found = but
        if found != but and is_server(found):
            return found
        assert time.monotonic() < deadline, server.output()
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("server", NEW_DIES, indirect=True)
async def test_the_old_server_goes_on_unchanged(server: ServerProcess, tmp_path: Path) -> None:
    """Its pidfile and its control socket are its own again, and the next upgrade works."""
    pidfile = tmp_path / "pid"
    async with call(server) as caller:
        before = await caller.who()
        server.send_signal(signal.SIGUSR2)
        server.wait_for_output("the upgrade has failed, the server goes on unchanged", 30)
        assert await caller.who() == before
        assert await pid_of_supervisor(server) == server.pid
        wait_for_text(pidfile, rf"^{server.pid}\n$")
        status = await asyncio.to_thread(run, f"{pidfile}.ctl", "status")
        assert (status.returncode, status.stderr) == (0, "")
    assert await asyncio.to_thread(server.stop) == 0
    assert not os.path.exists(pidfile)  # noqa: ASYNC240
    assert not os.path.exists(f"{pidfile}.ctl")  # noqa: ASYNC240


@pytest.mark.parametrize("server", OLD_DIES, indirect=True)
async def test_the_new_server_serves_alone(server: ServerProcess, armed: Path, tmp_path: Path) -> None:
    """Conversations of the old one end within their drain time; none is cut at once."""
    pidfile = tmp_path / "pid"
    async with call(server) as caller:
        _, worker = await caller.who()
        armed.touch()  # noqa: ASYNC240
        server.send_signal(signal.SIGUSR2)
        new = await until_serving(server, but=server.pid)
        try:
            assert (await caller.who())[1] == worker
            wait_for_text(pidfile, rf"^{new}\n$")
            status = await asyncio.to_thread(run, f"{pidfile}.ctl", "status")
            assert (status.returncode, status.stderr) == (0, "")
        finally:
            os.kill(new, signal.SIGTERM)
    await asyncio.to_thread(wait_for_end, [new, worker])
    assert not os.path.exists(pidfile)  # noqa: ASYNC240


@pytest.mark.parametrize("server", ["new after reports"], indirect=True)
async def test_a_new_supervisor_killed_later_drains(server: ServerProcess) -> None:
    """Nothing starts it again but its service manager: conversations end in their drain time."""
    async with call(server) as caller:
        _, worker = await caller.who()
        server.send_signal(signal.SIGUSR2)
        server.wait_for_output(r"upgrade: supervisor \d+ serves", 30)
        assert (await caller.who())[1] == worker
    assert await asyncio.to_thread(server.wait, 30) == 0


# --- a rollout --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "server",
    [
        "old before begins",
        "old after begins",
        "old before forks",
        "old after forks",
        "old before sees ready",
        "old after drains",
    ],
    indirect=True,
)
async def test_conversations_outlive_a_supervisor_that_dies_in_a_reload(
    server: ServerProcess, armed: Path, tmp_path: Path
) -> None:
    """They are answered for their drain time; then nothing is left of the server, and its pidfile is free."""
    async with call(server) as caller:
        _, worker = await caller.who()
        armed.touch()  # noqa: ASYNC240
        server.send_signal(signal.SIGHUP)
        await asyncio.to_thread(wait_for_end, [server.pid], 30)
        assert (await caller.who())[1] == worker
    await asyncio.to_thread(wait_for_end, [worker], 30)
    with running_server("--pidfile", str(tmp_path / "pid"), app=tmp_path / "agent.py", workers=1) as other:
        assert await pid_of_supervisor(other) == other.pid


@pytest.mark.parametrize(
    "server", ["old before worker", "old before worker serves", "old after worker serves"], indirect=True
)
async def test_a_reload_survives_a_worker_that_dies(server: ServerProcess, armed: Path) -> None:
    """New conversations are answered all the time, in the end by the new generation or, unchanged, by the old one."""
    async with call(server) as caller:
        before = await caller.who()
        armed.touch()  # noqa: ASYNC240
        server.send_signal(signal.SIGHUP)
        server.wait_for_output(r"was killed by SIGKILL|killed by signal", 30)
        assert await pid_of_supervisor(server) == server.pid
        assert await caller.who() == before
        server.send_signal(signal.SIGHUP)
        server.wait_for_output(r"generation \d+ serves", 30)
        assert await pid_of_supervisor(server) == server.pid
