"""The table of docs/scaling.md: the capacity of a core, a node and a fleet, from measured figures.

`se-bench scaling` prints it, and with `--write` puts it into the document, which states the formulas.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.compare.documents import replaced
from bench.compare.machine import CHECKOUT
from bench.compare.results import Results
from bench.compare.scenarios import OURS, TLS
from bench.kernel import BenchError
from bench.load.targets.handler import WORDS

__all__ = ["Calls", "Measured", "Needs", "main", "needs", "per_core", "table", "write_scaling"]

LATEST = CHECKOUT / "bench" / "results" / "latest"
NODE_CORES = 16
FLEETS = (10_000, 1_000_000, 100_000_000)
PACKET_BYTES = 66
"""Ethernet, IPv4 and TCP with timestamps, around every segment and every acknowledgement."""
MESSAGE_BYTES = 110
"""Average size of a transcript's message in the API's JSON, over several languages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """The length and turns of conversations; `busy` is the usable share of a core, so that a burst does not queue."""

    lasts_s: float = 300.0
    turn_every_s: float = 20.0
    chunks: int = 32
    busy: float = 0.6

    @property
    def turns(self) -> float:
        return self.lasts_s / self.turn_every_s

    @property
    def bytes_out(self) -> float:
        """Bytes of an answer on the wire, with its final: a packet for each chunk, and an ACK of the transcript."""
        texts = [*WORDS[: self.chunks], ""]
        frames = (
            json.dumps({"type": "agent_response", "content": text, "event_id": 10, "is_final": not text})
            for text in texts
        )
        return sum(len(frame.replace(": ", ":").replace(", ", ",")) + 2 for frame in frames) + (
            PACKET_BYTES * (len(texts) + 1)
        )

    @property
    def bytes_in(self) -> float:
        """Bytes of a transcript on the wire, half-way through the conversation, and the ACKs of the answer."""
        return self.turns * MESSAGE_BYTES + PACKET_BYTES * (self.chunks + 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The inputs: CPU time in microseconds, memory in bytes."""

    turn_us: float
    turn_tls_us: float | None
    handshake_us: float
    session_bytes: float
    kernel_bytes: float | None

    @classmethod
    def of(cls, results: Results, crowd: Path | None = None) -> Measured:
        """Take the inputs from a comparison, and from the figures of `bench.crowd`.

        Raises:
            BenchError: the comparison lacks one.
        """

        def figure(target: str, scenario: str, metric: str) -> float | None:
            spread = results.spread(target, scenario, metric)
            return None if spread is None else spread.median

        turn_us = figure(OURS, "trickle", "cpu_us_per_turn")
        handshake_us = figure(OURS, "connections", "handshake_us")
        session_bytes = figure(OURS, "connections", "bytes_per_conversation")
        if turn_us is None or handshake_us is None or session_bytes is None:
            raise BenchError("the results lack the scenarios trickle or connections of se-server")
        kernel = json.loads(crowd.read_text())["kernel_bytes"] if crowd is not None and crowd.exists() else None
        return cls(
            turn_us=turn_us,
            turn_tls_us=figure(f"{OURS}{TLS}", "trickle", "cpu_us_per_turn"),
            handshake_us=handshake_us,
            session_bytes=session_bytes,
            kernel_bytes=kernel,
        )

    def core_share(self, calls: Calls) -> float:
        """Return the share of a core for one conversation: its turns, and its part of a handshake."""
        return (self.turn_us / calls.turn_every_s + self.handshake_us / calls.lasts_s) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """The resources for a number of conversations."""

    conversations: float
    cores: float
    turns_per_s: float
    calls_per_s: float
    memory_bytes: float
    kernel_bytes: float | None
    bits_in_per_s: float
    bits_out_per_s: float


def per_core(measured: Measured, calls: Calls) -> float:
    """Return the capacity of a core in conversations."""
    return calls.busy / measured.core_share(calls)


def needs(conversations: float, measured: Measured, calls: Calls) -> Needs:
    """Return the resources for this many conversations."""
    turns_per_s = conversations / calls.turn_every_s
    return Needs(
        conversations=conversations,
        cores=conversations / per_core(measured, calls),
        turns_per_s=turns_per_s,
        calls_per_s=conversations / calls.lasts_s,
        memory_bytes=conversations * measured.session_bytes,
        kernel_bytes=None if measured.kernel_bytes is None else conversations * measured.kernel_bytes,
        bits_in_per_s=8 * turns_per_s * calls.bytes_in,
        bits_out_per_s=8 * turns_per_s * calls.bytes_out,
    )


def table(results: Results, crowd: Path | None = None) -> str:
    """Return the table and its inputs, as Markdown."""
    measured, calls = Measured.of(results, crowd), Calls()
    core = per_core(measured, calls)
    columns = {
        "one core": needs(core, measured, calls),
        f"a node of {NODE_CORES}": needs(core * NODE_CORES, measured, calls),
        **{_told(fleet): needs(fleet, measured, calls) for fleet in FLEETS},
    }
    rows: list[tuple[str, list[str]]] = [
        ("conversations", [_told(each.conversations) for each in columns.values()]),
        (f"cores, {calls.busy:.0%} busy", [_cores(each.cores) for each in columns.values()]),
        ("turns a second", [_told(each.turns_per_s) for each in columns.values()]),
        ("new conversations a second", [_told(each.calls_per_s) for each in columns.values()]),
        ("file descriptors", [_told(each.conversations) for each in columns.values()]),
        ("memory of sessions", [_bytes(each.memory_bytes) for each in columns.values()]),
    ]
    if measured.kernel_bytes is not None:
        rows.append(("memory of sockets in the kernel", [_bytes(each.kernel_bytes or 0) for each in columns.values()]))
    rows += [
        ("bits a second, in", [f"{_told(each.bits_in_per_s)}" for each in columns.values()]),
        ("bits a second, out", [f"{_told(each.bits_out_per_s)}" for each in columns.values()]),
    ]
    tls = "" if measured.turn_tls_us is None else f"; {measured.turn_tls_us:.0f} us with TLS on the node"
    kernel = "" if measured.kernel_bytes is None else f", and {measured.kernel_bytes / 1e3:.1f} KB in the kernel"
    lines = [
        f"Measured on {results.made} ({results.machine['processor']}): {measured.turn_us:.0f} us of CPU time for a turn"
        f" of {calls.chunks} chunks that\nleave one by one{tls}; {measured.handshake_us:.0f} us for a handshake;"
        f" {measured.session_bytes / 1e3:.1f} KB of memory for a conversation{kernel}.",
        "",
        f"| | {' | '.join(columns)} |",
        f"| --- |{' ---: |' * len(columns)}",
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows),
    ]
    return "\n".join(lines)


def _told(number: float) -> str:
    """Return a number with two significant digits, in words from a million on."""
    for unit, word in ((1e9, " billion"), (1e6, " million")):
        if number >= unit:
            return f"{float(f'{number / unit:.2g}'):,g}{word}"
    return f"{float(f'{number:.2g}'):,g}"


def _cores(number: float) -> str:
    return f"{number:.2g}" if number < 10 else f"{float(f'{number:.2g}'):,.0f}"


def _bytes(number: float) -> str:
    for unit, word in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if number >= unit:
            return f"{float(f'{number / unit:.2g}'):g} {word}"
    return f"{number / 1e3:.2g} KB"


def write_scaling(results: Results, checkout: Path) -> Path:
    """Update the table of docs/scaling.md."""
    document = checkout / "docs" / "scaling.md"
    crowd = checkout / "bench" / "results" / "latest" / "crowd.json"
    document.write_text(replaced(document, "scaling", table(results, crowd)))
    return document


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, or write it into the document; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="se-bench scaling", description="Compute the capacity of a core, a node and a fleet."
    )
    parser.add_argument("--from", dest="source", type=Path, default=LATEST / "results.json", metavar="FILE")
    parser.add_argument("--write", action="store_true", help="into docs/scaling.md")
    given = parser.parse_args(arguments)
    try:
        results = Results.read(given.source)
        if given.write:
            print(f"written: {write_scaling(results, CHECKOUT).relative_to(CHECKOUT)}")
        else:
            print(table(results, given.source.with_name("crowd.json")))
    except BenchError as error:
        print(f"No table: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
