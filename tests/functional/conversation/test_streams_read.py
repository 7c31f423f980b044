"""Streams through the server: failures are named, refusals spoken, unknown events are errors, silence sends nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import se_server
from se_server.conversation.findings import forget_doubts
from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SessionSettings
from se_server.errors import StreamFailed, UnknownStreamError
from tests.functional.conversation.stage import Api, Stage, serving
from tests.functional.conversation.test_handler_contract import Transcript
from tests.providers import Failure, Script, Tool, running_provider

KIND = "own"


async def stream_of(*events: Any) -> AsyncIterator[Any]:
    for event in events:
        yield event


def chat(**delta: Any) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


class Heard:
    """The answers of one turn, and the errors that it raised."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.usage: Any = None
        self.results: list[bool] = []

    async def answer(self, *streams: Any, settings: SessionSettings | None = None, **options: Any) -> str:
        async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
            for stream in streams:
                self.results.append(await session.send_response(stream, **options))
            assert session.turn is not None
            self.usage = session.turn.usage

        async def on_error(error: BaseException, session: SpeechEngineSession) -> None:
            self.errors.append(error)

        stage: Stage
        api: Api
        async with (
            serving(KIND, settings, on_transcript=on_transcript, on_error=on_error) as stage,
            stage.call() as api,
        ):
            await api.say("hello", event_id=1)
            spoken = "".join(text for _, text in await api.answer())
            await api.ping()  # and there was one final only
        return spoken


@asynccontextmanager
async def openai_client(script: Script) -> AsyncIterator[Any]:
    openai = pytest.importorskip("openai")
    async with (
        running_provider(script) as provider,
        openai.AsyncOpenAI(api_key="none", base_url=provider.base_url("openai"), max_retries=0) as client,
    ):
        yield client


# --- failures --------------------------------------------------------------------------------------------------------

