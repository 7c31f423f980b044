"""Bytes of a provider, usual and unusual, cut anywhere: takeover makes of them what the package's objects do."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import AsyncExitStack
from typing import Any

import pytest

from se_server.streams.opening import Opening
from se_server.streams.takeover import takeover_of
from tests.llm.bodies import HEAD, PACKAGES, by_objects, by_takeover, chunked, raw_provider
from tests.llm.rows import installed

pytestmark = pytest.mark.filterwarnings("ignore")  # the packages' own

INSTALLED = [name for name, (module, _) in PACKAGES.items() if installed(module)]
DONE = b"data: [DONE]\n\n"


def event(value: Any, name: str = "", end: bytes = b"\n") -> bytes:
    """Return one event."""
    data = value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()
    head = b"event: " + name.encode() + end if name else b""
    return head + b"data: " + data + end + end


def text_event(package: str, text: str, end: bytes = b"\n") -> bytes:
    """Return a package's event with a text."""
    if package == "anthropic":
        delta = {"type": "text_delta", "text": text}
        return event({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta", end)
    if package == "openai responses":
        body = {"type": "response.output_text.delta", "delta": text, "item_id": "i", "output_index": 0}
        body |= {"content_index": 0, "sequence_number": 1, "logprobs": []}
        return event(body, "response.output_text.delta", end)
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
    return event(
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}, "", end
    )


def changed(events: bytes, **members: Any) -> bytes:
    """Return an event with other members; an API without choices gets none."""
    head, _, data = events.partition(b"data: ")
    value = json.loads(data)
    if "choices" not in value:
        members.pop("choices", None)
    return head + b"data: " + json.dumps({**value, **members}).encode() + b"\n\n"


def bodies(package: str) -> dict[str, bytes]:
    """Return bodies by what is unusual about them."""

    def text(said: str, end: bytes = b"\n") -> bytes:
        return text_event(package, said, end)

    one, two = text("Grüezi 🙂"), text(" zäme\nund mehr")
    last = b"" if package == "anthropic" or package == "openai responses" else DONE
    error = {"error": {"message": "It broke", "type": "server_error", "code": None}}
    own_error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    return {
        "nothing": one + two + last,
        "empty": b"",
        "only the end": DONE,
        "no end": one + two,
        "CRLF": text("One", b"\r\n") + text(" two", b"\r\n") + last,
        "CR": text("One", b"\r") + text(" two", b"\r") + last,
        "comments": b": ping\n\n" + one + b": ping\n: pong\n" + two + last,
        "blank lines": b"\n\n" + one + b"\n\n\n" + two + last,
        "a byte order mark": b"\xef\xbb\xbf" + one + two + last,
        "an error": one + event(error) + two + last,
        "an error by name": one + event(error, "error") + two + last,
        "an error of Anthropic": one + event(own_error, "error") + two,
        "an error first": event(error) + last,
        "an error that is a text": one + event({"error": "broken"}) + last,
        "an error that is empty": one + event({"error": {}}) + two + last,
        "an error that is null": event({"error": None, **json.loads(one.split(b"data: ")[1])}) + two + last,
        "an error that is true": one + changed(two, error=True) + one + last,
        "an error that is a number": one + changed(two, error=-1) + one + last,
        "an error that is a list": one + changed(two, error=["broken"]) + one + last,
        "choices that are none": one + changed(two, choices=[["x"], {"index": 0, "delta": {"content": "x"}}]) + last,
        "an index that is none": one + changed(two, choices=[{"index": 1.5, "delta": {"content": "x"}}]) + last,
        "a delta that is none": one + changed(two, choices=[{"index": 0, "delta": "x", "text": "y"}]) + one + last,
        "a text in a ping": one + two.replace(b"event: content_block_delta", b"event: ping") + one + last,
        "a name that is no UTF-8": one + b"event: \xb8\n" + two + last,
        "a comment that is no UTF-8": one + b": \xb8\n\n" + two + last,
        "an error without JSON": one + event(b"oh no", "error") + last,
        "no JSON": one + event(b"oh no") + two + last,
        "half of JSON": one + event(b'{"choices": [') + two + last,
        "a list": one + event(b"[1, 2]") + two + last,
        "a number": one + event(b"5") + two + last,
        "NaN": one + two.replace(b'"object"', b'"x": NaN, "object"').replace(b'"type"', b'"x": NaN, "type"') + last,
        "Infinity": one + event(b"Infinity") + last,
        "data without a value": one + b"data:\n\n" + two + last,
        "data without a blank": (one + two + last).replace(b"data: ", b"data:"),
        "data in two lines": one.replace(b'{"', b'{\ndata: "', 1) + two + last,
        "an event without data": one + b"event: ping\n\n" + two + last,
        "a ping": event({"type": "ping"}, "ping") + one + event({"type": "ping"}, "ping") + two + last,
        "another name": one + two.replace(b"data: ", b"event: other\ndata: ") + last,
        "thread events": one + two.replace(b"data: ", b"event: thread.other\ndata: ") + last,
        "no names": b"".join(line + b"\n" for line in (one + two).split(b"\n")[:-1] if b"event:" not in line) + last,
        "ids": b"id: 1\n" + one + b"id: 2\n" + two + b"\n\n" + last,
        "retry": b"retry: 3000\n" + one + two + last,
        "retry alone": one + b"retry: 3000\n\n" + two + last,
        "unknown fields": b"foo: bar\n" + one + b"foo\n" + two + last,
        "the end without a blank line": one + two + b"data: [DONE]",
        "the last event without a blank line": one + two.rstrip(b"\n"),
        "a line that is cut": one + two[:30],
        "text after the end": one + DONE + two,
        "bytes that are no UTF-8": one + two.replace(b"und", b"\xff\xfe") + last,
        "halves of a character": one + event(
            json.loads(text("x").split(b"data: ")[1].decode())
        ).replace(b'"x"', b'"\\ud83d"').replace(b"data: ", text("x").split(b"data: ")[0] + b"data: ")
        + text("y").replace(b'"y"', b'"\\ude42 there"') + last,
        "an unknown event": one + event({"hello": "world"}, "hello") + two + last,
        "an event of another API": one + event({"message": {"content": "x"}, "done": False}) + two + last,
        "an empty text": text("") + one + text("") + two + last,
        "many events": one * 40 + two * 40 + last,
        "a large event": text("x" * 200_000) + two + last,
    }  # fmt: skip


def cuts(body: bytes, how: str) -> list[bytes]:
    """Return a body in pieces."""
    if how == "whole" or len(body) > 50_000:
        return [body]
    if how == "bytes" and len(body) <= 1500:
        return [body[at : at + 1] for at in range(len(body))]
    if how == "events":
        return [part + b"\n\n" for part in body.split(b"\n\n")[:-1]] + [body.split(b"\n\n")[-1]]
    dice = random.Random(how + str(len(body)))
    pieces = []
    while body:
        size = dice.randint(1, 90)
        pieces.append(body[:size])
        body = body[size:]
    return pieces


HOW = ("whole", "events", "bytes", "anywhere")


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("package", INSTALLED)
async def test_bytes_mean_what_they_mean_to_the_package(package: str, how: str) -> None:
    differing = {}
    async with raw_provider() as provider, AsyncExitStack() as stack:
        ask = await PACKAGES[package][1](stack, provider.url)
        for name, body in bodies(package).items():
            provider.pieces = [HEAD, *chunked(cuts(body, how))]
            expected = await by_objects(await ask())
            made = await by_takeover(await ask())
            if made != expected:
                differing[name] = (expected, made)
    assert not differing, "\n".join(f"{name}: {pair[0]}\n   not {pair[1]}" for name, pair in differing.items())


# --- the framing of HTTP --------------------------------------------------------------------------------------------


def framings(package: str) -> dict[str, list[bytes | float | None]]:
    """Return responses by what is unusual about their framing."""
    one, two = text_event(package, "One"), text_event(package, " two 🙂")
    last = b"" if package == "anthropic" or package == "openai responses" else DONE
    whole = b"".join(chunked([one, two, last]))
    length = HEAD.replace(b"transfer-encoding: chunked", b"content-length: %d" % len(one + two + last))
    upper = b"%X;name=value\r\n%b\r\n" % (len(one), one)
    return {
        "head and body together": [HEAD + whole],
        "head and one event together": [HEAD + b"".join(chunked([one], ends=False)), *chunked([two, last])],
        "head and half a chunk": [HEAD + chunked([one])[0][:20], chunked([one])[0][20:], *chunked([two, last])],
        "a chunk cut anywhere": [HEAD, *(bytes([byte]) for byte in whole)],
        "all chunks at once": [HEAD, whole],
        "extensions": [HEAD, upper, *chunked([two, last])],
        "zeros before the size": [HEAD, b"000" + chunked([one])[0], *chunked([two, last])],
        "trailers": [HEAD, *chunked([one, two, last])[:-1], b"0\r\nx-trailer: 1\r\n\r\n"],
        "a size that is none": [HEAD, chunked([one])[0], b"zz\r\nabc\r\n"],
        "a size without an end": [HEAD, chunked([one])[0], b"0" * 100_000],
        "a chunk without its line end": [HEAD, b"%x\r\n%b" % (len(one), one), b"XX", *chunked([two])],
        "closed after an event": [HEAD, chunked([one])[0], None],
        "closed in a chunk": [HEAD, chunked([one])[0], chunked([two])[0][:25], None],
        "closed in a size": [HEAD, chunked([one])[0], b"1", None],
        "closed behind a chunk": [HEAD, b"%x\r\n%b" % (len(one), one), None],
        "closed at once": [HEAD, None],
        "silence": [HEAD, chunked([one])[0], 1.4, *chunked([two, last])],
        "silence in a chunk": [HEAD, chunked([one])[0], chunked([two])[0][:25], 1.4, None],
        "pauses": [HEAD, 0.6, chunked([one])[0], 0.6, chunked([two])[0], 0.6, *chunked([last])],
        "a content length": [length, one, two, last],
        "gzip that is none": [HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n"), *chunked([one, two])],
        "identity": [HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: identity\r\n\r\n"), *chunked([one, two, last])],
    }


# What aiohttp's own reader waits for, and for ever: its parser closes the connection, and tells the reader nothing.
UNREADABLE = ("a size that is none", "a size without an end", "a chunk without its line end")


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("package", [name for name in INSTALLED if name.endswith("aiohttp")])
async def test_framing_that_aiohttp_waits_on_is_an_error(package: str, name: str) -> None:
    async with raw_provider() as provider, AsyncExitStack() as stack:
        ask = await PACKAGES[package][1](stack, provider.url)
        provider.pieces = framings(package)[name]
        outcome = await asyncio.wait_for(by_takeover(await ask()), 20)
    assert (outcome.text, bool(outcome.error)) == ("One", True)


@pytest.mark.parametrize("package", INSTALLED)
async def test_framing_means_what_it_means_to_the_client(package: str) -> None:
    differing = {}
    for name, pieces in framings(package).items():
        if package.endswith("aiohttp") and name in UNREADABLE:
            continue
        async with raw_provider() as provider, AsyncExitStack() as stack:
            ask = await PACKAGES[package][1](stack, provider.url)
            provider.pieces = pieces
            expected = await asyncio.wait_for(by_objects(await ask()), 20)
            before = provider.connections
            again = await by_objects(await ask()) if not expected.error else None
            kept = provider.connections == before
        async with raw_provider() as provider, AsyncExitStack() as stack:
            ask = await PACKAGES[package][1](stack, provider.url)
            provider.pieces = pieces
            made = await asyncio.wait_for(by_takeover(await ask()), 20)
            before = provider.connections
            if not made.error:
                assert await by_takeover(await ask()) == again, name
            is_kept = provider.connections == before
        if (made, is_kept) != (expected, kept):
            differing[name] = ((expected, kept), (made, is_kept))
    assert not differing, "\n".join(f"{name}: {pair[0]}\n   not {pair[1]}" for name, pair in differing.items())


@pytest.mark.parametrize("package", [name for name in INSTALLED if name.endswith("aiohttp")])
async def test_connection_of_aiohttp_is_read_by_callbacks(package: str) -> None:
    async with raw_provider() as provider, AsyncExitStack() as stack:
        ask = await PACKAGES[package][1](stack, provider.url)
        events = [chunked([text_event(package, f"{number} ")], ends=False)[0] for number in range(9)]
        provider.pieces = [HEAD, *(piece for event in events for piece in (event, 0.02)), *chunked([DONE])]
        stream = await ask()
        taken = takeover_of(stream) or Opening(stream, True).iterator
        tapped = []
        async for _ in taken:
            tapped.append(taken.is_tapped)
        await taken.aclose()
        assert tapped.count(True) >= 4


@pytest.mark.skipif("aiohttp" not in INSTALLED, reason="needs aiohttp")
async def test_limit_of_the_whole_request_holds_for_aiohttp() -> None:
    from aiohttp import ClientSession, ClientTimeout

    event = chunked([text_event("aiohttp", "x")], ends=False)[0]
    async with raw_provider() as provider, ClientSession(timeout=ClientTimeout(total=0.6)) as session:
        provider.pieces = [HEAD, *([event, 0.02] * 200)]
        outcomes = [await read(await session.post(provider.url)) for read in (by_objects, by_takeover)]
    assert outcomes[0].error.endswith("TimeoutError: ")
    assert outcomes[1].error == outcomes[0].error
    assert all(set(outcome.text) == {"x"} for outcome in outcomes)
