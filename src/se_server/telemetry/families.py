"""The families of metrics: their names, labels and values, made from one reading of a server's figures.

`collector.py` gives them to `prometheus_client`. Nothing here imports it: `se-ctl` and pages read the same values.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from se_server.telemetry._meters import (
    BOUNDS,
    CAUSES,
    CLOSES_AT,
    CODES,
    COUNT_NAMES,
    HISTOGRAM_NAMES,
    HISTOGRAM_UNITS_S,
    HISTOGRAMS_AT,
    REFUSALS,
    REFUSALS_AT,
    RESTARTS,
    RESTARTS_AT,
    UPGRADES,
    UPGRADES_AT,
)

PREFIX = "se_server_"
OUTCOMES = ("answered", "interrupted", "superseded", "failed", "timed_out", "empty", "closed", "silent")
"""How turns end. A turn that a newer transcript ended is `interrupted` with text, else `superseded`; a turn that ended
with its conversation is `closed`, and one whose transcript had no words is `silent`."""
MAX_EXEMPLAR = 128
"""Characters of an exemplar's label, name and value together (OpenMetrics 1.0)."""
_ROW = BOUNDS + 2


@dataclass(frozen=True)
class WorkerFigures:
    """One worker at one moment.

    Attributes:
        worker: the index of its slot, which another worker takes over after its end; few, so that it can be a label.
        place: its number within its generation, as `se-ctl` shows it.
        rss_bytes: its resident memory; None if it is unknown.
    """

    worker: int
    place: int
    pid: int
    generation: int
    state: str
    age_s: float
    sessions: int
    load: int
    turns: int
    loop_lag_s: float
    silent_s: float | None
    rss_bytes: int | None
    stray_handlers: int


@dataclass(frozen=True)
class Exemplar:
    """One observation of a bucket: its conversation, its value, and its time in seconds since 1970."""

    conversation_id: str
    value: float
    time_s: float


@dataclass(frozen=True)
class Reading:
    """The figures of one server at one moment.

    Attributes:
        version: that of se-server.
        started_at_s: when the counts began, in seconds since 1970.
        counters: the values of `Counters`, by name.
        cells: the cells of `Meters`.
        conversations: those that are open, on workers of earlier supervisors too.
        capacity: the conversations that the server carries: its limit, or a measured number; None if both are unknown.
        draining: whether no new conversations are taken.
        workers: the worker processes; none in a server of one process.
        ring_overflows: events that were overwritten before they were read; None without a ring.
        routes: the readings of the routes, by name; only their cells and conversations are theirs.
        exemplars: one for each bucket of a histogram, by the histogram's name; None for a bucket without one.
    """

    version: str
    started_at_s: float
    counters: Mapping[str, int]
    cells: Sequence[int]
    conversations: int
    capacity: int | None = None
    draining: bool = False
    workers: Sequence[WorkerFigures] = ()
    ring_overflows: int | None = None
    exemplars: Mapping[str, Sequence[Exemplar | None]] = field(default_factory=dict)
    routes: Mapping[str, Reading] = field(default_factory=dict)

    def count(self, name: str) -> int:
        """Return a count of `Meters`."""
        return self.cells[COUNT_NAMES.index(name)]

    def histogram(self, name: str) -> Distribution:
        """Return a histogram of `Meters`."""
        return Distribution.of(name, self.cells)

    def refusals(self) -> dict[str, int]:
        """Return how many connections and requests were refused, by reason, without reasons that never came."""
        counts = zip([*map(_slug, REFUSALS), "other"], self.cells[REFUSALS_AT:RESTARTS_AT], strict=True)
        return {reason: count for reason, count in counts if count}

    def restarts(self) -> dict[str, int]:
        """Return how many workers were replaced, by cause."""
        return dict(zip(RESTARTS, self.cells[RESTARTS_AT:UPGRADES_AT], strict=True))

    @property
    def answering(self) -> int:
        """The number of turns under way."""
        return max(0, self.count("turns") - sum(self.count(outcome) for outcome in OUTCOMES))