FAILURES = {
    "responses failed": (
        [{"type": "response.failed", "response": {"error": {"code": "server_error", "message": "No luck."}}}],
        ("error", "No luck.", "server_error"),
    ),
    "responses incomplete": (
        [{"type": "response.incomplete", "response": {"incomplete_details": {"reason": "max_output_tokens"}}}],
        ("incomplete", "max_output_tokens", "max_output_tokens"),
    ),
    "error event": (
        [{"type": "error", "code": "rate_limit", "message": "Slow down.", "param": None}],
        ("error", "Slow down.", "rate_limit"),
    ),
    "anthropic error": (
        [{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}],
        ("error", "Overloaded", "overloaded_error"),
    ),
    "content filter": (
        [{"choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]}],
        ("blocked", "finish_reason: content_filter", "content_filter"),
    ),
    "gemini safety": (
        [{"candidates": [{"finishReason": "SAFETY", "index": 0}]}],
        ("blocked", "finish_reason: SAFETY", "SAFETY"),
    ),
    "gemini prompt": ([{"promptFeedback": {"blockReason": "OTHER"}}], ("blocked", "block_reason: OTHER", "OTHER")),
    "anthropic refusal": (
        [{"type": "message_delta", "delta": {"stop_reason": "refusal"}, "usage": {"output_tokens": 1}}],
        ("blocked", "stop_reason: refusal", "refusal"),
    ),
    "server-sent error": (
        [b'event: error\ndata: {"error": {"message": "Gone.", "code": 502}}\n\n'],
        ("error", "Gone.", "502"),
    ),
    "bedrock": (
        [{"throttlingException": {"message": "Too many requests"}}],
        ("error", "Too many requests", "throttlingException"),
    ),
    "openrouter": ([{"error": {"code": 429, "message": "Limited"}}], ("error", "Limited", "429")),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_is_an_error_and_spoken(name: str) -> None:
    events, (kind, message, code) = FAILURES[name]
    heard = Heard()
    spoken = await heard.answer(stream_of(*events), settings=SessionSettings(failure_text="Sorry."))
    assert spoken == "Sorry."
    (error,) = heard.errors
    assert isinstance(error, StreamFailed)
    assert (error.kind, str(error), error.code) == (kind, message, code)
    assert heard.results == [True]


async def test_a_failure_after_text_keeps_the_text() -> None:
    heard = Heard()
    events = [chat(content="Well"), {"error": "it broke"}, chat(content="never")]
    assert await heard.answer(stream_of(*events), settings=SessionSettings(failure_text="Sorry.")) == "Well"
    assert [str(error) for error in heard.errors] == ["it broke"]


async def test_a_filter_after_text_is_an_end() -> None:
    heard = Heard()
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]}
    assert await heard.answer(stream_of(chat(content="Well"), last)) == "Well"
    assert heard.errors == []


@pytest.mark.parametrize("kind", ["error", "failed", "incomplete"])
async def test_openai_responses_fail_with_their_own_message(kind: Any) -> None:
    failure = Failure(after_tokens=0, kind=kind, message="The model is on strike.")
    async with openai_client(Script(failure=failure)) as client:
        heard = Heard()
        stream = await client.responses.create(model="m", input="hi", stream=True)
        spoken = await heard.answer(stream, settings=SessionSettings(failure_text="Sorry."))
    assert spoken == "Sorry."
    assert len(heard.errors) == 1
    assert "strike" in str(heard.errors[0]) or kind == "incomplete"


# --- refusals --------------------------------------------------------------------------------------------------------


async def test_a_refusal_is_spoken_where_nothing_else_is() -> None:
    heard = Heard()
    assert await heard.answer(stream_of(chat(refusal="I will "), chat(refusal="not."))) == "I will not."
    assert heard.errors == []


async def test_a_refusal_beside_text_is_silent() -> None:
    events = [
        {"type": "response.refusal.delta", "delta": "I will not."},
        {"type": "response.output_text.delta", "delta": "Well."},
    ]
    assert await Heard().answer(stream_of(*events)) == "Well."


@pytest.mark.parametrize("how", ["call", "settings"])
async def test_a_muted_refusal_is_a_failure(how: str) -> None:
    heard = Heard()
    settings = SessionSettings(failure_text="Sorry.", speak_refusals=how != "settings")
    options = {"speak_refusals": False} if how == "call" else {}
    assert await heard.answer(stream_of(chat(refusal="I will not.")), settings=settings, **options) == "Sorry."
    (error,) = heard.errors
    assert isinstance(error, StreamFailed)
    assert (error.kind, str(error)) == ("refusal", "I will not.")


async def test_openai_chat_speaks_its_refusal() -> None:
    async with openai_client(Script(refusal="That is not for me to say.")) as client:
        for stream in (
            await client.chat.completions.create(model="m", messages=[], stream=True),
            await client.responses.create(model="m", input="hi", stream=True),
        ):
            assert await Heard().answer(stream) == "That is not for me to say."


# --- unknown events --------------------------------------------------------------------------------------------------


class Token:
    def __init__(self, word: str) -> None:
        self.word = word


async def test_unknown_events_are_named_with_the_way_out() -> None:
    heard = Heard()
    spoken = await heard.answer(stream_of(Token("a"), Token("b")), settings=SessionSettings(failure_text="Sorry."))
    assert spoken == "Sorry."
    (error,) = heard.errors
    assert isinstance(error, UnknownStreamError)
    for part in ("2 unknown events", f"{__name__}.Token", "with word", "text=", "register_extractor"):
        assert part in str(error)


async def test_an_unknown_stream_ends_after_eight_events() -> None:
    taken: list[int] = []

    async def endless() -> AsyncIterator[Any]:
        while True:
            taken.append(1)
            yield {"token": "a"}

    heard = Heard()
    assert await heard.answer(endless()) == ""
    assert len(taken) == 8
    assert isinstance(heard.errors[0], UnknownStreamError)


async def test_unknown_events_beside_text_are_no_error() -> None:
    heard = Heard()
    assert await heard.answer(stream_of({"a": 1}, chat(content="Hi"), *[{"a": 1}] * 20)) == "Hi"
    assert heard.errors == []


async def test_silent_events_never_count_as_unknown() -> None:
    heard = Heard()
    silent = [chat(reasoning_content="hm"), {"type": "ping"}, {"type": "response.created"}] * 20
    assert await heard.answer(stream_of(*silent, chat(content="Hi"))) == "Hi"
    assert heard.errors == []


async def test_events_that_only_repeat_text_are_an_error() -> None:
    heard = Heard()
    assert await heard.answer(stream_of({"type": "text", "text": "Hi", "snapshot": "Hi"})) == ""
    assert "repeat" in str(heard.errors[0])


async def test_a_function_finds_the_text() -> None:
    heard = Heard()
    assert await heard.answer(stream_of(Token("Hi"), Token(" you")), text=lambda event: event.word) == "Hi you"
    assert heard.errors == []
    assert await heard.answer(stream_of(Token("Hi")), text=lambda event: 5) == ""
    assert "returned int" in str(heard.errors[0])


async def test_a_registered_extractor_finds_the_text() -> None:
    class Special(Token):
        pass

    assert await Heard().answer(stream_of(Special("no"))) == ""  # the type is remembered as unknown
    se_server.register_extractor(f"{__name__}.Token", lambda event: event.word)
    try:
        assert await Heard().answer(stream_of(Token("Hi"), Special(" you"))) == "Hi you"
    finally:
        se_server.register_extractor(f"{__name__}.Token", None)
    assert await Heard().answer(stream_of(Token("Hi"))) == ""


@pytest.mark.parametrize("name", ["", "Token", "a b.C", 5])
def test_a_wrong_name_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="register_extractor"):
        se_server.register_extractor(name, lambda event: None)


