"""The flight recorder: keeps the last minutes of all conversations, and writes those that a trigger names."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se_server.recordings.redaction import forget_texts
from se_server.recordings.writing import Facts, Taped, lines_of
from se_server.server.observer.archive import Archive, Erased
from se_server.server.observer.giving_way import in_pieces
from se_server.server.observer.kept import Key, Texts
from se_server.server.observer.redactor import OwnRedactor, Withheld
from se_server.server.observer.rows import cause_of, key_of, turn_row
from se_server.server.shared.recording import Recording
from se_server.telemetry._tape import begin_reading, lost_records, read_tape

if TYPE_CHECKING:
    from se_server.server.observer._timelines import Conversation, Turn

logger = logging.getLogger("se_server.server.observer")

SETTLE_S = 5.0
"""Time from a trigger to the writing: what follows the bad turn belongs to it."""
PRUNE_S = 60.0
REPORT_S = 30.0
"""The interval at which recordings that cannot be written are logged."""
CLOSE_S = 2.0
"""The time that the user's function has at a stop: the supervisor waits for the observer for 3 seconds."""
FAILED_OUTCOMES = (3, 4)  # `failed` and `timed_out` in `OUTCOMES`
SILENT_OUTCOME = 7
ABNORMAL = ("lost", "ping_timeout", "write_timeout", "protocol_error", "worker_died")


@dataclass
class _Wanted:
    """A conversation that will be written.

    Attributes:
        reasons: why, each once.
        due: when, in monotonic seconds, if it has not ended by then; None where it was written, and its end is awaited.
    """

    conversation: Conversation
    reasons: list[str] = field(default_factory=list)
    due: float | None = None
    ended: bool = False


def file_key_of(conversation: Conversation) -> str:
    """Return a name of a conversation that no other has, for the directory."""
    return f"{key_of(conversation)}-{conversation.opened_us}"


