"""Two nodes behind a balancer, each in a network namespace of its own, judged by the callers.

`python -m bench.fleet`: 200 conversations with growing histories, and a new one for each that ends. Meanwhile both are
deployed one after the other, one is killed, the network loses 2% of the packets and then everything for 200 ms, a
node is full, and the fleet shrinks to one node and grows again.

No conversation may be cut by a deploy or a scale-in, none refused while the other node has room; a kill may end the
conversations of that node alone, and their callers are served again within 2 s.

It needs root, `ip`, `nft`, and HAProxy or Envoy. Exit code 0: all of it held; 1: something did not; 2: it could not
run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.fleet_balancers import BALANCERS, Balancer
from bench.kernel import BenchError
from bench.load.targets import API_KEY
from se_server.errors import CallerError
from se_server.simulator.caller import Caller

NET = "10.77.0"
CALLERS, BALANCER, NODES = f"{NET}.1", f"{NET}.2", {"a": f"{NET}.11", "b": f"{NET}.12"}
PORT, CHECK_PORT = 3001, 3002
NOTICE_S, DRAIN_S = 2.0, 30.0
RECONNECT_S = 2.0
LOST_SHARE, PARTITION_S = 2, 0.2
SEED = 7
# Envoy comes from PyPI, beside the interpreter; the others are in the system, for root.
PLACES = (os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin", str(Path(sys.executable).parent))
SEARCH_PATH = os.pathsep.join(PLACES)
AGENT = """
import os
async def on_transcript(transcript, session):
    await session.send_response(f"{os.environ['NODE']} {len(transcript)}")
"""


def run(*command: str) -> None:
    """Run a command.

    Raises:
        BenchError: it failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": SEARCH_PATH})
    if done.returncode:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip()}")


