"""History in the form of each provider, checked by the packages' own types where they are installed."""

from __future__ import annotations

import copy
import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from se_server import ConversationMessage
from se_server.history import SILENCE, as_anthropic, as_gemini, as_langchain, as_openai

User, Agent = (lambda text: ConversationMessage("user", text)), (lambda text: ConversationMessage("agent", text))
TALK = [Agent("Hi, I am Ada."), User("Hello?"), User("Is there a table?"), Agent("For two?"), User("Yes.")]
ALTERNATING = [
    (True, SILENCE),
    (False, "Hi, I am Ada."),
    (True, "Hello?\nIs there a table?"),
    (False, "For two?"),
    (True, "Yes."),
]
transcripts = st.lists(
    st.builds(
        ConversationMessage,
        st.sampled_from(["user", "agent"]),
        st.one_of(st.sampled_from(["...", "…", ".", "", " ", "Yes."]), st.text(max_size=8)),
    ),
    max_size=8,
)


def test_each_form_has_its_roles() -> None:
    assert as_openai(TALK) == [
        {"role": "assistant", "content": "Hi, I am Ada."},
        {"role": "user", "content": "Hello?"},
        {"role": "user", "content": "Is there a table?"},
        {"role": "assistant", "content": "For two?"},
        {"role": "user", "content": "Yes."},
    ]
    assert as_anthropic(TALK) == [
        {"role": "user" if by_user else "assistant", "content": text} for by_user, text in ALTERNATING
    ]
    assert as_gemini(TALK) == [
        {"role": "user" if by_user else "model", "parts": [{"text": text}]} for by_user, text in ALTERNATING
    ]
    assert as_langchain(TALK)[0] == ("ai", "Hi, I am Ada.")
    assert as_langchain(TALK)[-1] == ("human", "Yes.")


def test_the_system_text_is_where_it_belongs() -> None:
    brief = "Be brief."
    assert as_openai(TALK, system=brief) == [{"role": "system", "content": brief}, *as_openai(TALK)]
    assert as_langchain(TALK, system=brief) == [("system", brief), *as_langchain(TALK)]
    assert as_anthropic(TALK, system=brief) == {"messages": as_anthropic(TALK), "system": brief}
    expected = {"contents": as_gemini(TALK), "config": {"system_instruction": brief}}
    assert as_gemini(TALK, system=brief) == expected


@pytest.mark.parametrize("blank", ["", "  ", "\n"])
def test_a_blank_system_text_is_left_out(blank: str) -> None:
    assert as_openai(TALK, system=blank) == as_openai(TALK)
    assert as_langchain(TALK, system=blank) == as_langchain(TALK)
    assert as_anthropic(TALK, system=blank) == {"messages": as_anthropic(TALK)}
    assert as_gemini(TALK, system=blank) == {"contents": as_gemini(TALK)}


@pytest.mark.parametrize("silence", ["...", "…", ".", "", " "])
def test_a_silent_user_is_worded(silence: str) -> None:
    expected = [{"role": "assistant", "content": "Hi."}, {"role": "user", "content": SILENCE}]
    assert as_openai([Agent("Hi."), User(silence)]) == expected
    assert as_openai([Agent("Hi.")]) == expected
    assert as_openai([Agent("Hi.")], silence_text="(Pause.)")[-1]["content"] == "(Pause.)"
    assert as_openai([Agent("Hi."), User(silence)], silence_text="")[-1]["content"] == silence
    assert as_openai([Agent("Hi.")], silence_text="") == expected[:1]


def test_blank_answers_are_left_out() -> None:
    assert as_anthropic([User("Hello?"), Agent(" "), User("Still there?")]) == [
        {"role": "user", "content": "Hello?\nStill there?"}
    ]


def test_words_of_all_scripts_are_words() -> None:
    for text in ("はい", "да", "7", "¿Sí?", "3."):
        assert as_openai([User(text)]) == [{"role": "user", "content": text}]


def test_no_words_for_silence_are_an_error() -> None:
    with pytest.raises(ValueError, match="silence_text has no words"):
        as_anthropic(TALK, silence_text="...")


def test_a_changed_entry_stays_in_its_turn() -> None:
    for form in (as_openai, as_anthropic, as_gemini):
        made = form(TALK)
        before = copy.deepcopy(made)
        made[-1]["content"] = [{"type": "text", "text": "Yes.", "cache_control": {"type": "ephemeral"}}]
        made[0].pop("role")
        assert form(TALK) == before


def test_texts_are_not_copied() -> None:
    assert as_openai(TALK)[1]["content"] is TALK[1].content
    assert as_gemini(TALK)[3]["parts"][0]["text"] is TALK[3].content


@given(transcripts)
def test_strict_apis_get_what_they_demand(transcript: list[ConversationMessage]) -> None:
    messages = as_anthropic(transcript)
    assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2) + ["user"]
    assert all(message["content"].strip() for message in messages)
    assert [entry["parts"][0]["text"] for entry in as_gemini(transcript)] == [entry["content"] for entry in messages]
    for form in (as_openai, as_langchain):
        assert len(form(transcript)) >= len([entry for entry in transcript if entry.role == "user"])


