"""The end of an examination: what to do first."""

from __future__ import annotations

from collections.abc import Sequence

from se_server.doctor.results import Finding, Result, State, shown_count

MANY = 5

# The most urgent first: an open door costs money, and a server that answers nothing decides no other case.
_BY_GROUP = {
    "Door": "verify the token before anything else is done: se-server does, unless --disable-auth is given",
    "Conversation": "have one plain turn work, on which the other cases build: se-chat shows it, and se-server --debug",
    "The API asks again": "tell turns by their event_id, and run no handler for a transcript that comes again",
    "Interruptions": "cancel the handler of a superseded turn, and send nothing more under its id",
    "Answers": "see docs/answers.md for the options of answers that are lost, empty or in parts",
    "Silence": "answer transcripts of silence, or end their turn with an empty answer: docs/answers.md",
    "The end of a conversation": "end the handler with its connection, and hand on the words that came before",
    "A bad network": "read whatever the network makes of messages, and take a bad one for no more than an error",
    "Handlers that misbehave": "keep the receiving side apart from user code, which may hang, raise or block",
    "Whole conversations": "send WebSocket pings every 20 s, and look at the cases above for the habits one by one",
}


def first_step(results: Sequence[Result | Finding]) -> str:
    """Return what to do first, in one or two sentences.

    Args:
        results: of cases, and of the comparison with a stored engine.
    """
    failed = [result for result in results if result.state is State.FAIL]
    if failed:
        return _first_of(failed)
    warned = [result for result in results if result.state is State.WARNING]
    if warned:
        more = "" if len(warned) == 1 else f", then the other {shown_count(len(warned) - 1, 'warning')}"
        return f"Nothing failed. Look at {warned[0].name} first{more}."
    untested = [result for result in results if result.state is State.NOT_TESTED]
    if untested:
        said = f"Nothing failed. {shown_count(len(untested), 'case')} had no opportunity, as the lines above say"
        if len(untested) < MANY:
            return f"{said}: {', '.join(result.name for result in untested)}."
        return f"{said}. The reference agent decides all: se-server se_server.doctor.agent, then --agent reference."
    return "Nothing to do: every case passed."


def _first_of(failed: Sequence[Result | Finding]) -> str:
    findings = [result for result in failed if isinstance(result, Finding)]
    if findings:
        first = findings[0]
        return f"First: {first.name}. {_sentence(first.way_out or first.why)}"
    cases = [result for result in failed if isinstance(result, Result)]
    group = next((name for name in _BY_GROUP if any(case.group == name for case in cases)), cases[0].group)
    names = [case.name for case in cases if case.group == group]
    advice = _BY_GROUP.get(group, "look at the log of the server")
    others = len(cases) - len(names)
    then = f" Then the other {shown_count(others, 'case')}." if others else ""
    return f"First: {', '.join(names)}. {_sentence(advice)}{then}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
