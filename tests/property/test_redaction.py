"""Nothing private of the patterns is in a recording of the level `redacted`, wherever in the traffic it was.

Hypothesis draws private values in the forms that people say, write and type them, the words around them, their place in
the traffic, and how they are cut into chunks and utterances. A second reading decides: whole lines, and answers put
together, are stripped of everything but letters and digits, and must not have the value.
"""

from __future__ import annotations

import base64
import json
import struct
import unicodedata
import urllib.parse
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from se_server.recordings.reading import parse
from se_server.recordings.records import message_of
from se_server.recordings.writing import Facts, lines_of
from se_server.telemetry._tape import ERROR, IN, OPEN, OUT

SETTINGS = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
FACTS = Facts("conv_1", 1.0, 1_000_000, 9_000_000, "closed", 1000, ["error"], [], [], 0, 0)

# --- private values ---------------------------------------------------------------------------------------------------

GAPS = st.sampled_from(["", "", "", " ", "-", ".", "\u00a0", "\u2011", "\u200b", " - ", ", ", "; ", "|", "*"])
DIGITS = st.sampled_from(["0123456789"] * 6 + ["٠١٢٣٤٥٦٧٨٩", "０１２３４５６７８９"])


def luhn(digits: str) -> str:
    """Return digits with their check digit."""
    total = sum(
        int(digit) if place % 2 else sum(divmod(2 * int(digit), 10)) for place, digit in enumerate(digits[::-1])
    )
    return digits + str(-total % 10)


@st.composite
def cards(draw: st.DrawFn) -> tuple[str, str]:
    first = draw(st.sampled_from("3456"))
    size = draw(st.integers(12, 17))
    core = luhn(first + draw(st.text("0123456789", min_size=size - 1, max_size=size - 1)))
    alphabet, gap, every = draw(DIGITS), draw(GAPS), draw(st.sampled_from([1, 4, 4, 4]))
    groups = [core[at : at + every] for at in range(0, len(core), every)]
    return core, gap.join(groups).translate({48 + value: alphabet[value] for value in range(10)})


@st.composite
def ibans(draw: st.DrawFn) -> tuple[str, str]:
    country, letters, digits = draw(st.sampled_from([("DE", 0, 18), ("GB", 4, 14), ("NO", 0, 11), ("NL", 4, 10)]))
    body = draw(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=letters, max_size=letters))
    body += draw(st.text("0123456789", min_size=digits, max_size=digits))
    rest = int("".join(str(int(letter, 36)) for letter in body + country + "00")) % 97
    core = f"{country}{98 - rest:02}{body}"
    gap = draw(st.sampled_from(["", " ", "-", "\u00a0", ", ", "|"]))
    shown = gap.join(core[at : at + 4] for at in range(0, len(core), 4))
    return core, draw(st.sampled_from([shown, shown.lower()]))


@st.composite
def emails(draw: st.DrawFn) -> tuple[str, str]:
    word = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=3, max_size=8)
    # A recording's own words have neither a j nor a z: no local part is found in them by chance.
    local = draw(word) + draw(st.sampled_from(["", ".", "_", "+", "-"])) + draw(st.sampled_from("jzJZ")) + draw(word)
    domain, top = draw(word), draw(st.sampled_from(["com", "de", "co.uk", "museum"]))
    form = draw(st.sampled_from(["{}@{}.{}", "{}@{}.{}", "{} at {} dot {}", "{} (at) {}.{}"]))
    return local, form.format(local, domain, top.replace(".", " dot ") if " dot " in form else top)


@st.composite
def phones(draw: st.DrawFn) -> tuple[str, str]:
    core = draw(st.sampled_from("123456789")) + draw(st.text("0123456789", min_size=8, max_size=10))
    form = draw(
        st.sampled_from(["+{0}{1}{2}", "+{0} {1} {2}", "({0}) {1}-{2}", "{0}/{1}{2}", "{0}.{1}.{2}", "00{0} {1} {2}"])
    )
    return core, form.format(core[:3], core[3:6], core[6:])


@st.composite
def tokens(draw: st.DrawFn) -> tuple[str, str]:
    core = draw(st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=24, max_size=40))
    return core, draw(st.sampled_from(["sk_{}", "sk-{}", "Bearer {}", "eyJhbGciOiJI.{}.c2ln"])).format(core)