@dataclass(frozen=True)
class Distribution:
    """A histogram with fixed buckets.

    Attributes:
        bounds: the upper bounds of all buckets but the last, which has none.
        counts: how many values each bucket has, the last one included.
        total: the sum of all values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    @classmethod
    def of(cls, name: str, cells: Sequence[int]) -> Distribution:
        """Read a histogram from the cells of `Meters`."""
        index = HISTOGRAM_NAMES.index(name)
        unit_s = HISTOGRAM_UNITS_S[index]
        row = cells[HISTOGRAMS_AT + index * _ROW : HISTOGRAMS_AT + (index + 1) * _ROW]
        bounds = tuple(round(unit_s * 2**place, 6) for place in range(BOUNDS))
        return cls(bounds, tuple(row[:-1]), row[-1] / 1e6)

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """Estimate a quantile as Prometheus does, by interpolation in its bucket; None without values.

        Args:
            share: 0.95 for the value that 95% of all do not exceed.
        """
        wanted = share * self.count
        if not self.count:
            return None
        below, lower = 0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if below + count >= wanted and count:
                return lower + (bound - lower) * max(0.0, wanted - below) / count
            below, lower = below + count, bound
        return self.bounds[-1]


@dataclass(frozen=True)
class Family:
    """A family of metrics.

    Attributes:
        name: without the prefix, and without the `_total` of counters.
        kind: `counter`, `gauge`, `histogram`, or `unknown` for a counter that has `_total` in its name.
        help: one sentence.
        labels: the names of the labels.
        samples: the values by the labels' values, numbers or a `Distribution`.
        exemplars: those of each histogram, in the same order.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    samples: Sequence[tuple[tuple[str, ...], float | Distribution]]
    exemplars: Sequence[Sequence[Exemplar | None]] = ()


def open_conversations(cells: Sequence[int]) -> int:
    """Return how many conversations have begun and not ended, by the cells of `Meters`."""
    return max(0, cells[COUNT_NAMES.index("conversations")] - sum(cells[CLOSES_AT:REFUSALS_AT]))


def turn_figures(cells: Sequence[int]) -> dict[str, object]:
    """Return the figures of turns for `se-ctl status`, from the cells of `Meters`."""
    reading = Reading("", 0.0, {}, cells, 0)
    own, filler = reading.histogram("first_text"), reading.histogram("first_filler")
    return {
        "outcomes": {name: reading.count(name) for name in OUTCOMES},
        "bounds": own.bounds,
        "first_text": [one + other for one, other in zip(own.counts, filler.counts, strict=True)],
        "refusals": reading.refusals(),
    }


def families(reading: Reading) -> Iterator[Family]:
    """Yield all families that a reading has values for."""
    yield from _of_conversations(reading)
    yield from _of_turns(reading)
    yield from _of_transcripts(reading)
    yield from _of_server(reading)
    yield from _of_workers(reading)
    if reading.routes:
        yield from _of_routes(reading.routes)


def _of_conversations(reading: Reading) -> Iterator[Family]:
    answering = min(reading.answering, reading.conversations)
    states = {"answering": answering, "listening": reading.conversations - answering}
    yield _family("conversations", "gauge", "Conversations that are open.", "state", states)
    # OpenMetrics leaves `_total` out of a counter's name, and two families must not have one name. See `collector.py`.
    yield _single("conversations_total", "unknown", "Conversations that have begun.", reading.count("conversations"))
    closes = iter(reading.cells[CLOSES_AT:REFUSALS_AT])
    codes = [*map(str, CODES), "other"]
    ends = [((cause, code), next(closes)) for cause in CAUSES for code in codes]
    ended = [(labels, count) for labels, count in ends if count]
    help_text = "Conversations that have ended, by cause and by the code of the WebSocket's end."
    yield Family("conversations_closed", "counter", help_text, ("cause", "code"), ended)
    yield _histogram(reading, "conversation_duration_seconds", "conversation", "Duration of conversations.")
    yield _histogram(reading, "conversation_turns", "conversation_turns", "Turns of one conversation.")