# --- answers without text --------------------------------------------------------------------------------------------


async def test_tool_calls_alone_leave_the_next_answer_first() -> None:
    tools = chat(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": "{}"}}])
    heard = Heard()
    assert await heard.answer(stream_of(tools), stream_of(chat(content="It is sunny."))) == "It is sunny."
    assert heard.results == [True, True]
    assert heard.errors == []


async def test_an_empty_stream_is_ended_with_its_handler() -> None:
    heard = Heard()
    assert await heard.answer(stream_of()) == ""
    assert heard.errors == []


async def test_openai_tools_then_text_is_one_answer() -> None:
    heard = Heard()
    async with openai_client(Script(text="", tools=(Tool(),))) as client:
        counted = {"stream_options": {"include_usage": True}}
        stream = await client.chat.completions.create(model="m", messages=[], stream=True, **counted)
        assert await heard.answer(stream, "It is sunny.") == "It is sunny."
    assert heard.errors == []
    assert heard.usage is not None
    assert heard.usage.input_tokens == 25


# --- tokens ----------------------------------------------------------------------------------------------------------


async def test_the_tokens_of_all_streams_are_summed() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 2}
    heard = Heard()
    answer = await heard.answer(
        stream_of(chat(content="a"), {"choices": [], "usage": usage}),
        stream_of(b'data: {"choices": [{"delta": {"content": "b"}}], "usage": {"prompt_tokens": 5}}\n\n'),
        final=False,
    )
    assert answer == "ab"
    assert (heard.usage.input_tokens, heard.usage.output_tokens) == (15, 2)


# --- texts as they are -----------------------------------------------------------------------------------------------