VALUES = st.one_of(cards(), ibans(), emails(), phones(), tokens())
CHECKED = st.one_of(cards(), ibans())  # those that are found although they are split over two utterances
WORDS = st.sampled_from(
    [
        "",
        "it is ",
        "my number: ",
        "¿",
        "(",
        '"',
        "<b>",
        "well\n",
        "\\ ",
        "ö, ",
        "🙂 ",
        "{",
        "4 times ",
        "call ",
        "in 20 minutes to ",
        "to",
    ]
)


@st.composite
def said(draw: st.DrawFn, values: st.SearchStrategy[tuple[str, str]] = VALUES) -> tuple[str, str, str, str]:
    core, shown = draw(values)
    return core, draw(WORDS), shown, draw(st.sampled_from(["", ".", " please", "\n", '"', ")", ", or so", "!"]))


def cut(text: str, at: list[int]) -> list[str]:
    places = sorted({place % (len(text) + 1) for place in at})
    return [text[start:stop] for start, stop in zip([0, *places], [*places, len(text)], strict=True)]


# --- a recording, and the second reading of it ------------------------------------------------------------------------


def taped_in(message: dict[str, Any] | str, ascii_only: bool = True) -> bytes:
    text = message if isinstance(message, str) else json.dumps(message, ensure_ascii=ascii_only)
    return struct.pack("=II", 0, 0) + text.encode()


def frame(message: dict[str, Any]) -> bytes:
    payload = json.dumps(message).encode()
    return b"\x81\x7f" + len(payload).to_bytes(8, "big") + payload


def transcript(*contents: str, role: str = "user") -> dict[str, Any]:
    return {
        "type": "user_transcript",
        "event_id": 1,
        "user_transcript": [{"role": role, "content": text} for text in contents],
    }


def record(*taped: tuple[int, bytes]) -> list[str]:
    records = [(1_000_000 + place, kind, data) for place, (kind, data) in enumerate(taped)]
    lines = lines_of(FACTS, records, "redacted", {"server": "0", "app": "agent.py"})
    parse(lines, "the recording")
    return lines


def bare(text: str) -> str:
    """Return the letters and digits of a text, as a search would compare them."""
    plain = (str(unicodedata.digit(letter)) if letter.isdigit() else letter for letter in text if letter.isalnum())
    return "".join(plain).lower()


def texts_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.items() for part in item for text in texts_in(part)]
    if isinstance(value, list):
        return [text for item in value for text in texts_in(item)] + [
            "".join(part for part in value if isinstance(part, str))
        ]
    return [str(value)]


def readings(lines: list[str]) -> list[str]:
    """Return all that can be read in a recording: lines, texts in their JSON, answers, and what one speaker said."""
    found, answer, utterances = list(lines), "", ""
    for line in lines:
        entry = json.loads(line)
        found += texts_in(entry)
        message = message_of(entry.get("text"))
        found += texts_in(message)
        if message.get("type") == "agent_response":
            answer += message["content"]
        for one in message.get("user_transcript") or ():
            utterances += one["content"]
    plain = [urllib.parse.unquote_plus(text) for text in found]
    for text in found:
        try:
            plain.append(base64.b64decode(text, validate=True).decode())
        except ValueError:
            continue
    return [*found, *plain, answer, utterances]


def is_readable(core: str, lines: list[str]) -> bool:
    return any(bare(core) in bare(text) for text in readings(lines))


# --- what users and agents say ----------------------------------------------------------------------------------------


@SETTINGS
@given(said(), st.booleans(), st.sampled_from(["user", "agent"]))
@example(("4111111111111111", "", "4111 1111 1111 1111", ""), True, "user")
def test_transcripts_keep_nothing_private(words: tuple[str, str, str, str], ascii_only: bool, role: str) -> None:
    core, before, shown, behind = words
    lines = record((IN, taped_in(transcript("hello", before + shown + behind, role=role), ascii_only)))
    assert not is_readable(core, lines)
    assert "hello" in lines[-1]


@SETTINGS
@given(said(CHECKED), st.integers(1, 40))
def test_two_utterances_keep_no_number(words: tuple[str, str, str, str], at: int) -> None:
    core, before, shown, behind = words
    at %= len(shown)
    lines = record((IN, taped_in(transcript(before + shown[:at], shown[at:] + behind))))
    assert not is_readable(core, lines)