def _of_turns(reading: Reading) -> Iterator[Family]:
    outcomes = {name: reading.count(name) for name in OUTCOMES}
    yield _family("turns", "counter", "Turns that have ended, by outcome.", "outcome", outcomes)
    yield Family(
        "turn_first_text_seconds",
        "histogram",
        "Time from a transcript to the first text of its answer, by the source of that text.",
        ("source",),
        [(("handler",), reading.histogram("first_text")), (("filler",), reading.histogram("first_filler"))],
        [reading.exemplars.get("first_text", ()), reading.exemplars.get("first_filler", ())],
    )
    for name, place, help_text in (
        ("turn_handler_wait_seconds", "handler_wait", "Time from a transcript to the first step of its handler."),
        ("turn_provider_seconds", "provider", "Time from a handler's first step to the first event of its stream."),
        ("turn_thinking_seconds", "thinking", "Time from the first event of a stream to its first text."),
        ("turn_longest_gap_seconds", "longest_gap", "Longest silence between two texts of one answer."),
        ("turn_duration_seconds", "turn", "Time from a transcript to the end of its turn."),
        ("turn_yield_seconds", "yield", "Time from an interruption to the end of the interrupted handler."),
    ):
        yield _histogram(reading, name, place, help_text)
    wasted = {"interrupted": reading.count("wasted_by_interruption"), "closed": reading.count("wasted_by_end")}
    help_text = "Characters that were sent in turns that did not end by themselves."
    yield _family("wasted_characters", "counter", help_text, "reason", wasted)
    tokens = {"input": reading.count("input_tokens"), "output": reading.count("output_tokens")}
    yield _family("llm_tokens", "counter", "Tokens, as far as the streams reported them.", "direction", tokens)


def _of_transcripts(reading: Reading) -> Iterator[Family]:
    counters = reading.counters
    verdicts = {
        name.removeprefix("transcripts_"): value for name, value in counters.items() if name.startswith("transcripts_")
    }
    replayed = verdicts.pop("replayed", counters.get("answers_replayed"))
    help_text = "Transcripts that were sent again, by what was made of them."
    yield _family("transcripts_repeated", "counter", help_text, "verdict", verdicts)
    if replayed is not None:
        yield _single("answers_replayed", "counter", "Answers that were sent again.", replayed)
    for name, counter, help_text in (
        ("texts", "chunks_sent", "Texts that were sent, fillers included."),
        ("blanks", "blanks_sent", "Blanks that were sent because a handler had sent nothing for long."),
        ("turns_retried", "turns_retried", "Turns whose handlers ran again because they had failed without an answer."),
        ("answers_too_long", "answers_too_long", "Answers that were cut at the limit."),
        ("streams_left", "streams_left", "Streams that did not end when they were closed."),
        ("write_timeouts", "write_timeouts", "Peers that were dropped because they did not read."),
        ("fillers", "first_words_sent", "Texts that were sent because an answer was late."),
        ("failure_texts", "failure_texts_sent", "Texts that were sent because a handler had failed."),
        ("late_texts", "late_texts", "Texts that were dropped because their turn was superseded."),
        ("messages_received", "messages_received", "Messages of the API, of any kind."),
        ("message_errors", "message_errors", "Messages, or entries of transcripts, that could not be read."),
        ("handler_errors", "handler_errors", "Exceptions that handlers raised."),
    ):
        yield _single(name, "counter", help_text, counters[counter])


