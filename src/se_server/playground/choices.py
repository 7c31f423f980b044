"""The choices of the page for one conversation, and their reading."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from se_server.playground.switches import habits_of
from se_server.simulator.habits import Habits
from se_server.simulator.headers import check_header, check_query
from se_server.simulator.script import Step

MAX_WORDS = 20_000
MAX_HEADERS = 64
MAX_MOMENT = 1_000_000
MAX_TURNS = 500
"""Turns of one conversation."""


@dataclasses.dataclass(frozen=True)
class TalkOptions:
    """The choices of the page for one conversation.

    Attributes:
        headers: further headers of the upgrade request.
        query: the query of the upgrade request.
        first_message: the words with which the API begins on the agent's behalf.
        habits: the API's habits at the beginning.
        cascade_timeout_s: the engine's setting, for hints.
        again: the steps of an earlier conversation, which are taken by themselves.
    """

    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    query: str = ""
    first_message: str = ""
    habits: Habits = dataclasses.field(default_factory=Habits)
    cascade_timeout_s: float = 4.0
    again: tuple[Step, ...] = ()


def options_of(given: dict[str, Any]) -> TalkOptions:
    """Read the choices of the page.

    Raises:
        ValueError: one of them cannot be used; a sentence for the user.
    """
    headers = given.get("headers", {})
    query, first = given.get("query", ""), given.get("first_message", "")
    cascade_s = given.get("cascade_timeout_s", 4.0)
    if not isinstance(headers, dict) or len(headers) > MAX_HEADERS or not isinstance(query, str):
        raise ValueError(f"headers are at most {MAX_HEADERS} names with values, and the query is a text")
    if not isinstance(first, str) or len(first) > MAX_WORDS:
        raise ValueError(f"the first message is a text of at most {MAX_WORDS} characters")
    if isinstance(cascade_s, bool) or not isinstance(cascade_s, int | float) or not 0 < cascade_s <= 60:
        raise ValueError("the cascade timeout is a number of seconds, from 2 to 15 on the live API")
    for name, value in headers.items():
        check_header(name, value if isinstance(value, str) else "\n")
    check_query(query)
    habits = habits_of(given.get("habits", {}))
    return TalkOptions(headers, query, first.strip(), habits, float(cascade_s), _steps(given.get("again") or []))


def _steps(given: object) -> tuple[Step, ...]:
    """Read the steps of a conversation that is held again."""
    wrong = ValueError("again is a list of steps with say or interrupt")
    if not isinstance(given, list) or len(given) > MAX_TURNS:
        raise wrong
    steps = []
    for step in given:
        try:
            steps.append(Step(**step))
        except TypeError:
            raise wrong from None
        words = step.get("say", step.get("interrupt"))
        moments = (step.get("after_chars", 0), step.get("after_s", 0))
        if not isinstance(words, str) or not words.strip() or len(words) > MAX_WORDS or len(step) > 2:
            raise wrong
        if not all(isinstance(moment, int | float) and 0 <= moment < MAX_MOMENT for moment in moments):
            raise wrong
    return tuple(steps)
