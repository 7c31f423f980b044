"""Commands that the user of se-chat types instead of words: /help, /again, /silence, /reset, /export, /quit."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from se_server.cli.screen import Screen
from se_server.simulator.caller import Caller
from se_server.simulator.exporting import Held, as_script, as_test
from se_server.simulator.habits import Habits
from se_server.spelling import nearest


class Talker(Protocol):
    """The object that a command acts on: `Chat`."""

    caller: Caller
    screen: Screen

    def say(self, text: str) -> None:
        """Say something, as the user."""

    def restart(self, why: str) -> None:
        """End the conversation, and have another one begin."""

    def finish(self, exit_code: int) -> None:
        """End the conversation."""


COMMANDS = {
    "help": "show the commands",
    "again": "say the last words again",
    "silence": "let the API notice a pause without words",
    "reset": "hang up, and begin another conversation",
    "export FILE": "write the conversation as a script (.toml) or as a test for pytest (.py)",
    "quit": "hang up, as Ctrl-D does",
}
_NAMES = [usage.split()[0] for usage in COMMANDS]
_KEYS = "Up and Down recall lines, Tab completes commands; //words says /words."
SILENCE = "..."


def is_command(line: str, is_piped: bool) -> bool:
    """Return whether a line is a command; in a pipe, only the known ones are."""
    return line.startswith("/") and (not is_piped or _name_of(line) in _NAMES or line.startswith("//"))


def carry_out(chat: Talker, line: str) -> None:
    """Carry out a command."""
    name, argument = _name_of(line), line.partition(" ")[2].strip()
    if line.startswith("//"):
        chat.say(line[1:])
    elif name == "help":
        for usage, about in COMMANDS.items():
            chat.screen.note(f"  /{usage:<12} {about}", "help")
        chat.screen.note(f"  {_KEYS}", "help")
    elif name == "again":
        said = [turn.said for turn in chat.caller.model.turns if turn.said.strip() and not turn.is_habit]
        if said:
            chat.say(said[-1])
        else:
            chat.screen.note("[nothing was said yet]")
    elif name == "silence":
        chat.say(SILENCE)
    elif name == "reset":
        chat.restart("reset")
    elif name == "export":
        chat.screen.note(f"[{_export(chat, argument)}]", "export")
    elif name == "quit":
        chat.finish(0)
    else:
        known = nearest(f"/{name}", [f"/{known}" for known in _NAMES])
        chat.screen.note(f"[there is no command /{name}{known}]")


def _name_of(line: str) -> str:
    return line[1:].partition(" ")[0]


def _export(chat: Talker, name: str) -> str:
    """Write the conversation to a file; return what was done, or why not."""
    path = Path(name).expanduser()
    if path.suffix not in (".toml", ".py"):
        return "give a file: /export talk.toml for a script, /export test_talk.py for a test"
    caller = chat.caller
    turns = [(turn, caller.verdict(turn)) for turn in caller.model.turns]
    habits = caller.model.habits or Habits()
    held = Held(turns, habits, caller.model.conversation_id, "agent.py", title="A conversation of se-chat")
    try:
        with path.open("x", encoding="utf-8") as file:  # what a user has written is not replaced
            file.write(as_script(held) if path.suffix == ".toml" else as_test(held))
    except FileExistsError:
        return f"{path} exists: give another name"
    except OSError as error:
        return f"cannot write {path}: {error.strerror}"
    if path.suffix == ".toml":
        return f"written: se-chat --script {path} holds it again"
    return f"written: name your agent in it instead of agent.py, then run pytest {path}"
