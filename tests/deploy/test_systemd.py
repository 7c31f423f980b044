"""The unit, the socket and the rotation of deploy/systemd, by systemd's and logrotate's own checks."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from se_server.server.config.options import BY_NAME
from se_server.server.supervisor.pool import EXIT_MARGIN_S

ROOT = Path(__file__).resolve().parents[2]
SYSTEMD = ROOT / "deploy" / "systemd"
UNIT = (SYSTEMD / "agent.service").read_text(encoding="utf-8")
MOST_EXPOSED = 3.0
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="apt-get install systemd")


def options() -> dict[str, str]:
    found = re.search(r"^ExecStart=\S+ (.*)$", UNIT, re.MULTILINE)
    assert found is not None
    _app, *words = shlex.split(found[1])
    return {
        flag.removeprefix("--").replace("-", "_"): value for flag, value in zip(words[::2], words[1::2], strict=True)
    }


def systemd_version() -> int:
    ran = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=True)
    return int(ran.stdout.split()[1])


def test_options_of_the_unit_are_valid() -> None:
    for name, value in options().items():
        BY_NAME[name].parse(value)


def test_systemd_waits_for_a_whole_stop() -> None:
    names = ("drain_notice_s", "drain_timeout_s", "drain_turn_grace_s", "exit_timeout_s")
    stop_s = sum(float(options().get(name, BY_NAME[name].default)) for name in names) + EXIT_MARGIN_S  # type: ignore[arg-type]
    found = re.search(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert found is not None
    assert int(found[1]) >= stop_s + 5


@needs_systemd
@pytest.mark.parametrize("name", ["agent.service", "agent.socket"])
def test_systemd_verifies_the_unit(name: str, tmp_path: Path) -> None:
    for file in ("agent.service", "agent.socket"):
        # systemd looks whether the program exists.
        text = (SYSTEMD / file).read_text(encoding="utf-8").replace("/opt/agent/.venv/bin/se-server", "/bin/true")
        (tmp_path / file).write_text(text)
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")


@needs_systemd
def test_exposure_of_the_service_is_small() -> None:
    ran = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(SYSTEMD / "agent.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Overall exposure level for agent.service: ([\d.]+)", ran.stdout)
    assert found is not None, ran.stderr
    assert float(found[1]) < MOST_EXPOSED
    page = (ROOT / "docs" / "deploy" / "systemd.md").read_text(encoding="utf-8")
    documented = re.search(r"rates the exposure at ([\d.]+) of 10", page)
    assert documented is not None
    # Versions of systemd weigh the settings a little differently.
    assert float(found[1]) == pytest.approx(float(documented[1]), abs=0.05 if systemd_version() == 252 else 0.3)


@pytest.mark.skipif(shutil.which("logrotate", path="/usr/sbin:/usr/bin") is None, reason="apt-get install logrotate")
def test_logrotate_accepts_its_configuration(tmp_path: Path) -> None:
    program = shutil.which("logrotate", path="/usr/sbin:/usr/bin")
    assert program is not None
    copy = tmp_path / "agent"
    copy.write_text((SYSTEMD / "agent.logrotate").read_text(encoding="utf-8"))
    copy.chmod(0o644)
    ran = subprocess.run(
        [program, "--debug", "--state", str(tmp_path / "state"), str(copy)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0
    assert "error:" not in ran.stderr


@pytest.mark.skipif(shutil.which("logrotate", path="/usr/sbin:/usr/bin") is None, reason="apt-get install logrotate")
def test_logrotate_moves_the_log_of_a_dynamic_user(tmp_path: Path) -> None:
    program = shutil.which("logrotate", path="/usr/sbin:/usr/bin")
    assert program is not None
    # DynamicUser keeps the directory under private/ and makes a link to it.
    (tmp_path / "private" / "agent").mkdir(parents=True)
    (tmp_path / "agent").symlink_to("private/agent")
    (tmp_path / "agent" / "agent.log").write_text("a line\n")
    text = (SYSTEMD / "agent.logrotate").read_text(encoding="utf-8").replace("/var/log", str(tmp_path))
    text, signals = re.subn(r"^ *systemctl kill .*$", f"touch {tmp_path}/reopened", text, flags=re.MULTILINE)
    copy = tmp_path / "logrotate.conf"
    copy.write_text(text)
    copy.chmod(0o644)
    ran = subprocess.run(
        [program, "--force", "--state", str(tmp_path / "state"), str(copy)], capture_output=True, text=True, check=False
    )
    assert (signals, ran.returncode, ran.stderr) == (1, 0, "")
    assert (tmp_path / "reopened").exists()
    assert [path.name for path in (tmp_path / "agent").iterdir()] == ["agent.log.1"]


@pytest.mark.parametrize("file", sorted(SYSTEMD.iterdir()), ids=lambda file: file.name)
def test_the_page_shows_the_files(file: Path) -> None:
    page = (ROOT / "docs" / "deploy" / "systemd.md").read_text(encoding="utf-8")
    assert file.read_text(encoding="utf-8") in page
