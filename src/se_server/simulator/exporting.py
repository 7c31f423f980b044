"""Write a conversation that was held as a script for `se-chat`, or as a test for pytest."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from se_server.simulator.calls import CallTurn
from se_server.simulator.habits import Habits, changes
from se_server.simulator.judge import Outcome, Verdict
from se_server.simulator.script import Step

_WIRE = ("fragment_bytes", "segment_bytes", "slow_read_bytes_s")
"""Habits of real sockets, which a test in process has not."""
_SHOWN = 160


@dataclass(frozen=True)
class Held:
    """A conversation that was held.

    Attributes:
        turns: the utterances, each with its verdict; those of habits included.
        habits: the API's habits at the beginning.
        changes: the habits from a turn on, by the place of the turn, where they were changed.
        conversation_id: the id that `init` announced.
        app: the APP as se-server names it.
        path: the path of the upgrade request, with its query.
        headers: further headers of the upgrade request.
        first_word_s: the limit for the first word that a test states, in seconds.
        title: its title.
    """

    turns: Sequence[tuple[CallTurn, Verdict]]
    habits: Habits
    conversation_id: str
    app: str
    path: str = "/"
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    first_word_s: float = 4.0
    changes: Mapping[int, Habits] = dataclasses.field(default_factory=dict)
    title: str = "A conversation of the playground"

    def habits_from(self, turn: CallTurn) -> Habits | None:
        """Return the habits that were changed before a turn; None if they were not."""
        place = next(place for place, (held, _) in enumerate(self.turns) if held is turn)
        return self.changes.get(place)

    def steps(self) -> list[tuple[Step, CallTurn, Verdict]]:
        """Return the steps that hold the conversation again."""
        found: list[tuple[Step, CallTurn, Verdict]] = []
        before: CallTurn | None = None
        for turn, verdict in self.turns:
            if not (turn.is_habit or turn.is_silence or not turn.said.strip()):
                step = Step(say=turn.said)
                if before is not None and before.interrupted_by == "user" and before.interrupted_at == turn.said_at:
                    step = Step(interrupt=turn.said, **_moment(before))
                found.append((step, turn, verdict))
            before = turn
        return found


def _moment(turn: CallTurn) -> dict[str, Any]:
    """Return when an answer was interrupted: after its words, or after a time where it had none."""
    if turn.chunks:
        return {"after_chars": len(turn.heard)}
    assert turn.interrupted_at is not None
    return {"after_s": round(turn.interrupted_at - turn.said_at, 3)}


# --- a script -------------------------------------------------------------------------------------------------------


def as_script(held: Held) -> str:
    """Return a script in TOML. Its expectations are times; the words that were heard are comments."""
    lines = ["# A conversation that was held, for se-chat --script. Complete `expect` by what matters.", ""]
    lines += [f"name = {_toml(held.title)}"]
    if differing := changes(held.habits):
        lines.append(f"habits = {{ {', '.join(f'{name} = {_toml(value)}' for name, value in differing.items())} }}")
    if held.changes:
        lines.append("# The habits were changed during the conversation, which a script cannot do.")
    if held.headers:
        lines.append("# Give se-chat the headers: " + " ".join(f"-H '{name}: ...'" for name in held.headers))
    for step, turn, verdict in held.steps():
        lines += ["", "[[steps]]"]
        key = "say" if step.say is not None else "interrupt"
        lines.append(f"{key} = {_toml(turn.said)}")
        if step.after_chars is not None:
            lines.append(f"after_chars = {step.after_chars}")
        if step.after_s is not None:
            lines.append(f"after_s = {step.after_s:g}")
        if verdict.outcome is Outcome.HEARD and verdict.first_word_s is not None:
            lines.append(f"expect = {{ within_s = {_limit_s(held, verdict):g} }}")
        if turn.chunks:
            lines += [f"# heard: {line}" for line in textwrap.wrap(_one_line(turn.heard), 110)]
        elif not verdict.is_ok:
            lines.append(f"# {_one_line(verdict.reason)}")
    return "\n".join(lines) + "\n"


def _limit_s(held: Held, verdict: Verdict) -> float:
    """Return the limit for the first word: the API's, or what it took where that was longer."""
    return max(held.first_word_s, float(int((verdict.first_word_s or 0.0) * 1.5) + 1))