LINE = 'data: {"choices": [{"delta": {"content": "%s"}}]}'
TEXTS = {
    "ordinary": (["Hello", " there", "!"], "Hello there!"),
    "repeated": (["a", "aa", "aaa"], "aaaaaa"),
    "laughter": (["ha", "haha", "hahaha", " well"], "hahahahahaha well"),
    "words": (["No", "No, ", "no"], "NoNo, no"),
    "growing": (["Hello", "Hello world", "Hello world!"], "Hello world!"),
    "growing in steps": (["Good morning! It is 21", "Good morning! It is 21 °C in Zürich."], None),
    "colon": (["data: the new oil"], "data: the new oil"),
    "colon in pieces": (["d", "ata", ": the new", " oil"], "data: the new oil"),
    "colon inside": (["Look at ", "data: yes"], "Look at data: yes"),
    "event": (["event: party", " tonight"], "event: party tonight"),
    "smile": ([":)", " hi"], ":) hi"),
    "braces": (["{laughs}", " hi"], "{laughs} hi"),
    "json": (['{"answer": ', '"yes"}'], '{"answer": "yes"}'),
    "blanks": (["\n", " ", "Hi"], "\n Hi"),
    "lines": ([LINE % "Hi", "", LINE % " you", "", "data: [DONE]", ""], "Hi you"),
    "lines without blanks": ([LINE % "Hi", LINE % " you", "data: [DONE]"], "Hi you"),
    "named lines": (["event: x", LINE % "Hi", "", "event: x", LINE % " you", ""], "Hi you"),
    "pieces": (
        ["da", 'ta: {"choi', LINE[len('data: {"choi') :] % "Hi" + "\n", "\n" + LINE % " you" + "\n\n"],
        "Hi you",
    ),
    "comments": ([": OPENROUTER PROCESSING", "", LINE % "Hi", ""], "Hi"),
    "ndjson": (
        ['{"message": {"content": "Hi"}, "done": false}', '{"message": {"content": " you"}, "done": true}'],
        "Hi you",
    ),
    "late lines": (["One moment. ", LINE % "Hi", ""], "One moment. Hi"),
    "halves": (["\ud83d", "\ude42", " hi"], "🙂 hi"),
    "half": (["hi \ud83d"], "hi \ufffd"),
}


@pytest.mark.parametrize("name", TEXTS)
async def test_texts_are_spoken_as_meant(name: str) -> None:
    texts, spoken = TEXTS[name]
    heard = Heard()
    assert await heard.answer(stream_of(*texts)) == (texts[-1] if spoken is None else spoken)
    assert heard.errors == []


async def test_gemini_tokens_come_with_its_texts() -> None:
    usage = {"promptTokenCount": 7, "candidatesTokenCount": 2, "thoughtsTokenCount": 3}
    heard = Heard()
    candidate = {"content": {"parts": [{"text": "Hi"}]}}
    assert await heard.answer(stream_of({"candidates": [candidate], "usageMetadata": usage})) == "Hi"
    assert (heard.usage.input_tokens, heard.usage.output_tokens) == (7, 5)


async def test_langgraph_nodes_are_chosen() -> None:
    events = [
        ({"type": "AIMessageChunk", "content": "plan", "id": "1"}, {"langgraph_node": "planner"}),
        ("messages", ({"type": "AIMessageChunk", "content": "Hi", "id": "2"}, {"langgraph_node": "agent"})),
        ({"type": "ai", "content": "Hi", "id": "2"}, {"langgraph_node": "agent"}),
        ({"type": "tool", "content": "42"}, {"langgraph_node": "agent"}),
        ("updates", {"agent": {}}),
    ]
    assert await Heard().answer(stream_of(*events), nodes={"agent"}) == "Hi"
    assert await Heard().answer(stream_of(*events)) == "planHi"


# --- what is odd, and no failure -------------------------------------------------------------------------------------

LATE = ({"type": "AIMessageChunk", "content": "Hi", "id": "1"}, {"langgraph_node": "agent"})
ODD: dict[str, tuple[Any, dict[str, Any], str, str, list[str]]] = {
    "a list in a list": (["a", ["b"], "c"], {}, "ac", "WARNING", ["stream (list)", "1 unknown event", "text=lambda"]),
    "numbers": (["I have ", 3, " of ", 4], {}, "I have  of ", "WARNING", ["2 unknown events", "int", "str(value)"]),
    "an exception": (["a", ValueError("b")], {}, "a", "WARNING", ["ValueError", "raise it"]),
    "a class of one's own": (["a", Heard()], {}, "a", "WARNING", ["Heard", "register_extractor"]),
    "dicts": ([{"said": "b"}, "a"], {}, "a", "WARNING", ["dict (with said)", "text=lambda"]),
    "lines of a body": ([LINE % "a" + "\n\n", 'data: {"x": 1}\n\n'], {}, "a", "WARNING", ["with x", "read the body"]),
    "nodes that are not there": ([LATE], {"nodes": {"agnet"}}, "", "WARNING", ["'agnet'", "'agent'"]),
    "nothing": ([], {}, "", "INFO", ["gave no text at all", "read before"]),
    "empty texts": (["", None], {}, "", "INFO", ["gave no text at all"]),
    "a function that finds nothing": (["a", "b"], {"text": lambda event: None}, "", "INFO", ["text=", "2 events"]),
}


