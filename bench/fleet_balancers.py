"""The balancers of `bench.fleet`: HAProxy with agent checks, and Envoy."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from bench.kernel import BenchError

START_S = 30.0
POLL_S = 0.1

_HAPROXY = """
global
    stats socket {folder}/stats mode 600 level admin
defaults
    mode http
    timeout http-request 5s
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    timeout tunnel 60s
    retries 3
    retry-on conn-failure empty-response 503
    option redispatch 1
frontend calls
    bind {address}:{port}
    default_backend se_server
backend se_server
    balance leastconn
    option httpchk GET /available
    option forwardfor
    default-server check inter 1s fall 2 rise 1 agent-check agent-port {check_port} agent-inter 500ms weight 100
{servers}
"""

_PREVIOUS = "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
_ENVOY = """
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 9901}}}}}}
static_resources:
  listeners:
  - name: calls
    address: {{socket_address: {{address: {address}, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: calls
          codec_type: HTTP1
          upgrade_configs: [{{upgrade_type: websocket}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
          route_config:
            virtual_hosts:
            - name: agent
              domains: ["*"]
              routes:
              - match: {{prefix: /}}
                route:
                  cluster: se_server
                  idle_timeout: 60s
                  retry_policy:
                    retry_on: connect-failure,reset,retriable-status-codes
                    retriable_status_codes: [503]
                    num_retries: 3
                    host_selection_retry_max_attempts: 20
                    retry_host_predicate:
                    - name: envoy.retry_host_predicates.previous_hosts
                      typed_config:
                        "@type": {previous}
  clusters:
  - name: se_server
    type: STATIC
    connect_timeout: 1s
    lb_policy: LEAST_REQUEST
    circuit_breakers:
      thresholds: [{{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000, max_retries: 1000}}]
    health_checks:
    - timeout: 1s
      interval: 0.5s
      no_traffic_interval: 0.5s
      unhealthy_threshold: 2
      healthy_threshold: 1
      http_health_check: {{path: /available}}
    load_assignment:
      cluster_name: se_server
      endpoints:
      - lb_endpoints:
{servers}
"""


class Balancer(ABC):
    """A balancer in a network namespace.

    Args:
        inside: the beginning of a command that runs in the namespace.
        folder: for its files.
        address: where it listens.
        nodes: the addresses of the nodes by name.
        port: the port of the balancer and of the nodes.
        check_port: the port of agent checks.
    """

    program: ClassVar[str]

    def __init__(
        self, inside: Sequence[str], folder: Path, address: str, nodes: Mapping[str, str], port: int, check_port: int
    ) -> None:
        self.inside = list(inside)
        self.folder = folder
        self.address = address
        self.nodes = nodes
        self.port = port
        self.check_port = check_port
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Write the configuration and return the command."""

    @abstractmethod
    def is_up(self, name: str) -> bool:
        """Return whether the balancer sends new conversations to a node."""

    def start(self) -> None:
        """Start the balancer; it is not awaited."""
        with (self.folder / "balancer.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*self.inside, *self.command()], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    async def wait_up(self, name: str) -> None:
        """Wait until the balancer sends new conversations to a node.

        Raises:
            BenchError: that takes too long.
        """
        deadline = time.monotonic() + START_S
        while not await asyncio.to_thread(self.is_up, name):
            if time.monotonic() > deadline:
                log = (self.folder / "balancer.log").read_text(errors="replace")[-1000:]
                raise BenchError(f"{self.program} does not find node {name} up: {log}")
            await asyncio.sleep(POLL_S)

    def stop(self) -> None:
        """End the balancer."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def ask(self, *command: str) -> str:
        """Run a command in the namespace and return its output; an empty text if it fails."""
        done = subprocess.run([*self.inside, *command], capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else ""


class HAProxy(Balancer):
    """HAProxy, which learns of drains and loads by agent checks."""

    program = "haproxy"

    def command(self) -> list[str]:
        servers = "\n".join(f"    server {name} {address}:{self.port}" for name, address in self.nodes.items())
        path = self.folder / "haproxy.cfg"
        path.write_text(
            _HAPROXY.format(
                folder=self.folder, address=self.address, port=self.port, check_port=self.check_port, servers=servers
            )
        )
        return ["haproxy", "-db", "-f", str(path)]

    def is_up(self, name: str) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as stats:
                stats.connect(str(self.folder / "stats"))
                stats.sendall(b"show stat\n")
                with stats.makefile() as answer:
                    rows = [line.split(",") for line in answer]
        except OSError:
            return False
        names = rows[0]
        status, check = names.index("status"), names.index("check_status")
        row = next(row for row in rows if row[:2] == ["se_server", name])
        return row[status] == "UP" and row[check] == "L7OK"


class Envoy(Balancer):
    """Envoy, which learns of drains by the header of health checks."""

    program = "envoy"

    def command(self) -> list[str]:
        endpoint = "        - endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}"
        servers = "\n".join(endpoint.format(address, self.port) for address in self.nodes.values())
        path = self.folder / "envoy.yaml"
        path.write_text(_ENVOY.format(address=self.address, port=self.port, servers=servers, previous=_PREVIOUS))
        return ["envoy", "-c", str(path), "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]

    def is_up(self, name: str) -> bool:
        clusters = self.ask("curl", "-s", "http://127.0.0.1:9901/clusters")
        return f"{self.nodes[name]}:{self.port}::health_flags::healthy" in clusters


BALANCERS: Mapping[str, type[Balancer]] = {"haproxy": HAProxy, "envoy": Envoy}