def spoken(transcript: list[ConversationMessage], silence_text: str) -> list[tuple[bool, str]]:
    """Return senders and texts, by the rules of the functions' docstrings."""
    found = []
    for message in transcript:
        by_user, words = message.role == "user", any(map(str.isalnum, message.content))
        if by_user or message.content.strip():
            found.append((by_user, silence_text if by_user and silence_text and not words else message.content))
    if silence_text and (not found or not found[-1][0]):
        found.append((True, silence_text))
    return found


@given(transcripts, st.sampled_from([SILENCE, "(Pause.)", ""]))
def test_entries_are_those_of_plain_rules(transcript: list[ConversationMessage], silence_text: str) -> None:
    said = spoken(transcript, silence_text)
    names = {True: "user", False: "assistant"}
    made = as_openai(transcript, silence_text=silence_text)
    assert made == [{"role": names[by_user], "content": text} for by_user, text in said]
    assert [text for _, text in as_langchain(transcript, silence_text=silence_text)] == [text for _, text in said]
    if silence_text:
        runs = [list(run) for _, run in itertools.groupby(said, key=lambda pair: pair[0])]
        merged = [{"role": names[run[0][0]], "content": "\n".join(text for _, text in run)} for run in runs]
        if not said[0][0]:
            merged.insert(0, {"role": "user", "content": silence_text})
        assert as_anthropic(transcript, silence_text=silence_text) == merged


class Words(str):
    """A text of a class of its own."""


def test_objects_of_other_classes_are_messages() -> None:
    """Recorded or invented histories have no `ConversationMessage`."""
    transcript = [SimpleNamespace(role="user", content=Words("Hello?")), SimpleNamespace(role="agent", content="Hi.")]
    assert as_openai(iter(transcript))[:2] == [
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Hi."},
    ]


@given(transcripts)
def test_the_packages_own_types_take_them(transcript: list[ConversationMessage]) -> None:
    for adapter, made in adapters(transcript):
        adapter(made)


def adapters(transcript: list[ConversationMessage]) -> list[tuple[Any, Any]]:
    """Pairs of a package's own validation and what it is to take, for the packages that are installed."""
    return [(check, form(transcript)) for check, form in CHECKS]


def checks() -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    pydantic = pytest.importorskip("pydantic")
    try:
        from openai.types.chat import ChatCompletionMessageParam
        from openai.types.responses.easy_input_message_param import EasyInputMessageParam

        for kind in (ChatCompletionMessageParam, EasyInputMessageParam):
            found.append((pydantic.TypeAdapter(list[kind]).validate_python, lambda t: as_openai(t, system="Be brief.")))
    except ImportError:
        pass
    try:
        from anthropic.types import MessageParam

        found.append((pydantic.TypeAdapter(list[MessageParam]).validate_python, as_anthropic))
    except ImportError:
        pass
    try:
        from google.genai.types import Content, GenerateContentConfig

        found.append((pydantic.TypeAdapter(list[Content]).validate_python, as_gemini))
        config = pydantic.TypeAdapter(GenerateContentConfig).validate_python
        found.append((config, lambda t: as_gemini(t, system="Be brief.")["config"]))
    except ImportError:
        pass
    try:
        from langchain_core.messages import convert_to_messages

        found.append((convert_to_messages, lambda t: as_langchain(t, system="Be brief.")))
    except ImportError:
        pass
    return found


CHECKS = checks()


FORMS = (as_openai, as_anthropic, as_gemini, as_langchain)


def test_dicts_and_other_names_of_roles_are_messages() -> None:
    expected = as_openai([User("Hello?"), Agent("Yes?"), User("Bye.")])
    for user, agent in (("user", "agent"), ("user", "assistant"), ("human", "ai"), ("user", "model")):
        talk = [(user, "Hello?"), (agent, "Yes?"), (user, "Bye.")]
        assert as_openai([{"role": role, "content": text} for role, text in talk]) == expected
        assert as_openai(SimpleNamespace(role=role, content=text) for role, text in talk) == expected


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("transcript", "sentence"),
    [
        ([User("Hello?"), ConversationMessage("system", "Be brief.")], "role 'system': pass its text as system="),
        ([{"role": "developer", "content": "Be brief."}], "role 'developer': pass its text as system="),
        ([{"role": "tool", "content": "42"}], "role 'tool': leave it out"),
        ([("user", "Hello?")], "has role and content, and this one is a tuple"),
        ([{"role": "user"}], "texts as role and content, and this one has a str and None"),
        ([{"role": "user", "content": [{"type": "text"}]}], "this one has a str and a list"),
        ([5], "this one is an int"),
        ("Hello?", "a list of messages, not of a str"),
        (None, "a list of messages, not of None"),
        ({"role": "user", "content": "Hello?"}, "a list of messages, not of a dict"),
    ],
)
def test_what_is_no_transcript_is_named(form: Any, transcript: Any, sentence: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        form(transcript)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("form", FORMS)
def test_odd_keywords_are_named(form: Any) -> None:
    for keyword in ("system", "silence_text"):
        with pytest.raises(TypeError, match=f"^{keyword} takes a text, not 5$"):
            form(TALK, **{keyword: 5})
    if form in (as_anthropic, as_gemini):
        for words in ("", None):
            with pytest.raises(ValueError, match="silence_text has no words"):
                form(TALK, silence_text=words)
    else:
        assert form([User("Hi."), Agent("Yes?")], silence_text=None) == form([User("Hi."), Agent("Yes?")])[:2]
        assert form(TALK, system="") == form(TALK, system=None)