def _of_server(reading: Reading) -> Iterator[Family]:
    yield _histogram(reading, "handshake_seconds", "handshake", "Time from an accepted connection to a conversation.")
    help_text = "Refused connections and requests, by reason."
    yield _family("refusals", "counter", help_text, "reason", reading.refusals())
    if reading.capacity is not None:
        help_text = "Conversations that the server carries: its limit, or the number that --capacity gives."
        yield _single("capacity", "gauge", help_text, reading.capacity)
        ratio = reading.conversations / max(1, reading.capacity)
        yield _single("load_ratio", "gauge", "Open conversations, as a share of the capacity.", ratio)
    yield _single("draining", "gauge", "1 while no new conversations are taken.", int(reading.draining))
    yield _single(
        "start_time_seconds", "gauge", "When the counters began, in seconds since 1970.", reading.started_at_s
    )
    python = platform.python_version()
    help_text = "1, with the versions of se-server and of Python."
    build = [((reading.version, python), 1.0)]
    yield Family("build_info", "gauge", help_text, ("version", "python"), build)
    if reading.ring_overflows is not None:
        help_text = "Events of timelines that were overwritten before they were read."
        yield _single("ring_overflows", "counter", help_text, reading.ring_overflows)


def _of_workers(reading: Reading) -> Iterator[Family]:
    if not reading.workers:
        strays = reading.counters["stray_handlers"] - reading.count("strays_ended")
        yield _single("stray_handlers", "gauge", "Cancelled handlers that still run.", max(0, strays))
        return
    results = zip(UPGRADES, reading.cells[UPGRADES_AT : UPGRADES_AT + len(UPGRADES)], strict=True)
    yield _family("upgrades", "counter", "Upgrades of the supervisor, by result.", "result", dict(results))
    yield _family("worker_restarts", "counter", "Replaced workers, by cause.", "cause", reading.restarts())
    for name, help_text, values in (
        ("loop_lag_seconds", "Delay of the last heartbeat of a worker's event loop.", _lags(reading.workers)),
        ("worker_rss_bytes", "Resident memory of a worker.", {w.worker: w.rss_bytes for w in reading.workers}),
        ("worker_conversations", "Conversations of a worker.", {w.worker: w.sessions for w in reading.workers}),
        ("stray_handlers", "Cancelled handlers that still run.", {w.worker: w.stray_handlers for w in reading.workers}),
    ):
        known = {str(worker): value for worker, value in values.items() if value is not None}
        yield _family(name, "gauge", help_text, "worker", known)


def _of_routes(routes: Mapping[str, Reading]) -> Iterator[Family]:
    open_now = {name: each.conversations for name, each in routes.items()}
    yield _family("route_conversations", "gauge", "Conversations of a route that are open.", "route", open_now)
    routes = {name: each for name, each in routes.items() if each.count("conversations")}  # others have no figures
    begun = {name: each.count("conversations") for name, each in routes.items()}
    help_text = "Conversations of a route that have begun."
    yield _family("route_conversations_total", "unknown", help_text, "route", begun)
    turns = [((name, outcome), each.count(outcome)) for name, each in routes.items() for outcome in OUTCOMES]
    help_text = "Turns of a route that have ended, by outcome."
    yield Family("route_turns", "counter", help_text, ("route", "outcome"), [each for each in turns if each[1]])
    for name, place, help_text in (
        ("route_turn_first_text_seconds", "first_text", "Time from a transcript to the first text of its handler."),
        ("route_turn_duration_seconds", "turn", "Time from a transcript to the end of its turn."),
    ):
        samples = [((route,), each.histogram(place)) for route, each in routes.items()]
        yield Family(name, "histogram", help_text, ("route",), samples)


def _lags(workers: Iterable[WorkerFigures]) -> dict[int, float]:
    # The lag is measured by a beat of the loop: a loop that stands still has not measured its own.
    return {worker.worker: max(worker.loop_lag_s, (worker.silent_s or 0.0) - 0.1) for worker in workers}


def _single(name: str, kind: str, help_text: str, value: float) -> Family:
    return Family(name, kind, help_text, (), [((), value)])


def _family(name: str, kind: str, help_text: str, label: str, values: Mapping[str, float]) -> Family:
    return Family(name, kind, help_text, (label,), [((key,), value) for key, value in values.items()])


def _histogram(reading: Reading, name: str, place: str, help_text: str) -> Family:
    samples = [((), reading.histogram(place))]
    return Family(name, "histogram", help_text, (), samples, [reading.exemplars.get(place, ())])


def _slug(text: str) -> str:
    return re.sub(r"\W+", "_", text.lower()).strip("_")
