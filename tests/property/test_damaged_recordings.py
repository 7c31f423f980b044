"""A damaged recording is replayed, or refused with one sentence that names the line; it never hangs or crashes."""

from __future__ import annotations

import copy
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from se_server.errors import CallerError, ScriptError
from se_server.recordings.records import message_of
from se_server.testing import Replay, replay

SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


async def on_transcript(transcript: Any, session: Any) -> None:
    await session.send_response(f"you said {transcript[-1].content}")


AGENT = {"on_transcript": on_transcript}


def _text(t_s: float, direction: str, **message: Any) -> dict[str, Any]:
    return {"t_s": t_s, "direction": direction, "kind": "text", "text": json.dumps(message)}


def _turn(t_s: float, event_id: int, said: list[str]) -> list[dict[str, Any]]:
    history = [{"role": "agent" if place % 2 else "user", "content": text} for place, text in enumerate(said)]
    ended = {"event_id": event_id, "outcome": "answered", "first_text_s": 0.1, "texts": 1}
    return [
        _text(t_s, "out", type="user_transcript", user_transcript=history, event_id=event_id),
        {"t_s": t_s, "direction": "note", "kind": "stream", "event_id": event_id},
        {"t_s": t_s + 0.1, "direction": "note", "kind": "llm", "event": {"delta": "x"}},
        _text(
            t_s + 0.1, "in", type="agent_response", content=f"you said {said[-1]}", event_id=event_id, is_final=False
        ),
        _text(t_s + 0.2, "in", type="agent_response", content="", event_id=event_id, is_final=True),
        {"t_s": t_s + 0.2, "direction": "note", "kind": "turn", **ended},
    ]


HEADER = {
    "version": 2,
    "level": "full",
    "conversation_id": "conv_1",
    "began_at_s": 1.8e9,
    "reasons": ["asked"],
    "path": "/call",
    "query": "a=b",
    "headers": [["X-Customer", "7"], ["Upgrade", "websocket"]],
    "cause": "closed",
    "code": 1000,
    "app": "agent.py",
    "options": {"turn_timeout_s": 10},
}
GOOD: list[dict[str, Any]] = [
    {"recording": HEADER},
    {"t_s": 0, "direction": "out", "kind": "open"},
    _text(0.1, "out", type="init", conversation_id="conv_1"),
    *_turn(0.5, 1, ["hello"]),
    *_turn(2.0, 2, ["hello", "you said hello", "and bye"]),
    _text(4.0, "out", type="close"),
    {"t_s": 4.1, "direction": "in", "kind": "close", "text": "1000"},
]
VALUES = st.one_of(
    st.sampled_from(
        [None, True, -1, 0, 1e9, 1e12, 1e308, float("inf"), float("-inf"), float("nan"), 10**40, "", "x", " ", [], {}]
    ),
    st.sampled_from(
        ["\r\n", "\0", "ä\ud83d", "/", "http://x/", "a" * 70_000, [["only"]], [["a", "b\n"]], [[1, 2]], {"a": 1}]
    ),
    st.floats(),
    st.integers(),
    st.text(max_size=5),
)


def _places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [way] if way else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        found += _places(item, (*way, name))
    return found


def _put(value: Any, way: tuple[Any, ...], new: Any, *, is_deleted: bool) -> None:
    for name in way[:-1]:
        value = value[name]
    if is_deleted:
        del value[way[-1]]
    else:
        value[way[-1]] = new


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    entries: list[Any] = json.loads(json.dumps(GOOD))
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["value", "value", "value", "inner", "inner", "drop", "double", "move", "line"]))
        place = draw(st.integers(0, len(entries) - 1))
        if kind == "drop" and len(entries) > 1:
            del entries[place]
        elif kind == "double":
            entries.insert(draw(st.integers(0, len(entries))), json.loads(json.dumps(entries[place])))
        elif kind == "move":
            entries.insert(draw(st.integers(0, len(entries) - 1)), entries.pop(place))
        elif kind == "line":
            entries[place] = copy.deepcopy(draw(VALUES))
        elif isinstance(entries[place], dict):
            entry, is_inner = entries[place], False
            if kind == "inner" and isinstance(entry.get("text"), str) and message_of(entry["text"]):
                entry, is_inner = message_of(entry["text"]), True
            if ways := _places(entry):
                _put(entry, draw(st.sampled_from(ways)), copy.deepcopy(draw(VALUES)), is_deleted=draw(st.booleans()))
            if is_inner:
                text = json.dumps(entry)
                entries[place]["text"] = text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text
    data = "\n".join(map(json.dumps, entries)).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 5)) == 0:
        data = data[: draw(st.integers(0, len(data)))]
    if draw(st.integers(0, 5)) == 0 and data:
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + draw(st.binary(min_size=1, max_size=3)) + data[at + 1 :]
    return data


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "x.jsonl"


def _with(place: int, **values: Any) -> bytes:
    entries = [*GOOD[:place], {**GOOD[place], **values}, *GOOD[place + 1 :]]
    return "\n".join(map(json.dumps, entries)).encode()


@SETTINGS
@given(damaged())
@example(_with(0, recording={**HEADER, "headers": [["only"]]}))
@example(_with(3, text="{"))
@example(_with(16, t_s=1e9))
@example(_with(16, t_s=604_800))
def test_a_damaged_recording_is_refused_or_replayed(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    began_s = time.process_time()
    try:
        held = replay(path, AGENT)
    except (CallerError, ScriptError) as error:
        said = str(error)
        assert "\n" not in said
        assert re.search(r", line \d+: ", said) or re.search("is empty|has no texts|has no conversation", said), said
    else:
        assert isinstance(held, Replay)
        str(held)
    assert time.process_time() - began_s < 20


def test_a_good_recording_has_no_differences(path: Path) -> None:
    path.write_bytes(_with(0))
    assert replay(path, AGENT).differences == []
    path.write_bytes(b"\xef\xbb\xbf" + _with(0).replace(b"\n", b"\r\n\r\n"))
    assert replay(path, AGENT).outcomes == ["answered", "answered"]


@pytest.mark.parametrize(
    ("place", "values", "said"),
    [
        (16, {"t_s": 1e9}, r"line 17: its t_s is 1000000000.0: expected seconds from 0 to 604800"),
        (16, {"t_s": float("inf")}, "line 17: Infinity is not a number of JSON"),
        (16, {"t_s": float("nan")}, "line 17: NaN is not a number of JSON"),
        (16, {"t_s": -1}, "line 17: its t_s is -1"),
        (16, {"t_s": 0.2}, "line 17: its t_s goes back from 4 to 0.2"),
        (16, {"t_s": True}, "line 17: its t_s is true"),
        (0, {"recording": {**HEADER, "headers": [["only"]]}}, "line 1: the header's headers is"),
        (0, {"recording": {"version": 2, "began_at_s": 1e300}}, "line 1: the header's began_at_s is 1e"),
        (0, {"recording": {**HEADER, "options": {"a=print()": 1}}}, "line 1: the header's options is"),
        (3, {"text": '{"type": "user_transcript", '}, "line 4: its text is not a message of the API"),
        (6, {"text": '{"type": "agent_respo'}, "line 7: its text is not a message of a server"),
        (8, {"first_text_s": "soon"}, 'line 9: its first_text_s is "soon": expected seconds'),
        (8, {"event_id": []}, r"line 9: its event_id is \[\]: expected a number"),
    ],
)
def test_the_line_of_the_damage_is_named(path: Path, place: int, values: dict[str, Any], said: str) -> None:
    path.write_bytes(_with(place, **values))
    with pytest.raises(CallerError, match=said):
        replay(path, AGENT)