# --- a test ---------------------------------------------------------------------------------------------------------


def as_test(held: Held) -> str:
    """Return a pytest test that holds the conversation in virtual time, and passes with the agent as it is.

    A turn that went wrong is stated as it was, beside the line that replaces it once the agent is mended.
    """
    habits = _habits(held.habits)
    options = [f"path={held.path!r}"] if held.path not in ("", "/") else []
    if held.headers:
        options.append(f"headers={dict(held.headers)!r}")
    if habits != "Habits()" or held.changes:
        options.append(f"habits={habits}")
        options.append(f"conversation_id={held.conversation_id!r}")  # the dice are seeded by it
    steps = held.steps()
    uses = ["Habits"] * any("Habits(" in option for option in options) + ["Outcome"] * any(
        not verdict.is_ok and verdict.outcome is not Outcome.WAITING for _, _, verdict in steps
    )
    lines = [f'"""{held.title}. Run it with: pytest FILE"""', "", "import pytest", ""]
    if uses:
        lines += [f"from se_server.testing import {', '.join(uses)}", ""]
    lines += [f"pytestmark = pytest.mark.se_app({held.app!r})", "", ""]
    fixture = "make_caller" if options else "caller"
    lines.append(f"async def test_the_conversation_of_the_playground({fixture}):")
    if options:
        lines += ["    caller = make_caller(", *(f"        {option}," for option in options), "    )"]
    for place, (_, turn, verdict) in enumerate(steps):
        following = steps[place + 1] if place + 1 < len(steps) else None
        lines += _lines_of(
            place, turn, verdict, steps[place][0], following and following[0], following and following[1], held
        )
    if not steps:
        lines.append("    await caller.open()  # nothing was said")
    return "\n".join(lines) + "\n"


def _lines_of(
    place: int,
    turn: CallTurn,
    verdict: Verdict,
    step: Step,
    following: Step | None,
    next_turn: CallTurn | None,
    held: Held,
) -> list[str]:
    lines = [""] if place else []
    changed = held.habits_from(turn)
    if changed is not None:
        lines.append(f"    caller.change_habits({_habits(changed)})")
    name = f"reply_{place + 1}"
    if following is not None and following.interrupt is not None and next_turn is not None:
        when = (
            f"after_s={following.after_s}" if following.after_s is not None else f"after_chars={following.after_chars}"
        )
        lines.append(f"    interruption_{place + 2} = caller.interrupt({_quoted(next_turn.said)}, {when})")
    how = f"await interruption_{place + 1}" if step.interrupt is not None else f"await caller.say({_quoted(turn.said)})"
    lines.append(f"    {name} = {how}")
    if turn.chunks:
        lines.append(f"    # heard: {_cut(_one_line(turn.heard))}")
    if verdict.is_ok:
        lines.append(f"    assert {name}.verdict.is_ok, {name}.verdict.reason")
        if verdict.outcome is Outcome.HEARD:
            lines.append(f"    assert {name}.first_word_s < {_limit_s(held, verdict):g}")
    elif verdict.outcome is Outcome.WAITING:
        lines.append(f"    # Its answer was not complete when the test was made: {_cut(_one_line(verdict.reason))}")
    else:
        lines.append(f"    # It went wrong: {_cut(_one_line(verdict.reason))}")
        lines.append(f"    assert {name}.verdict.outcome is Outcome.{verdict.outcome.name}")
        lines.append(f"    # Once it is mended: assert {name}.verdict.is_ok, {name}.verdict.reason")
    return lines


# --- values ---------------------------------------------------------------------------------------------------------


def _habits(habits: Habits) -> str:
    """Return the habits that a test in process can show, as Python."""
    differing = {name: value for name, value in changes(habits).items() if name not in _WIRE}
    return f"Habits({', '.join(f'{name}={value!r}' for name, value in differing.items())})"


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, and for the halves of surrogate pairs, which TOML refuses.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def _quoted(text: str) -> str:
    """Return a text as a Python literal with double quotes, as formatters write it."""
    return json.dumps(text) if text.isascii() and text.isprintable() else repr(text)


def _one_line(text: str) -> str:
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
