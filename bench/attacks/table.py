"""The table of attacks: a row of each, what does not hold, and the published table."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.attacks.attackers import ATTACKS, OVER_TLS, row_name

FLOOR_MS, FACTOR = 50.0, 3.0
RECOVERY_S = 2.0
COLUMNS = ("first text p99, ms", "handshake p99, ms", "MiB", "lost", "refused", "recovered")
HEAD = (f"| attack | {' | '.join(COLUMNS)} |", "| --- | --- | --- | --- | --- | --- | --- |")


@dataclass
class Row:
    """One attack: waits of honest callers in ms, memory in MiB, and faults.

    Attributes:
        refused: honest handshakes that failed; new callers may be refused, conversations may not be lost.
        recovery_s: from the end of the attack to the end of the last long wait.
    """

    attack: str
    quiet_ms: float = 0.0
    during_ms: float = 0.0
    after_ms: float = 0.0
    handshake_quiet_ms: float = 0.0
    handshake_during_ms: float = 0.0
    handshake_after_ms: float = 0.0
    memory_mib: float = 0.0
    peak_mib: float = 0.0
    lost: int = 0
    refused: int = 0
    recovery_s: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def limit_ms(self) -> float:
        """The longest 99th percentile that is accepted."""
        return max(FACTOR * self.quiet_ms, FLOOR_MS)

    def problems(self, *, quick: bool) -> list[str]:
        """Return what does not hold, one sentence each."""
        found = list(self.faults)
        if self.lost:
            found.append(f"{self.lost} honest conversations were lost")
        if not quick and self.during_ms > self.limit_ms:
            found.append(f"first texts took {self.during_ms:.0f} ms, more than {self.limit_ms:.0f}")
        if not quick and self.recovery_s > RECOVERY_S:
            found.append(f"it took {self.recovery_s:.1f} s to recover")
        return [f"{self.attack}: {each}" for each in found]


def line_of(row: Row) -> str:
    """Return a row in Markdown."""
    text = f"{row.quiet_ms:.1f} / {row.during_ms:.1f} / {row.after_ms:.1f}"
    handshake = f"{row.handshake_quiet_ms:.1f} / {row.handshake_during_ms:.1f} / {row.handshake_after_ms:.1f}"
    memory = f"{row.memory_mib:.0f} / {row.peak_mib:.0f}"
    return f"| {row.attack} | {text} | {handshake} | {memory} | {row.lost} | {row.refused} | {row.recovery_s:.1f} s |"


_INTRODUCTION = """\
# Attacks

Made by `python -m bench.attacks --publish` on {machine}, {date}, each attack on a fresh server with two workers,
beside 20 honest conversations with two turns a second each. Times are before / during / after it, memory before / at
its peak. The target of the first text during an attack is the larger of 50 ms and three times the time before it.

"""


def publish(rows: Sequence[Row], checkout: Path) -> None:
    """Write rows to the published table, which keeps those of other attacks.

    Args:
        checkout: the directory of the repository.
    """
    folder = checkout / "bench" / "results" / "latest"
    data, page = folder / "attacks.json", folder / "attacks.md"
    kept = json.loads(data.read_text()) if data.exists() else {}
    kept.update({row.attack: asdict(row) for row in rows})
    names = [*ATTACKS, *(row_name(name, tls=True) for name in OVER_TLS)]
    kept = {name: kept[name] for name in names if name in kept}
    data.write_text(json.dumps(kept, indent=1) + "\n")
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    head = _INTRODUCTION.format(machine=machine, date=time.strftime("%Y-%m-%d"))
    table = [*HEAD, *(line_of(Row(**given)) for given in kept.values())]
    problems = [f"* {each}" for given in kept.values() for each in Row(**given).problems(quick=False)]
    page.write_text(head + "\n".join([*table, "", *(problems or ["Every target is met."])]) + "\n")