class Network:
    """A bridge, and a namespace with an address for the callers, the balancer and each node.

    Args:
        tag: distinguishes the names from those of other runs; at most 6 characters.
    """

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._bridge = f"se{tag}"

    def namespace(self, name: str) -> str:
        """Return the name of a namespace."""
        return f"se{self._tag}-{name}"

    def inside(self, name: str) -> list[str]:
        """Return the beginning of a command that runs in a namespace."""
        program = shutil.which("ip", path=SEARCH_PATH) or "ip"
        return [program, "netns", "exec", self.namespace(name)]

    @contextmanager
    def up(self) -> Iterator[None]:
        """Make everything, and remove it at the end."""
        members = {"callers": CALLERS, "balancer": BALANCER, **NODES}
        hub = self.namespace("hub")
        try:
            run("ip", "netns", "add", hub)
            # The bridge has a namespace of its own: rules of the machine's firewall do not reach it.
            run("ip", "-n", hub, "link", "add", self._bridge, "type", "bridge")
            run("ip", "-n", hub, "link", "set", self._bridge, "up")
            for place, (name, address) in enumerate(members.items()):
                space = self.namespace(name)
                run("ip", "netns", "add", space)
                run("ip", "-n", hub, "link", "add", f"v{place}", "type", "veth", "peer", "name", "eth0", "netns", space)
                run("ip", "-n", hub, "link", "set", f"v{place}", "master", self._bridge)
                run("ip", "-n", hub, "link", "set", f"v{place}", "up")
                run("ip", "-n", space, "link", "set", "lo", "up")
                run("ip", "-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
                run("ip", "-n", space, "link", "set", "eth0", "up")
            yield
        finally:
            for name in (*members, "hub"):
                subprocess.run(["ip", "netns", "del", self.namespace(name)], capture_output=True, check=False)

    @contextmanager
    def losing(self, name: str, percent: int) -> Iterator[None]:
        """Drop this share of the packets that reach a namespace, until the end of the block."""
        nft = [*self.inside(name), "nft"]
        drop = ["drop"] if percent >= 100 else ["numgen", "random", "mod", "100", "<", str(percent), "drop"]
        run(*nft, "add", "table", "inet", "bench")
        run(*nft, "add", "chain", "inet", "bench", "in", "{ type filter hook input priority 0 ; }")
        run(*nft, "add", "rule", "inet", "bench", "in", "iifname", "eth0", *drop)
        try:
            yield
        finally:
            run(*nft, "delete", "table", "inet", "bench")


class Node:
    """One server in its namespace."""

    def __init__(self, name: str, network: Network, folder: Path) -> None:
        self.name = name
        self._network = network
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, max_sessions: int) -> None:
        """Start the server; it is not awaited."""
        command = [
            *self._network.inside(self.name), sys.executable, "-m", "se_server", str(self._folder / "agent.py"),
            "--host", NODES[self.name], "--port", str(PORT), "--path", "/ws", "--workers", "1",
            "--trusted-proxies", BALANCER, "--max-sessions", str(max_sessions), "--control-socket", "off",
            "--agent-check", f"{NODES[self.name]}:{CHECK_PORT}",
            "--drain-notice-s", f"{NOTICE_S:g}", "--drain-timeout-s", f"{DRAIN_S:g}",
        ]  # fmt: skip
        environ = {**os.environ, "NODE": self.name, "ELEVENLABS_API_KEY": API_KEY}
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def terminate(self) -> None:
        """Order the server to drain."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    async def ended(self) -> None:
        """Wait until the server has drained.

        Raises:
            BenchError: it ended with another exit code than 0.
        """
        assert self._process is not None
        code = await asyncio.to_thread(self._process.wait, NOTICE_S + DRAIN_S + 60)
        if code:
            raise BenchError(f"node {self.name} ended with exit code {code}: {self.log()}")

    def kill(self) -> None:
        """Kill every process of the node at once."""
        if self._process is None or self._process.poll() is not None:
            return
        listed = subprocess.run(
            ["ip", "netns", "pids", self._network.namespace(self.name)], capture_output=True, text=True, check=False
        )
        for pid in map(int, listed.stdout.split()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def log(self) -> str:
        """Return the end of its log."""
        return (self._folder / f"{self.name}.log").read_text(errors="replace")[-2000:]


@dataclass
class Phase:
    """The callers' observations in one phase."""

    name: str
    begun: int = 0
    turns: int = 0
    cut: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    wrong: int = 0
    away_s: list[float] = field(default_factory=list)
    on: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        """Return a line of the report."""
        away = f", back after {max(self.away_s):.2f} s at most" if self.away_s else ""
        on = " ".join(f"{node}:{count}" for node, count in sorted(self.on.items()))
        return (
            f"{self.name:<26} {self.begun:>5} begun ({on}), {self.turns:>6} turns, {sum(self.cut.values())} cut,"
            f" {self.refused} refused, {self.wrong} wrong{away}"
        )


class Crowd:
    """The callers: so many conversations at once, a new one for each that ends."""

    def __init__(self, conversations: int, lengths_s: tuple[float, float], pauses_s: tuple[float, float]) -> None:
        self.phase = Phase("start")
        self._conversations = conversations
        self._lengths_s = lengths_s
        self._pauses_s = pauses_s
        self._random = random.Random(SEED)
        self._tasks: list[asyncio.Task[None]] = []
        self._open: Counter[str] = Counter()
        self._leaving = False

    def begin(self) -> None:
        """Start to call."""
        self._tasks = [asyncio.create_task(self._call(number)) for number in range(self._conversations)]

    @property
    def open(self) -> Counter[str]:
        """The conversations at this moment by node."""
        return +self._open

    async def leave(self) -> None:
        """Let every caller hang up."""
        self._leaving = True
        await asyncio.gather(*self._tasks)

    async def _call(self, number: int) -> None:
        await asyncio.sleep(self._random.uniform(0, 1.0))
        lost_at: float | None = None
        while not self._leaving:
            lost_at = await self._converse(number, lost_at)

    async def _converse(self, number: int, lost_at: float | None) -> float | None:
        """Hold a conversation; return the time at which it was lost, None if it was not."""
        ends_at = time.monotonic() + self._random.uniform(*self._lengths_s)
        node, turns = "", 0
        try:
            async with Caller.connect(f"ws://{BALANCER}:{PORT}/ws", api_key=API_KEY, reply_timeout_s=10.0) as caller:
                self.phase.begun += 1
                while time.monotonic() < ends_at and not self._leaving:
                    reply = await caller.say(f"question {turns} of caller {number}")
                    turns += 1
                    self.phase.turns += 1
                    served_by, _, messages = reply.text.partition(" ")
                    if messages != str(2 * turns - 1) or (node and served_by != node):
                        self.phase.wrong += 1
                    if not node:
                        node = served_by
                        self._open[node] += 1
                        self.phase.on[node] += 1
                        if lost_at is not None:
                            self.phase.away_s.append(time.monotonic() - lost_at)
                            lost_at = None
                    await asyncio.sleep(self._random.uniform(*self._pauses_s))
        except CallerError:
            if node:
                self.phase.cut[node] += 1
            else:
                self.phase.refused += 1
                await asyncio.sleep(0.05)
            return lost_at or time.monotonic()
        finally:
            if node:
                self._open[node] -= 1
        return None


