"""Scripts of conversations: the user's words and the expected answers, read from TOML."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from se_server.errors import ScriptError
from se_server.simulator.habits import Habits
from se_server.spelling import nearest


@dataclass(frozen=True, kw_only=True)
class Expect:
    """The expected answer to the user's last utterance.

    Attributes:
        contains: texts that the answer contains; letter case is ignored.
        equals: the exact answer; surrounding blanks are ignored.
        matches: a regular expression that is found in the answer.
        within_s: the limit for the first word, in seconds. With `silence`: the length of the silence.
        complete_within_s: the limit for the complete answer, in seconds.
        silence: whether no answer is expected.
    """

    contains: tuple[str, ...] = ()
    equals: str | None = None
    matches: str | None = None
    within_s: float | None = None
    complete_within_s: float | None = None
    silence: bool = False


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a conversation: exactly one of the first seven attributes is set.

    Attributes:
        say: the user's words. Their answer is awaited, unless the next step interrupts it, waits or hangs up.
        interrupt: the words with which the user interrupts the answer.
        wait_s: the length of a pause, in seconds.
        ping: send a `ping` and wait for its `pong`.
        reconnect: drop the connection and continue the conversation over a new one.
        hang_up: drop the connection without a close handshake.
        close: end the conversation as the API ends it.
        after_chars: interrupt once this many characters were heard.
        after_s: interrupt this many seconds after the question.
        expect: the expected answer.
    """

    say: str | None = None
    interrupt: str | None = None
    wait_s: float | None = None
    ping: bool = False
    reconnect: bool = False
    hang_up: bool = False
    close: bool = False
    after_chars: int | None = None
    after_s: float | None = None
    expect: Expect | None = None


@dataclass(frozen=True)
class Replay:
    """A recorded message or reconnect of the API's side, and the state of the answer before it.

    Attributes:
        content: the message; None for a reconnect.
        gap_s: the time since the previous record, in seconds.
        heard_chars: the number of characters received under the newest id.
        is_final: whether the answer under that id was complete.
        hangs_up: whether the caller drops the connection at this point, without a message.
    """

    content: str | bytes | None
    gap_s: float
    heard_chars: int
    is_final: bool
    hangs_up: bool = False


@dataclass(frozen=True)
class Script:
    """A conversation to hold.

    Attributes:
        name: a name for people: the `name` key of the file, or the file's name.
        steps: the steps in order; `Replay` for a recording, empty for a Python file.
        conversation: the coroutine function of a Python file, which is called with the caller; None otherwise.
        habits: the API's habits; None leaves the choice to the player.
        conversation_id: the id that `init` announces; None for a fresh one.
        reply_timeout_s: the longest silence before a complete answer, in seconds.
    """

    name: str
    steps: tuple[Step | Replay, ...] = ()
    conversation: Callable[..., Any] | None = None
    habits: Habits | None = None
    conversation_id: str | None = None
    reply_timeout_s: float = 30.0


# --- TOML -----------------------------------------------------------------------------------------------------------

_ACTIONS = ("say", "interrupt", "wait_s", "ping", "reconnect", "hang_up", "close")
_MODIFIERS = ("after_chars", "after_s", "expect")
_SCRIPT_KEYS = ("name", "habits", "seed", "conversation_id", "reply_timeout_s", "steps")
_HABITS = ("polite", "live", "hostile")


def parse_script(content: Mapping[str, Any], where: str, name: str) -> Script:
    """Create a script from a TOML document; `where` names the file in errors.

    Raises:
        ScriptError: the document is wrong.
    """
    _check_keys(content, _SCRIPT_KEYS, where)
    steps = content.get("steps", [])
    if not isinstance(steps, list) or not steps:
        raise ScriptError(f"{where}: a script has steps: write [[steps]] and an action below it, such as say = 'hello'")
    return Script(
        name=_typed(content, "name", str, "a text", where) or name,
        steps=tuple(_step(step, f"{where}, step {number}") for number, step in enumerate(steps, 1)),
        habits=_habits(content, where),
        conversation_id=_typed(content, "conversation_id", str, "a text", where),
        reply_timeout_s=_seconds(content, "reply_timeout_s", where) or 30.0,
    )