class Recorder:
    """Keeps texts, and writes recordings.

    Args:
        options: the options of the recorder.
        archive: the directory of recordings.
        about: the server, for the header of recordings.
        own: the user's function for texts.
    """

    def __init__(
        self, options: Recording, archive: Archive, about: Mapping[str, Any], own: OwnRedactor | None = None
    ) -> None:
        self.options = options
        self.archive = archive
        self.texts = Texts(options.kept_bytes)
        self.written = 0
        self._about = about
        self._own = own
        self._known_tapes: set[int] = set()
        self._lost = 0
        self._wanted: dict[Key, _Wanted] = {}
        self._begun = 0
        self._prune_at = 0.0
        self._failed = 0  # recordings that could not be written since that was logged
        self._report_at = 0.0
        # One thread: a recording of many texts takes time, in which the observer goes on.
        self._thread = ThreadPoolExecutor(1, "writes recordings")
        if own is not None:
            self._thread.submit(_start, own)

    # --- what the watch reads ---

    def read(self, index: int, tape: Any, pid: int) -> None:
        """Read the tape of a worker.

        Args:
            index: the number of the tape.
            tape: its memory; None without texts.
            pid: the process id of its worker, if it is known otherwise.
        """
        if tape is None:
            return
        if index not in self._known_tapes:
            self._known_tapes.add(index)
            begin_reading(tape)
        for writer, kind, number, when_us, data in in_pieces(read_tape(tape)):
            self.texts.add((writer or pid, number), when_us, kind, data)

    def take(self, turns: Sequence[tuple[Conversation, Turn]], ended: Sequence[Conversation]) -> None:
        """Note turns and conversations that have ended, and decide which are written."""
        on = self.options.record_on
        for conversation, turn in turns:
            _, outcome, arrived_us, ended_us, first_s, _, _, _, _ = turn
            if outcome in FAILED_OUTCOMES and "error" in on.names:
                self._want(conversation, "error")
            waited_s = (ended_us - arrived_us) / 1e6 if first_s is None else first_s
            if on.slow_s is not None and waited_s > on.slow_s and outcome != SILENT_OUTCOME:
                self._want(conversation, "slow")
            self._look(conversation)
        for conversation in ended:
            self._look(conversation)
            if "abnormal" in on.names and cause_of(conversation) in ABNORMAL:
                self._want(conversation, "abnormal")
            self._begun += 1
            if on.one_in is not None and self._begun % on.one_in == 0:
                self._want(conversation, "one-in")
            key = (conversation.pid, conversation.number)
            self.texts.end(key)
            if key in self._wanted:
                self._wanted[key].ended = True
                self._wanted[key].due = 0.0

    def _look(self, conversation: Conversation) -> None:
        on = self.options.record_on.names
        if conversation.errors and "error" in on:
            self._want(conversation, "error")
        if conversation.api_errors and "api-error" in on:
            self._want(conversation, "api-error")

    def _want(self, conversation: Conversation, reason: str) -> None:
        if self.archive.is_forgotten(file_key_of(conversation)):
            return
        wanted = self._wanted.setdefault((conversation.pid, conversation.number), _Wanted(conversation))
        if reason not in wanted.reasons:
            wanted.reasons.append(reason)
        if wanted.due is None:
            wanted.due = time.monotonic() + SETTLE_S

    def work(self) -> None:
        """Write what is due, in the thread; called at each reading."""
        now = time.monotonic()
        for key, wanted in list(self._wanted.items()):
            if wanted.due is not None and wanted.due <= now:
                wanted.due = None
                self._thread.submit(self._write, *self._snapshot(wanted.conversation, wanted.reasons))
                if wanted.ended:
                    del self._wanted[key]
        if now >= self._prune_at:
            self._prune_at = now + PRUNE_S
            self._thread.submit(self.archive.prune)

    def close(self) -> None:
        """Write what waits, without waiting for conversations."""
        for wanted in self._wanted.values():
            self._thread.submit(self._write, *self._snapshot(wanted.conversation, wanted.reasons))
        self._wanted.clear()
        last = self._thread.submit(lambda: None)
        self._thread.shutdown(wait=False)
        if self._own is not None and not wait([last], CLOSE_S).done:
            message = "--record-redactor %s takes longer than the %g s that a stop has: the texts left are withheld"
            logger.error(message, self._own.spec, CLOSE_S)
            self._own.give_up()
        wait([last])
        if self._own is not None:
            self._own.close()
        self.archive.close()

    # --- what operators ask for ---

    async def write(self, conversation: Conversation) -> Path:
        """Write a conversation now.

        Raises:
            OSError: it cannot be written.
        """
        wanted = self._wanted.get((conversation.pid, conversation.number))
        reasons = [*([] if wanted is None else wanted.reasons), "asked"]
        snapshot = self._snapshot(conversation, reasons)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._write_or_raise, *snapshot)

    async def lines(self, conversation: Conversation) -> list[str]:
        """Return the recording of a conversation as it stands."""
        facts, _, taped = self._snapshot(conversation, ["asked"])
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._lines, facts, taped)

    async def forget(self, conversation_id: str, conversations: Sequence[Conversation]) -> Erased:
        """Remove everything of a conversation: what is in memory at once, then its recordings."""
        for conversation in conversations:
            key = (conversation.pid, conversation.number)
            self._wanted.pop(key, None)
            self.texts.forget(key)
        keys = [file_key_of(conversation) for conversation in conversations]
        # In the thread: a recording of it may be on its way.
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._forget, conversation_id, keys)

    def _forget(self, conversation_id: str, keys: Sequence[str]) -> Erased:
        forget_texts()
        if self._own is not None:
            self._own.forget()
        return self.archive.forget(conversation_id, keys)

    def forget_again(self, conversations: Sequence[Conversation]) -> list[Conversation]:
        """Forget those that an earlier observer was told to forget, and return them."""
        found = [one for one in conversations if self.archive.is_forgotten(file_key_of(one))]
        for conversation in found:
            self.texts.forget((conversation.pid, conversation.number))
        return found

    def left_out(self) -> int:
        """Return how many messages were left out for want of memory."""
        return self.texts.cut + self._lost

    def count_lost(self, tapes: Sequence[Any]) -> None:
        """Count what did not fit into the tapes of the workers."""
        self._lost = sum(lost_records(tape) for tape in tapes if tape is not None)

    # --- writing ---

    def _snapshot(self, conversation: Conversation, reasons: Sequence[str]) -> tuple[Facts, str, Sequence[Taped]]:
        """Return a conversation, which changes, for the thread: its facts, its key and its records."""
        kept = self.texts.of((conversation.pid, conversation.number))
        turns = [{**turn_row(turn), "end_us": turn[3]} for turn in conversation.recent_turns]
        opened_us = conversation.opened_us or (conversation.events() or [(0, "", 0)])[0][0]
        facts = Facts(
            conversation_id=conversation.name,
            began_at_s=time.time() - time.monotonic() + opened_us / 1e6,
            opened_us=opened_us,
            ended_us=conversation.closed_us,
            cause=cause_of(conversation),
            code=conversation.code if conversation.closed_us and conversation.code > 0 else None,
            reasons=list(reasons),
            turns=turns,
            events=conversation.events(),
            dropped=conversation.dropped,
            cut=kept.cut,
        )
        return facts, file_key_of(conversation), kept.records

    def _lines(self, facts: Facts, taped: Sequence[Taped]) -> list[str]:
        return lines_of(facts, taped, self.options.level, self._about, self._own)

    def _write_or_raise(self, facts: Facts, key: str, taped: Sequence[Taped]) -> Path:
        path = self.archive.write(facts.conversation_id, key, facts.began_at_s, self._lines(facts, taped))
        self.written += 1
        return path

    def _write(self, facts: Facts, key: str, taped: Sequence[Taped]) -> None:
        try:
            path = self._write_or_raise(facts, key, taped)
        except OSError as error:
            self._report(error)
        except Exception:
            logger.exception("a bug of se-server's: a recording was not written")
        else:
            logger.info("recorded a conversation (%s): %s", ", ".join(facts.reasons), path)

    def _report(self, error: OSError) -> None:
        """Log that a recording cannot be written; a full disk, which fails for all of them, is logged now and then."""
        self._failed += 1
        now = time.monotonic()
        if now >= self._report_at:
            self._report_at = now + REPORT_S
            count = f"{self._failed} recordings" if self._failed > 1 else "a recording"
            logger.error("cannot write %s to %s: %s", count, self.archive.directory, error.strerror)
            self._failed = 0


def _start(own: OwnRedactor) -> None:
    """Load the user's function: a mistake is logged before the first conversation."""
    with suppress(Withheld):
        own.start()


def make_recorder(
    options: Recording, app: str | None, version: str, session_options: Mapping[str, Any]
) -> Recorder | None:
    """Make the recorder of a server; None if it records nothing.

    Args:
        options: the options of the recorder.
        app: the APP of the server; None for the demo agent.
        version: that of se-server.
        session_options: options of conversations that are not the default, by which a replay goes on as they did.
    """
    if options.level == "off" or options.record_dir is None:
        return None
    archive = Archive(Path(options.record_dir), options.record_max_age_s, options.record_max_bytes)
    about = {"server": version, "app": _found_again(app), "options": session_options}
    own = None if options.record_redactor is None else OwnRedactor(options.record_redactor)
    logger.info("records conversations (%s) to %s", options.level, options.record_dir)
    return Recorder(options, archive, about, own)


def _found_again(app: str | None) -> str | None:
    """Return the name of an APP that is found from every directory, if it is a file's."""
    if app is None:
        return None
    file, dot, rest = app.partition(".py")
    return str(Path(file + dot).resolve()) + rest if dot and Path(file + dot).is_file() else app