@pytest.mark.parametrize("name", ODD)
async def test_odd_answers_are_logged_once(name: str, caplog: pytest.LogCaptureFixture) -> None:
    events, options, spoken, level, words = ODD[name]
    forget_doubts()
    caplog.set_level("INFO", logger="se_server.session")
    heard = Heard()
    for answer in (events, [*events]):
        assert await heard.answer(answer, **options) == spoken
    lines = [record for record in caplog.records if "an answer of handler" in record.getMessage()]
    assert [record.levelname for record in lines] == [level]
    for word in [*words, "on_transcript"]:
        assert word in lines[0].getMessage()
    assert heard.errors == []


async def test_usual_answers_are_not_odd(caplog: pytest.LogCaptureFixture) -> None:
    forget_doubts()
    caplog.set_level("INFO", logger="se_server.session")
    tools = chat(tool_calls=[{"index": 0, "id": "1", "function": {"name": "f", "arguments": "{}"}}])
    text_and_tools, last = stream_of(chat(content="Hi"), tools), stream_of(LINE % "c")
    spoken = await Heard().answer(
        stream_of(tools), text_and_tools, ["a", None], "b", stream_of(LATE), last, final=False
    )
    assert spoken == "HiabHic"
    assert await Heard().answer(stream_of(LATE, "d"), nodes=["agent"]) == "Hid"
    assert [record.getMessage() for record in caplog.records if "an answer of handler" in record.getMessage()] == []


BODIES = {
    "sse": LINE % "Hi" + "\n\n" + LINE % " you" + "\n\ndata: [DONE]\n\n",
    "named events": f"event: message\n{LINE % 'Hi you'}\n\n",
    "comments": f": OPENROUTER PROCESSING\n\n{LINE % 'Hi you'}\n\n",
    "ndjson": '{"message": {"content": "Hi"}, "done": false}\n{"message": {"content": " you"}, "done": true}\n',
    "json": '{\n  "object": "chat.completion",\n  "choices": [{"index": 0, "message": {"content": "Hi you"}}]\n}\n',
}


@pytest.mark.parametrize("name", BODIES)
async def test_body_as_one_text_is_read(name: str) -> None:
    heard = Heard()
    assert await heard.answer(BODIES[name]) == "Hi you"
    assert heard.errors == []


@pytest.mark.parametrize(
    "text", ["data: the new oil", '{"a": 1}', "{", ": well", "event: at 8", "id: 5 is it", "r", "{}"]
)
async def test_text_like_a_body_is_spoken(text: str) -> None:
    assert await Heard().answer(text) == text


@pytest.mark.parametrize("options", [{"text": "said"}, {"text": 1}, {"nodes": 5}, {"nodes": [1]}], ids=str)
async def test_options_of_wrong_types_are_named(options: dict[str, Any]) -> None:
    closed = []

    async def words() -> AsyncIterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            closed.append(True)

    stream = words()
    assert await stream.__anext__() == "a"
    heard = Heard()
    assert await heard.answer(stream, **options) == ""
    (error,) = heard.errors
    assert isinstance(error, TypeError)
    assert f"{next(iter(options))}=" in str(error)
    assert closed == [True]


async def test_streams_in_a_stream_are_closed() -> None:
    closed = []

    class Inner:
        def __aiter__(self) -> Inner:
            return self

        async def aclose(self) -> None:
            closed.append(True)

    heard = Heard()
    assert await heard.answer([Inner(), Inner()]) == ""
    (error,) = heard.errors
    assert isinstance(error, UnknownStreamError)
    assert "a send_response of its own" in str(error)
    assert closed == [True, True]
