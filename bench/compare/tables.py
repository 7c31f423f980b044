"""The results as tables, for a terminal and for a Markdown page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from bench.carried import MOST
from bench.compare.goals import Verdict, judge
from bench.compare.llm import CONVERSATIONS
from bench.compare.results import Results
from bench.compare.scenarios import LLM, LLM_OPENAI, MAIN, OURS, PYTHON, SCENARIOS, TLS, Kind
from bench.kernel import Spread
from bench.load.llm_calls import INTERRUPTED, TOKENS, TURNS
from bench.load.llm_provider import TOKENS_PER_S

__all__ = ["CROWDS", "Cell", "Table", "Tone", "amount", "tables", "warnings"]

OTHERS_LIMIT = 0.1
"""A machine is calm as long as other processes take at most this share of the server's core."""
LOAD_LIMIT = 0.97
CROWDS = (100, 1_000, 10_000, 19_000)
"""The numbers of conversations in the scenarios of one chunk."""


class Tone(Enum):
    """The ways to show a cell."""

    PLAIN = "plain"
    OURS = "ours"
    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure, and its details in small letters."""

    text: str
    small: str = ""
    tone: Tone = Tone.PLAIN


NOTHING = Cell("")


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first column holds names, the others figures."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    is_long: bool = True
    """Whether details in small letters are for a page only."""


@dataclass(frozen=True, slots=True)
class _Column:
    """A figure of every server: `scale` turns it into the unit of its header."""

    header: str
    scenario: str
    metric: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class _Block:
    title: str
    columns: Sequence[_Column]
    note: str = ""
    over_tls: bool | None = False
    """Of the servers over TLS, of the others, or (None) of all."""
    on_pythons: bool = False
    """Of ours on several Pythons, which stand in no other table."""


def amount(figure: float) -> str:
    """Return a figure with three significant digits, and all digits before the point."""
    decimals = next((n for n, limit in enumerate((100, 10, 1)) if abs(figure) >= limit), 3)
    return f"{figure:,.{decimals}f}"


def ranged(spread: Spread) -> str:
    return f"{amount(spread.low)}–{amount(spread.high)}"


def tables(results: Results) -> list[Table]:
    """Return all tables, the targets first."""
    verdicts = judge(results)
    found = [*(_table(block, results) for block in LLM_BLOCKS), _ratio_goals(verdicts), _other_goals(verdicts)]
    found += [_table(block, results) for block in _BLOCKS]
    return [table for table in found if table.rows]


def _ratio_goals(verdicts: Sequence[Verdict]) -> Table:
    """Return the targets of the scenarios of turns, a row each."""
    turns = [verdict for verdict in verdicts if verdict.goal.is_of_turn]
    columns = list(dict.fromkeys(verdict.goal.column for verdict in turns))
    rows = []
    for row in dict.fromkeys(verdict.goal.row for verdict in turns):
        mine = {verdict.goal.column: verdict for verdict in turns if verdict.goal.row == row}
        if any(verdict.figure for verdict in mine.values()):
            rows.append([Cell(row), *(_verdict(mine[column]) for column in columns)])
    return Table(
        "Targets: CPU time of a turn",
        ["scenario", *columns],
        rows,
        "Ratios of medians, and the median of the runs'; below, the range within the repetitions, each run's own, what"
        " must be reached, and the aim.",
        is_long=False,
    )


def _other_goals(verdicts: Sequence[Verdict]) -> Table:
    rows = []
    for verdict in verdicts:
        if not verdict.goal.is_of_turn and verdict.figure is not None:
            told = [verdict.goal.row, verdict.goal.column, _ranges(verdict), verdict.goal.wanted]
            rows.append([*map(Cell, told), Cell(_word(verdict), tone=_tone(verdict))])
    title = "Targets: tokens, memory, handshakes, TLS, latency, history, starts"
    return Table(title, ["", "whose", "range", "wanted", "found"], rows)


def _ranges(verdict: Verdict) -> str:
    """Return the range of the repetitions, and the medians of the runs if there are several."""
    assert verdict.figure is not None
    runs = f" (runs: {', '.join(map(amount, verdict.runs))})" if len(verdict.runs) > 1 else ""
    return ranged(verdict.figure) + runs


def _verdict(verdict: Verdict) -> Cell:
    if verdict.figure is None:
        return Cell(verdict.word)
    return Cell(_word(verdict), f"{_ranges(verdict)}\n{verdict.goal.wanted}", _tone(verdict))


def _word(verdict: Verdict) -> str:
    figure = f"{amount(verdict.figure.median)} {verdict.goal.unit}".strip() if verdict.figure else ""
    return f"{figure} {verdict.word}".strip()


def _tone(verdict: Verdict) -> Tone:
    if verdict.met is None:
        return Tone.PLAIN
    return Tone.GOOD if verdict.met else Tone.BAD


def _has_row(block: _Block, target: str) -> bool:
    return block.over_tls in (None, target.endswith(TLS)) and block.on_pythons == target.startswith(PYTHON)


def _table(block: _Block, results: Results) -> Table:
    """Return a figure of every server in each column that has any."""
    columns = [
        column
        for column in block.columns
        if any(
            _has_row(block, target) and results.spread(target, column.scenario, column.metric)
            for target in results.targets
        )
    ]
    rows = []
    for target in results.targets:
        if not _has_row(block, target):
            continue
        spreads = [results.spread(target, column.scenario, column.metric) for column in columns]
        if not any(spreads):
            continue
        tone = Tone.OURS if target.startswith(OURS) else Tone.PLAIN
        scaled = [spread and spread.scaled(column.scale) for spread, column in zip(spreads, columns, strict=True)]
        cells = (Cell(amount(found.median), ranged(found), tone) if found else NOTHING for found in scaled)
        rows.append([Cell(target, tone=tone), *cells])
    return Table(block.title, ["", *(column.header for column in columns)], rows, block.note)


def _costs(names: Iterable[str], metric: str = "cpu_us_per_turn") -> tuple[_Column, ...]:
    return tuple(_Column(_short(SCENARIOS[name].title), name, metric) for name in names)


def _short(title: str) -> str:
    return title.replace(", 1,000 conversations", "").replace("history growing to 200", "growing")


def _calls(metric: str, scale: float = 1.0) -> tuple[_Column, ...]:
    return tuple(_Column(SCENARIOS[name].package, name, metric, scale) for name in LLM)


LLM_BLOCKS: tuple[_Block, ...] = (
    _Block(
        "Calls with an LLM behind them: CPU microseconds per token",
        _calls("us_per_token"),
        f"{CONVERSATIONS} conversations, each with an answer of {TOKENS_PER_S:.0f} tokens a second from a"
        " provider on this machine, read by the LLM package of the column.",
    ),
    _Block(
        "Calls with an LLM behind them: CPU milliseconds per call",
        _calls("us_per_call", 1e-3),
        f"{TURNS} turns with a growing history and {TOKENS} tokens each; the user interrupts {len(INTERRUPTED)} of the"
        " answers half-way. Handshake, requests to the LLM and cancellations are in it.",
    ),
    _Block(
        "Calls with an LLM behind them: conversations a core carries",
        _calls("conversations"),
        "All of them hear an answer at the same time, and 99% of the tokens arrive within 50 ms."
        f" {MOST} is the most that is tried: HTTP clients have limits of 1,000 connections.",
    ),
)
_BLOCKS: tuple[_Block, ...] = (
    _Block("CPU microseconds per turn, 100 conversations", _costs(MAIN)),
    _Block(
        "CPU microseconds per turn, 1,000 conversations",
        _costs(f"{name}-1000" for name in MAIN if name != "trickle"),
    ),
    _Block(
        "CPU microseconds per turn of 1 chunk, history 4, as the conversations grow more",
        tuple(
            _Column(f"{number:,}", f"one-{number}" if number != 100 else "one", "cpu_us_per_turn") for number in CROWDS
        ),
        "One worker, whose process may have 20,000 descriptors; with several workers all are on the same core.",
    ),
    _Block(
        "CPU microseconds per turn of 8 chunks, as the chunks grow larger",
        tuple(
            _Column(f"{size:,} bytes" if size else "tokens", f"size-{size}" if size else "burst-8", "cpu_us_per_turn")
            for size in (0, 100, 1_000, 10_000)
        ),
    ),
    _Block(
        "se-server on several Pythons",
        (
            *_costs(("one", "burst", "trickle")),
            _Column("token of an LLM, us", LLM_OPENAI, "us_per_token"),
            _Column("call with an LLM, ms", LLM_OPENAI, "us_per_call", 1e-3),
            _Column("KB per conversation", "connections", "bytes_per_conversation", 1e-3),
            _Column("us per handshake", "connections", "handshake_us"),
            _Column("ready, ms", "start", "supervisor_ready_s", 1e3),
        ),
        "CPU microseconds per turn, and the figures of the other tables.",
        on_pythons=True,
    ),
    _Block(
        "Starts, in milliseconds",
        (
            _Column("command to ready", "start", "supervisor_ready_s", 1e3),
            _Column("worker", "start", "worker_ready_s", 1e3),
            _Column("worker, preloaded", "start", "worker_preloaded_s", 1e3),
            _Column("imports", "start", "import_s", 1e3),
        ),
        "A worker: from the death of the one before to its being ready. Imports: session and server, in a new"
        " interpreter.",
        over_tls=None,
    ),
    _Block("CPU microseconds per turn, over TLS", _costs(("one", "burst", "trickle")), over_tls=True),
    _Block(
        "CPU microseconds per turn, as the history grows longer",
        (
            *_costs(("history-1", "history-10", "history-100", "history-1000", "history-2000")),
            _Column("one old message", "history", "us_per_old_message"),
        ),
        "The same history every turn, and a new message; the last column is the slope from 10 to 1,000.",
    ),
    _Block(
        "CPU microseconds per chunk",
        _costs(("one", "burst-8", "burst", "trickle"), "cpu_us_per_chunk"),
        "All of a turn's time, divided by its chunks.",
    ),
    _Block("Turns a second on one core, closed loop of 100 conversations", _costs(MAIN, "turns_per_s")),
    _Block(
        "Latency at 400 turns a second, 32 chunks, in milliseconds",
        (
            _Column("first chunk, p50", "schedule", "first_p50_s", 1e3),
            _Column("p99", "schedule", "first_p99_s", 1e3),
            _Column("p99, over bare C", "schedule", "excess_p99_s", 1e3),
            _Column("final, p50", "schedule", "final_p50_s", 1e3),
            _Column("p99", "schedule", "final_p99_s", 1e3),
        ),
        "Open loop: counted from the moment at which the question was due.",
    ),
    _Block(
        "Conversations and handshakes",
        (
            _Column("KB per idle conversation", "connections", "bytes_per_conversation", 1e-3),
            _Column("CPU us per handshake", "connections", "handshake_us"),
            _Column("handshakes a second", "connections", "handshakes_per_s"),
        ),
        "Memory after one turn with a history of 4; the servers by hand and the bare limits verify no token.",
        over_tls=None,
    ),
)


def warnings(results: Results) -> list[str]:
    """Return the reasons to doubt the figures, one sentence each."""
    found = list(results.notes)
    others = [(figures.values["others"], figures) for figures in results.figures if "others" in figures.values]
    restless = [(share, figures) for share, figures in others if share > OTHERS_LIMIT]
    if restless:
        share, worst = max(restless, key=lambda pair: pair[0])
        found.append(
            f"The machine was not calm in {len(restless)} of {len(others)} measurements: something else ran on the"
            f" server's core, for {share:.0%} of the time at worst ({worst.target}, {SCENARIOS[worst.scenario].title})."
        )
    limited: dict[str, list[str]] = {}
    for target in results.targets:
        for name, scenario in SCENARIOS.items():
            busy = results.spread(target, name, "load_busy")
            if scenario.kind is Kind.TURNS and busy is not None and busy.median > LOAD_LIMIT:
                limited.setdefault(target, []).append(name)
    for target, names in limited.items():
        idle = f"The load generator was the limit with {target} ({', '.join(names)})"
        found.append(f"{idle}: only its CPU time is a measure, its turns a second are not.")
    return found