@SETTINGS
@given(st.lists(said(), min_size=2, max_size=5))
@example(
    [
        ("4111111111111111", "my card is ", "4111 1111 1111 1111", ""),
        ("abilm5tf6dayn9iunfiqsyyrx", "", "sk_abilm5tf6dayn9iunfiqsyyrx", ""),
    ]
)
def test_many_utterances_keep_nothing_private(all_words: list[tuple[str, str, str, str]]) -> None:
    lines = record((IN, taped_in(transcript(*("".join(words[1:]) for words in all_words)))))
    assert [core for core, *_ in all_words if is_readable(core, lines)] == []


@SETTINGS
@given(said(), st.lists(st.integers(0, 200), max_size=12), st.booleans())
def test_chunks_of_an_answer_keep_nothing_private(
    words: tuple[str, str, str, str], at: list[int], together: bool
) -> None:
    core, *parts = words
    chunks = cut("".join(parts), at)
    frames = [frame({"type": "agent_response", "content": text, "event_id": 1, "is_final": False}) for text in chunks]
    frames.append(frame({"type": "agent_response", "content": "", "event_id": 1, "is_final": True}))
    lines = record(*([(OUT, b"".join(frames))] if together else [(OUT, one) for one in frames]))
    assert not is_readable(core, lines)
    assert len(lines) == len(frames) + 3  # the times of an answer stay


@SETTINGS
@given(said(), st.sampled_from(["error", "odd", "name", "number", "text", "twice"]))
def test_other_messages_keep_nothing_private(words: tuple[str, str, str, str], where: str) -> None:
    core, *parts = words
    text = "".join(parts)
    message: dict[str, Any] | str = {"type": "error", "message": text}
    if where == "odd":
        message = {"type": "metadata", "deep": [{"er": {"est": [1, text]}}]}
    elif where == "name":
        message = {"type": "metadata", text: 1}
    elif where == "number":
        # A token is one by its prefix, which a number cannot have.
        is_number = core.isdigit() and len(core) < 24
        message = {"type": "metadata", "n": int(core)} if is_number else {"type": text}
    elif where == "text":
        message = text  # no JSON
    elif where == "twice":
        message = f'{{"type": {json.dumps(text)}, "type": "metadata"}}'
    assert not is_readable(core, record((IN, taped_in(message))))


@SETTINGS
@given(said())
def test_errors_of_handlers_keep_nothing_private(words: tuple[str, str, str, str]) -> None:
    core, *parts = words
    note = {"class": "ValueError", "text": "".join(parts), "frames": ["".join(parts)]}
    assert not is_readable(core, record((ERROR, json.dumps(note).encode())))


@SETTINGS
@given(said(), st.sampled_from(["path", "query", "quoted", "header", "base64"]))
def test_upgrade_requests_keep_nothing_private(words: tuple[str, str, str, str], where: str) -> None:
    core, _, shown, _ = words
    request: dict[str, Any] = {"path": "/", "query": "", "headers": []}
    if where == "path":
        request["path"] = "/call/" + urllib.parse.quote(shown)
    elif where == "query":
        request["query"] = urllib.parse.urlencode({"who": shown, "x": "1"})
    elif where == "quoted":
        request["query"] = "who=" + urllib.parse.quote(shown, safe="") + "&" + urllib.parse.quote(shown) + "=1"
    elif where == "header":
        request["headers"] = [["X-Who", shown]]
    else:
        request["headers"] = [["X-Who", base64.b64encode(shown.encode()).decode()]]
    assert not is_readable(core, record((OPEN, json.dumps(request).encode())))


@SETTINGS
@given(st.text(max_size=60), st.lists(st.integers(0, 200), max_size=5))
def test_any_words_make_a_recording(text: str, at: list[int]) -> None:
    clean = text.encode("utf-8", "replace").decode()
    frames = [frame({"type": "agent_response", "content": part, "event_id": 1}) for part in cut(clean, at)]
    lines = record((IN, taped_in(transcript(clean))), (OUT, b"".join(frames)))
    assert len(lines) == len(frames) + 4


ORDINARY = [
    "hello",
    "I",
    "would",
    "like",
    "two",
    "rooms",
    "for",
    "15",
    "people",
    "in",
    "May",
    "please",
    "at",
    "18:30",
    "2026-05-03",
]


@SETTINGS
@given(st.lists(st.sampled_from(ORDINARY), min_size=1))
def test_ordinary_words_stay(words: list[str]) -> None:
    text = " and ".join(words)
    lines = record((IN, taped_in(transcript(text))))
    assert message_of(json.loads(lines[-1])["text"]) == transcript(text)
