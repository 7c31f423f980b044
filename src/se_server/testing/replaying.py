"""Replay a recorded conversation against an agent in virtual time, and compare what came of it."""

from __future__ import annotations

import asyncio
import json
import mmap
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from se_server.errors import CallerError, MessageError, PeerError
from se_server.recordings.reading import load_recorded
from se_server.recordings.records import Recorded, Turn, message_of, turns_of, words_of
from se_server.server.observer._timelines import Timelines
from se_server.simulator.loading import script_of_recording
from se_server.simulator.play import Failure, play
from se_server.simulator.recording import Recording
from se_server.telemetry._ring import RING_BYTES, Ring
from se_server.telemetry.families import OUTCOMES
from se_server.testing.caller import Caller
from se_server.testing.clock import close_loop, new_loop, virtual_time
from se_server.testing.errors import as_text
from se_server.testing.recorded_llm import RecordedLlm
from se_server.testing.stage import Stage
from se_server.types import Counters

SPARE_S = 3600.0
"""Virtual seconds beyond the length of the recording."""
REPLY_TIMEOUT_S = 60.0
SLACK_S, SLACK_FACTOR = 0.25, 1.5
"""A first text differs if both the difference and the ratio are larger than this."""
HIDDEN = "[hidden]"
_UNSENDABLE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_LEFT_OUT = ("host", "user-agent", "accept", "accept-encoding", "accept-language", "content-length")


@dataclass(frozen=True)
class Replay:
    """A recorded conversation, held again.

    Attributes:
        turns: the turns of today: `outcome`, `text`, `said`, `first_text_s`, `event_id`, `texts`.
        recorded: the turns of the recording.
        errors: the exceptions of the agent's handlers that no `on_error` handled.
        problems: the reasons for which the conversation did not go on, a sentence each.
    """

    turns: Sequence[Turn]
    recorded: Sequence[Turn]
    errors: Sequence[BaseException]
    problems: Sequence[str]

    @property
    def outcomes(self) -> list[str]:
        """The outcome of each turn."""
        return [turn.outcome for turn in self.turns]

    @property
    def differences(self) -> list[str]:
        """Differences from the recording: outcomes, times to first text, words; a sentence each."""
        found = []
        left = list(self.turns)
        for number, before in enumerate(self.recorded, 1):
            today = next((turn for turn in left if turn.event_id == before.event_id), None)
            if today is None:
                found.append(f"turn {number}: did not end, and was {before.outcome}")
            else:
                left.remove(today)
                found += [f"turn {number}: {difference}" for difference in _differences(today, before)]
        return found + [f"a turn more: {turn.outcome}, said {turn.text!r}" for turn in left]

    def __str__(self) -> str:
        """Return the turns, the differences from the recording, and the exceptions, for people."""
        lines = []
        for number, turn in enumerate(self.turns, 1):
            after = "" if turn.first_text_s is None else f" after {turn.first_text_s:.2f} s"
            lines += [f"{number:4} user  {turn.said!r}", f"     agent {turn.text!r} ({turn.outcome}{after})"]
        lines += [*(self.differences or ["no difference from the recording"]), *self.problems]
        return "\n".join([*lines, *(as_text(error) for error in self.errors)])


def _differences(today: Turn, before: Turn) -> list[str]:
    found = []
    if today.outcome != before.outcome:
        found.append(f"{today.outcome}, and was {before.outcome}")
    now_s, then_s = today.first_text_s, before.first_text_s
    if now_s is not None and then_s is not None:
        low, high = sorted((now_s, then_s))
        if high - low > SLACK_S and high > low * SLACK_FACTOR:
            found.append(f"first text after {now_s:.2f} s, and was after {then_s:.2f} s")
    now, then = today.text.strip(), before.text.strip()  # a blank keeps the API waiting
    if now != then:
        found.append(f"said {now!r}, and had said {then!r}")
    return found


