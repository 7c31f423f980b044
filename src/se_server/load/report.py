"""The report of a load run: merged figures, verdicts on thresholds, and remarks."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from se_server.address import shown
from se_server.load.plan import LoadPlan
from se_server.load.process import Connected, Run
from se_server.spelling import counted
from se_server.telemetry._histogram import Histogram

__all__ = ["PERCENTILES", "Report", "Verdict"]

PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)
BUSY_SHARE = 0.85
"""The share of a core above which a generator process may have limited the figures."""
LATE_S = 0.01
KEPT_SHARE = 0.9
"""The share of the asked rate below which the report says why."""
EXAMPLES = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """A threshold, and whether it was kept."""

    is_kept: bool
    what: str


class Report:
    """The figures of a run.

    Args:
        plan: the plan of all processes.
        runs: the result of each process.
        connected: the result of connecting.
        was_stopped: whether the user ended the run early.
        max_p99_s, max_errors: the thresholds; None for none.

    Attributes:
        turns, chunks, asked, interrupted, resends, late_texts, sent_bytes, received_bytes: as in `Figures`.
        wall_s: the time until the last process was done.
        first_chunk, final, handshake: histograms of times.
        errors: the number of errors of each kind, the most frequent first.
        examples: the first errors of each kind, in words.
        shares: the share of a core that each process used.
        behind_s: open loop: the largest delay of a turn behind its schedule.
        verdicts: the verdicts on the thresholds.
    """

    def __init__(
        self,
        plan: LoadPlan,
        runs: Sequence[Run],
        connected: Connected,
        *,
        was_stopped: bool = False,
        max_p99_s: float | None = None,
        max_errors: int | None = None,
    ) -> None:
        self.plan = plan
        self.was_stopped = was_stopped
        self.turns, self.chunks, self.asked, self.interrupted, self.resends = (
            sum(getattr(run, name) for run in runs) for name in ("turns", "chunks", "asked", "interrupted", "resends")
        )
        self.late_texts, self.sent_bytes, self.received_bytes = (
            sum(getattr(run, name) for run in runs) for name in ("late_texts", "sent_bytes", "received_bytes")
        )
        self.wall_s = max(run.wall_s for run in runs)
        self.shares = [run.cpu_s / run.wall_s for run in runs]
        self.behind_s = max(run.behind_s for run in runs)
        self.first_chunk, self.final, self.handshake = Histogram(), Histogram(), Histogram()
        errors: Counter[str] = Counter(connected.errors)
        self.examples: dict[str, list[str]] = {}
        for run in runs:
            self.first_chunk.merge(run.first_chunk)
            self.final.merge(run.final)
            self.handshake.merge(run.handshake)
            errors.update(run.errors)
        for failure in (*connected.failures, *(failure for run in runs for failure in run.failures)):
            kind, _, words = failure.partition(": ")
            self.examples.setdefault(kind, []).append(words)
        self.errors = dict(errors.most_common())
        self.verdicts = self._judge(max_p99_s, max_errors)

    @property
    def error_count(self) -> int:
        """The number of errors."""
        return sum(self.errors.values())

    @property
    def turns_per_s(self) -> float:
        """Turns a second."""
        return self.turns / self.wall_s if self.wall_s else 0.0

    @property
    def is_good(self) -> bool:
        """Whether there was an answer, and every threshold was kept."""
        return self.turns > 0 and all(verdict.is_kept for verdict in self.verdicts)

    @property
    def was_the_limit(self) -> bool:
        """Whether the generator may have limited the figures."""
        return max(self.shares) > BUSY_SHARE

    def remarks(self) -> list[str]:
        """Return remarks on how to read the figures, one sentence or more each."""
        remarks = []
        if not self.turns:
            remarks.append(f"No turn was answered: {self._why_none()}.")
        if self.was_the_limit:
            remarks.append(
                f"The generator was the limit: one of its processes used {max(self.shares):.0%} of a core. The figures"
                " are its own; use more --processes, another machine, or less load."
            )
        elif self.behind_s > LATE_S:
            remarks.append(
                f"The generator was up to {1000 * self.behind_s:.0f} ms late to ask, which counts as the server's time:"
                " something else used its core. Use another machine."
            )
        shortfall = self._shortfall()
        if shortfall:
            remarks.append(shortfall)
        if self.late_texts and not self.interrupted:
            remarks.append(
                f"{counted(self.late_texts, 'text')} came under the id of an older turn, and the live API would discard"
                " that."
            )
        return remarks

    def _shortfall(self) -> str:
        """Return why an open loop had fewer turns than it should have; an empty text if it did not."""
        rate, conversations = self.plan.turns_per_s, self.plan.conversations
        if rate is None or self.was_stopped or not self.turns or self.turns_per_s >= KEPT_SHARE * rate:
            return ""
        # By Little's law so many turns were under way or waiting at a time.
        if rate * self.final.mean_s <= conversations:
            return ""
        needed = math.ceil(1.25 * conversations * rate / self.turns_per_s)
        busy = "the conversation was" if conversations == 1 else f"all {conversations:,} conversations were"
        return (
            f"{self.turns_per_s:,.1f} turns a second were answered instead of {rate:g}: {busy} busy, with one turn at a"
            f" time each, and turns waited, which counts as latency. Use more conversations (-n {needed}); if that does"
            " not help, the server is at its limit."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as JSON-compatible values."""
        plan = dataclasses.asdict(self.plan)
        del plan["api_key"], plan["headers"]  # they may be secrets
        names = ("asked", "turns", "chunks", "interrupted", "resends", "late_texts", "sent_bytes", "received_bytes")
        plan["url"] = shown(self.plan.url)
        return {
            "plan": plan,
            "was_stopped": self.was_stopped,
            "wall_s": self.wall_s,
            "turns_per_s": self.turns_per_s,
            **{name: getattr(self, name) for name in names},
            **{f"{name}_s": _percentiles(getattr(self, name)) for name in ("first_chunk", "final", "handshake")},
            "errors": {kind: {"count": count, "examples": self._said(kind)} for kind, count in self.errors.items()},
            "generator": {
                "core_shares": self.shares,
                "was_the_limit": self.was_the_limit,
                "behind_s": self.behind_s,
            },
            "remarks": self.remarks(),
            "thresholds": [{"what": verdict.what, "kept": verdict.is_kept} for verdict in self.verdicts],
            "good": self.is_good,
        }

    def _said(self, kind: str) -> list[str]:
        return self.examples.get(kind, [])[:EXAMPLES]

    def _judge(self, max_p99_s: float | None, max_errors: int | None) -> list[Verdict]:
        verdicts = []
        if max_p99_s is not None:
            p99_s = self.first_chunk.percentile(99)
            is_kept = self.first_chunk.count > 0 and p99_s <= max_p99_s
            verdicts.append(Verdict(is_kept, f"p99 to the first chunk {p99_s:.4g} s, at most {max_p99_s:g} s"))
        if max_errors is not None:
            count = self.error_count
            verdicts.append(Verdict(count <= max_errors, f"{counted(count, 'error')}, at most {max_errors:,}"))
        return verdicts

    def _why_none(self) -> str:
        if not self.asked:
            if self.plan.turns_per_s is not None:
                return "none was due in the time of the run, or no conversation was up to ask it"
            if self.plan.think_s:
                return "none was asked; the time to think may be longer than the run"
            return "none was asked, since no conversation was up"
        if self.errors.get("silent"):
            return "the agent sends nothing. Does its on_transcript call send_response? Its log shows what arrived"
        if self.errors.get("cut"):
            return "the server closes conversations before it answers. Its log should give the reason"
        if self.first_chunk.count:
            return "answers began and none had its final by the end; a longer --duration-s lets them end"
        return "the run was over before an answer came; a longer --duration-s gives them time"


def _percentiles(histogram: Histogram) -> dict[str, Any]:
    named = {f"p{percent:g}" if percent < 100 else "max": histogram.percentile(percent) for percent in PERCENTILES}
    return {"count": histogram.count, "mean": histogram.mean_s, **named}