def _step(step: object, where: str) -> Step:
    if not isinstance(step, dict):
        raise ScriptError(f"{where}: a step must be a table")
    _check_keys(step, (*_ACTIONS, *_MODIFIERS), where)
    found = [key for key in _ACTIONS if key in step]
    if len(found) > 1:
        raise ScriptError(f"{where}: {found[0]!r} and {found[1]!r} are two actions: write them as two steps")
    if not found and "expect" not in step:
        raise ScriptError(f"{where}: a step without an action: it needs one of {', '.join(_ACTIONS)} or expect")
    for key in ("after_chars", "after_s"):
        if key in step and "interrupt" not in step:
            raise ScriptError(f"{where}: {key!r} requires 'interrupt'")
    for key in ("ping", "reconnect", "hang_up", "close"):
        if key in step and step[key] is not True:
            raise ScriptError(f"{where}: {key!r} is {step[key]!r}: it can only be true")
    for key in ("say", "interrupt"):
        if not (_typed(step, key, str, "a text", where) or "x").strip():
            raise ScriptError(f"{where}: {key!r} is blank: write the user's words")
    chars = _typed(step, "after_chars", int, "a whole number", where)
    if chars is not None and chars < 1:
        raise ScriptError(f"{where}: 'after_chars' is {chars}: it must be above 0")
    return Step(
        say=step.get("say"),
        interrupt=step.get("interrupt"),
        wait_s=_seconds(step, "wait_s", where),
        **{key: key in step for key in ("ping", "reconnect", "hang_up", "close")},
        after_chars=chars,
        after_s=_seconds(step, "after_s", where),
        expect=_expect(step["expect"], f"{where}, expect") if "expect" in step else None,
    )


def _expect(given: object, where: str) -> Expect:
    if isinstance(given, str):
        given = {"contains": given}
    if not isinstance(given, dict) or not given:
        raise ScriptError(f"{where}: expected a text, or a table such as {{ contains = 'hello', within_s = 2 }}")
    _check_keys(given, tuple(key.name for key in fields(Expect)), where)
    contains = given.get("contains", [])
    contains = [contains] if isinstance(contains, str) else contains
    if not isinstance(contains, list) or not all(isinstance(text, str) for text in contains):
        raise ScriptError(f"{where}: 'contains' is {contains!r}: it must be a text or a list of texts")
    matches = _typed(given, "matches", str, "a text", where)
    if matches is not None:
        try:
            re.compile(matches)
        except re.error as error:
            raise ScriptError(f"{where}: 'matches' is not a regular expression: {error}") from None
    expect = Expect(
        contains=tuple(contains),
        equals=_typed(given, "equals", str, "a text", where),
        matches=matches,
        within_s=_seconds(given, "within_s", where),
        complete_within_s=_seconds(given, "complete_within_s", where),
        silence=bool(_typed(given, "silence", bool, "true or false", where)),
    )
    if expect.silence and (expect.contains or expect.equals or matches or expect.complete_within_s is not None):
        raise ScriptError(f"{where}: 'silence' can only be combined with 'within_s'")
    return expect


def _habits(content: Mapping[str, Any], where: str) -> Habits | None:
    given, seed = content.get("habits"), _typed(content, "seed", int, "a whole number", where)
    if seed is not None and given != "hostile":
        raise ScriptError(f"{where}: 'seed' requires habits = 'hostile'")
    if given is None:
        return None
    if isinstance(given, str):
        if given not in _HABITS:
            raise ScriptError(f"{where}: habits are {given!r}{nearest(given, _HABITS)}")
        if given == "hostile":
            return Habits.hostile(seed or 0)
        return Habits.live() if given == "live" else Habits()
    if not isinstance(given, dict):
        raise ScriptError(f"{where}: habits are {given!r}: write one of {', '.join(_HABITS)}, or a table of switches")
    _check_keys(given, tuple(key.name for key in fields(Habits)), f"{where}, habits")
    try:
        return Habits(**given)
    except (ValueError, TypeError) as error:
        raise ScriptError(f"{where}, habits: {error}") from None


def _check_keys(table: Mapping[str, object], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            raise ScriptError(f"{where}: unknown key {key!r}{nearest(key, known)}")


def _typed(table: Mapping[str, Any], key: str, kind: type[object], wanted: str, where: str) -> Any:
    value = table.get(key)
    if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
        raise ScriptError(f"{where}: {key!r} is {value!r}: it must be {wanted}")
    return value


def _seconds(table: Mapping[str, Any], key: str, where: str) -> float | None:
    value = table.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 86400:
        raise ScriptError(f"{where}: {key!r} is {value!r}: it must be a number of seconds, 0 or more")
    return float(value)