class Fleet:
    """The phases, and what each has to show."""

    def __init__(
        self, crowd: Crowd, nodes: dict[str, Node], network: Network, balancer: Balancer, still_s: float
    ) -> None:
        self._crowd = crowd
        self._nodes = nodes
        self._network = network
        self._balancer = balancer
        self._still_s = still_s
        self.problems: list[str] = []

    async def run(self, conversations: int) -> None:
        """Go through all phases."""
        room = 3 * conversations
        await self._phase("both nodes", self._still_s)
        for name in self._nodes:
            self._enter(f"deploy of {name}")
            await self._restart(name, room)
            self._judge()
        await self._phase("both again", 2 * self._still_s)
        await self._kill("b", room)
        self._enter(f"{LOST_SHARE}% loss, {PARTITION_S:g} s partition")
        with self._network.losing("a", LOST_SHARE):
            await asyncio.sleep(self._still_s)
        with self._network.losing("a", 100):
            await asyncio.sleep(PARTITION_S)
        await asyncio.sleep(self._still_s)
        self._judge()
        self._enter("a is full")
        await self._restart("a", max(2, conversations // 10))
        await asyncio.sleep(self._still_s)
        if self._crowd.open["a"] > max(2, conversations // 10):
            self.problems.append(f"a full node carries {self._crowd.open['a']} conversations")
        self._judge()
        self._enter("scale to one")
        self._nodes["a"].terminate()
        await self._nodes["a"].ended()
        self._judge()
        await self._phase("one node", self._still_s)
        self._enter("scale to two")
        self._nodes["a"].start(room)
        await self._balancer.wait_up("a")
        await asyncio.sleep(2 * self._still_s)
        if not self._crowd.phase.on["a"]:
            self.problems.append("a new node gets no conversations")
        self._judge()

    async def _restart(self, name: str, max_sessions: int) -> None:
        self._nodes[name].terminate()
        await self._nodes[name].ended()
        self._nodes[name].start(max_sessions)
        await self._balancer.wait_up(name)

    async def _kill(self, name: str, room: int) -> None:
        self._enter(f"kill -9 of {name}")
        had = self._crowd.open[name]
        self._nodes[name].kill()
        await asyncio.sleep(max(self._still_s, RECONNECT_S + 0.5))
        phase = self._crowd.phase
        others = sum(count for node, count in phase.cut.items() if node != name)
        if others:
            self.problems.append(f"{phase.name}: {others} conversations of the other node were cut")
        if not had:
            self.problems.append(f"{phase.name}: it had no conversations, which proves nothing")
        if phase.cut[name] > had:
            self.problems.append(f"{phase.name}: {phase.cut[name]} conversations were lost, of {had}")
        if len(phase.away_s) < phase.cut[name]:
            self.problems.append(f"{phase.name}: {phase.cut[name] - len(phase.away_s)} callers were not served again")
        late = [away_s for away_s in phase.away_s if away_s > RECONNECT_S]
        if late:
            self.problems.append(f"{phase.name}: {len(late)} callers were away for over {RECONNECT_S:g} s")
        if phase.refused:
            self.problems.append(f"{phase.name}: {phase.refused} conversations were refused, and the other had room")
        print(phase.line(), flush=True)
        self._nodes[name].start(room)
        await self._balancer.wait_up(name)

    async def _phase(self, name: str, seconds: float) -> None:
        self._enter(name)
        await asyncio.sleep(seconds)
        self._judge()

    def _enter(self, name: str) -> None:
        self._crowd.phase = Phase(name)

    def _judge(self) -> None:
        """Nothing may be cut, refused or wrong in this phase."""
        phase = self._crowd.phase
        for what, count in (
            ("cut", sum(phase.cut.values())),
            ("refused", phase.refused),
            ("answered wrongly", phase.wrong),
        ):
            if count:
                self.problems.append(f"{phase.name}: {count} were {what}")
        if not phase.turns:
            self.problems.append(f"{phase.name}: no turn was answered")
        print(phase.line(), flush=True)


async def _inside(
    network: Network, folder: Path, kind: type[Balancer], conversations: int, *, quick: bool
) -> list[str]:
    nodes = {name: Node(name, network, folder) for name in NODES}
    balancer = kind(network.inside("balancer"), folder, BALANCER, NODES, PORT, CHECK_PORT)
    crowd = Crowd(conversations, (1.0, 3.0) if quick else (5.0, 20.0), (0.1, 0.4) if quick else (0.3, 1.5))
    try:
        for node in nodes.values():
            node.start(3 * conversations)
        balancer.start()
        for name in nodes:
            await balancer.wait_up(name)
        fleet = Fleet(crowd, nodes, network, balancer, 1.0 if quick else 8.0)
        crowd.begin()
        await asyncio.sleep(1.0)
        await fleet.run(conversations)
        await crowd.leave()
        return fleet.problems
    finally:
        balancer.stop()
        for node in nodes.values():
            node.kill()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the fleet; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("--balancer", choices=list(BALANCERS), default="haproxy")
    parser.add_argument("--conversations", type=int, default=200, help="conversations at once")
    parser.add_argument("--quick", action="store_true", help="short conversations and short phases, some 40 s")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    kind = BALANCERS[given.balancer]
    if given.inside is None:
        return _outside(kind, list(sys.argv[1:] if arguments is None else arguments))
    tag, folder = given.inside.split(":", 1)
    try:
        problems = asyncio.run(_inside(Network(tag), Path(folder), kind, given.conversations, quick=given.quick))
    except BenchError as error:
        print(f"bench.fleet: {error}", file=sys.stderr)
        return 2
    for problem in problems:
        print(f"FAILED: {problem}")
    print(
        "no conversation was cut or refused but those of the killed node" if not problems else f"{len(problems)} faults"
    )
    return 1 if problems else 0


def _outside(kind: type[Balancer], arguments: list[str]) -> int:
    missing = [tool for tool in ("ip", "nft", kind.program) if shutil.which(tool, path=SEARCH_PATH) is None]
    if missing or os.geteuid() != 0:
        print(f"bench.fleet: it needs {' and '.join(missing) or 'root'}", file=sys.stderr)
        return 2
    network = Network(f"{os.getpid() % 100000}")
    with tempfile.TemporaryDirectory(prefix="se-fleet-") as folder:
        (Path(folder) / "agent.py").write_text(AGENT)
        try:
            with network.up():
                # The callers have a namespace as well: the rest runs inside it.
                command = [*network.inside("callers"), sys.executable, "-m", "bench.fleet", *arguments]
                inside = f"--inside={network.namespace('')[2:-1]}:{folder}"
                return subprocess.run(
                    [*command, inside], env={**os.environ, "PATH": SEARCH_PATH}, check=False
                ).returncode
        except BenchError as error:
            print(f"bench.fleet: {error}", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