def replay(
    path: str | Path,
    app: object,
    *,
    llm: str | Sequence[str] | None = None,
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> Replay:
    """Hold a recorded conversation again, with an agent of today, in virtual time.

    Args:
        path: a recording of `se-server --record` or `se-chat --record`, with texts.
        app: the agent; see `MakeCaller`.
        llm: `module:function` or `module:object.method` of the agent that opens a stream of its LLM, or several. It is
            replaced by one that returns the recorded streams, with their times; the recording needs the level `full`.
            `auto` does so with the clients of OpenAI, Anthropic and Google.
        headers: headers of the upgrade request, beside those of the recording.
        **options: session options, as those of `se-server`: `turn_timeout_s=10`.

    Raises:
        CallerError: the file is not a recording, or has no texts; there is no such `llm`; an event loop is running.
        AppError: `app` is not an agent.
        ScriptError: the recording has no conversation.
    """
    _check_no_loop()
    recorded = load_recorded(Path(path))
    if not recorded.has_texts:
        raise CallerError(f"{path}: this recording has no texts: record with --record redacted, or full")
    script = script_of_recording(recorded.records, Path(path).name)
    stage = Stage()
    length_s = max(record.t_s for record in recorded.records)
    memory = mmap.mmap(-1, RING_BYTES)
    traffic = Recording()
    caller = stage.caller(
        app,
        headers={**_headers_of(recorded), **(headers or {})},
        path=_path_of(recorded),
        conversation_id=recorded.conversation_id or script.conversation_id,
        reply_timeout_s=REPLY_TIMEOUT_S,
        **options,
    )
    caller.observe(Counters(ring=Ring(memory)), traffic)
    problems: list[Failure] = []
    errors: list[BaseException] = []

    async def hold() -> None:
        with virtual_time(length_s + SPARE_S):
            began_s = asyncio.get_running_loop().time()
            try:
                await caller.open()
                problems.extend(await play(script, caller.conversation))
                await _rest(caller, recorded, began_s + length_s)
            finally:
                await stage.finish()
                errors.extend(error for error in caller.errors if not isinstance(error, MessageError | PeerError))

    loop = new_loop()
    try:
        with RecordedLlm(recorded.notes, _asked_s(recorded)).in_place_of(llm, caller.agent_module):
            loop.run_until_complete(hold())
    finally:
        close_loop(loop)
    before = turns_of(recorded)
    found = _turns(memory, traffic)
    if _is_open(recorded):
        known = {turn.event_id for turn in before}
        found = [turn for turn in found if turn.event_id in known]  # it was written in the midst of a turn
    return Replay(found, before, errors, [str(problem) for problem in problems if problem.step])


def _asked_s(recorded: Recorded) -> dict[str, float]:
    """Return when the transcript of each turn came first, by the JSON of its event id."""
    found: dict[str, float] = {}
    for record in recorded.records:
        message = message_of(record.content) if record.direction == "out" and record.kind in ("text", "binary") else {}
        if message.get("type") == "user_transcript":
            found.setdefault(json.dumps(message.get("event_id")), record.t_s)
    return found


def _check_no_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise CallerError("a replay makes an event loop of its own: call it in a plain function, not in an `async def`")


async def _rest(caller: Caller, recorded: Recorded, until_s: float) -> None:
    """Let the last answer come to its end, as far as it came when it was recorded."""
    turn = caller.turns[-1] if caller.turns else None
    if turn is None or not turn.is_answering or caller.ended is not None:
        return
    if any(before.outcome == "closed" for before in recorded.turns[-1:]):
        await asyncio.sleep(max(0.0, until_s - asyncio.get_running_loop().time()))
        return
    try:
        await caller.reply_to(turn)
    except CallerError:
        return


def _is_open(recorded: Recorded) -> bool:
    """Whether the conversation went on when it was written."""
    return bool(recorded.header) and recorded.header.get("cause") is None


def _headers_of(recorded: Recorded) -> dict[str, str]:
    given = recorded.header.get("headers") or []
    return {name: _sendable(value) for name, value in given if name.lower() not in _LEFT_OUT and value != HIDDEN}


def _sendable(value: str) -> str:
    """Return a header's value that HTTP can carry: a redactor may have put other letters there."""
    return _UNSENDABLE.sub("?", value)


def _path_of(recorded: Recorded) -> str | None:
    path, query = recorded.header.get("path"), recorded.header.get("query")
    return None if path is None else f"{path}?{query}" if query else str(path)


def _turns(memory: mmap.mmap, traffic: Recording) -> list[Turn]:
    answers, said = words_of(traffic.records)
    ended, _ = Timelines().read(0, memory)
    found = []
    for _, (event_id, outcome, _, _, first_text_s, _, texts, _, _) in ended:
        text, words = answers.get(event_id, ""), said.get(event_id)
        found.append(Turn(event_id, OUTCOMES[outcome], first_text_s, texts, text, words))
    return found
