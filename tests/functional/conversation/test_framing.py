"""WebSocket framing on our own transport, with bytes that no library would send (RFC 6455)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SessionSettings
from tests.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, frame, split_frames
from tests.functional.conversation.stage import Eventually, serving

KEY = base64.b64encode(b"0123456789abcdef")
HEAD = (
    b"GET /call HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
PROTOCOL_PING = b'{"type": "ping"}'
PROTOCOL_PONG = Frame(TEXT, b'{"type":"pong"}')


@dataclass
class Raw:
    """A socket behind the upgrade."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    rest: bytes = b""
    frames: list[Frame] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def receive(self) -> Frame | None:
        """Return the next frame, or None at the end of the stream."""
        while not self.frames:
            data = await asyncio.wait_for(self.reader.read(65536), 10)
            if not data:
                assert not self.rest, "the stream ends inside a frame"
                return None
            self.frames, self.rest = split_frames(self.rest + data)
        return self.frames.pop(0)

    async def receive_all(self) -> bytes:
        """Return all bytes up to the end of the stream."""
        return await asyncio.wait_for(self.reader.read(), 10)

    def fix_receive_buffer(self) -> None:
        """Let the kernel hold little for a peer that does not read; the reader takes 128 KiB and waits for a read."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)

    async def is_alive(self) -> bool:
        """Whether the connection still answers, and sent nothing before."""
        self.send(frame(TEXT, PROTOCOL_PING))
        return await self.receive() == PROTOCOL_PONG


@asynccontextmanager
async def upgraded(
    settings: SessionSettings | None = None, *, behind_head: bytes = b"", **handlers: Any
) -> AsyncIterator[Raw]:
    async with serving("own", settings, **handlers) as stage:
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.server.port)
        writer.write(HEAD + behind_head)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        accept = base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"sec-websocket-accept: " + accept.lower() in head.lower()
        try:
            yield Raw(reader, writer)
        finally:
            writer.close()


async def another(raw: Raw) -> Raw:
    """Open one more connection to the same server."""
    reader, writer = await asyncio.open_connection(*raw.writer.get_extra_info("peername")[:2])
    writer.write(HEAD)
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    return Raw(reader, writer)


async def test_frames_right_behind_the_head_are_read() -> None:
    async with upgraded(behind_head=frame(TEXT, PROTOCOL_PING) * 3) as raw:
        assert [await raw.receive() for _ in range(3)] == [PROTOCOL_PONG] * 3


async def test_a_message_split_at_every_byte_is_read() -> None:
    message = frame(TEXT, PROTOCOL_PING) + frame(PING, b"are you there")
    async with upgraded() as raw:
        for i in range(len(message)):
            raw.send(message[i : i + 1])
            await raw.writer.drain()
        assert await raw.receive() == PROTOCOL_PONG
        assert await raw.receive() == Frame(PONG, b"are you there")


async def test_frames_of_one_read_keep_their_order() -> None:
    async with upgraded() as raw:
        raw.send(b"".join(frame(PING, b"%d" % i) + frame(TEXT, PROTOCOL_PING) * 9 for i in range(90)))
        for i in range(90):
            assert await raw.receive() == Frame(PONG, b"%d" % i)
            assert [await raw.receive() for _ in range(9)] == [PROTOCOL_PONG] * 9
        assert await raw.is_alive()


async def test_half_frames_of_connections_do_not_mix() -> None:
    """Connections that are in the middle of a frame do not disturb each other."""
    padding = 300 * 1024
    async with upgraded() as raw:
        others = [await another(raw) for _ in range(4)]
        talking = [raw, *others[:2]]
        messages = [
            frame(TEXT, PROTOCOL_PING.ljust(padding, b" ")) + frame(PING, b"%d" % number)
            for number, _ in enumerate(talking)
        ]
        for start in range(0, len(messages[0]), 50_000):
            for each, message in zip(talking, messages, strict=True):
                each.send(message[start : start + 50_000])
                await each.writer.drain()
            if start == 100_000:  # meanwhile one connection ends, and one breaks the protocol
                others[2].send(frame(CLOSE, b"\x03\xe8"))
                assert (await others[2].receive()) == Frame(CLOSE, b"\x03\xe8")
                others[3].send(frame(TEXT, b"\xff"))
                assert await closing_code(others[3], PROTOCOL_PONG) == 1007
        for number, each in enumerate(talking):
            assert await each.receive() == PROTOCOL_PONG
            assert await each.receive() == Frame(PONG, b"%d" % number)
            assert await each.is_alive()
        for each in others[:2]:
            each.send(frame(CLOSE, b"\x03\xe9"))
            assert (await each.receive()) == Frame(CLOSE, b"\x03\xe9")
        for each in others:
            each.writer.close()


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 1024 * 1024])
async def test_messages_of_every_length_form_are_read(size: int) -> None:
    errors = Eventually()
    padding = b" " * max(0, size - len(PROTOCOL_PING))
    async with upgraded(on_error=lambda error, session: errors.add(str(error))) as raw:
        raw.send(frame(TEXT, PROTOCOL_PING + padding if size else b""))
        if size:
            assert await raw.receive() == PROTOCOL_PONG
        assert await raw.is_alive()
    assert len(errors.items) == (0 if size else 1)  # an empty message is not JSON


async def test_fragments_with_control_frames_between_make_one_message() -> None:
    async with upgraded() as raw:
        raw.send(frame(TEXT, b'{"type"', fin=False) + frame(PING, b"1") + frame(CONTINUATION, b': "pi', fin=False))
        raw.send(frame(PONG, b"unsolicited") + frame(CONTINUATION, b'ng"}'))
        assert await raw.receive() == Frame(PONG, b"1")
        assert await raw.receive() == PROTOCOL_PONG


@pytest.mark.parametrize(
    ("what", "sent", "code"),
    [
        ("frame that is not masked", frame(TEXT, PROTOCOL_PING, masked=False), 1002),
        ("first reserved bit", frame(TEXT, PROTOCOL_PING, rsv=4), 1002),
        ("second reserved bit", frame(PING, b"", rsv=2), 1002),
        ("third reserved bit", frame(CLOSE, b"", rsv=1), 1002),
        ("reserved data opcode", frame(3, b"x"), 1002),
        ("reserved control opcode", frame(11, b"x"), 1002),
        ("fragmented ping", frame(PING, b"x", fin=False), 1002),
        ("long ping", frame(PING, b"x" * 126), 1002),
        ("16-bit length for a short payload", b"\x81\xfe\x00\x05", 1002),
        ("64-bit length for a short payload", b"\x81\xff" + (65535).to_bytes(8, "big"), 1002),
        ("64-bit length with its first bit set", b"\x81\xff" + b"\x80" + bytes(7), 1002),
        ("continuation of nothing", frame(CONTINUATION, b"x"), 1002),
        ("message inside a message", frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), 1002),
        ("start of a continuation of nothing", frame(CONTINUATION, b"x" * 100)[:50], 1002),
        ("start of a message in a message", frame(TEXT, b"{", fin=False) + frame(TEXT, b"\xff" * 100)[:50], 1002),
        ("text that is not UTF-8", frame(TEXT, b'"\xff"'), 1007),
        ("text that ends inside a character", frame(TEXT, b'"\xe2\x82'), 1007),
        ("fragment that is not UTF-8", frame(TEXT, b"\xed\xa0\x80", fin=False), 1007),
        ("last fragment that ends inside a character", frame(TEXT, b"\xe2", fin=False) + frame(0, b"\x82"), 1007),
        ("frame above the limit", b"\x81\xff" + (1024 * 1024 + 1).to_bytes(8, "big"), 1009),
        ("fragments above the limit", frame(TEXT, b" " * 600_000, fin=False) + frame(0, b" " * 600_000), 1009),
        ("too many fragments", frame(TEXT, b" ", fin=False) + frame(0, b"", fin=False) * 1024, 1009),
        ("close payload of one byte", frame(CLOSE, b"\x03"), 1002),
        ("close code 0", frame(CLOSE, b"\x00\x00"), 1002),
        ("close code 999", frame(CLOSE, (999).to_bytes(2, "big")), 1002),
        ("close code 1005", frame(CLOSE, (1005).to_bytes(2, "big")), 1002),
        ("close code 1006", frame(CLOSE, (1006).to_bytes(2, "big")), 1002),
        ("close code 5000", frame(CLOSE, (5000).to_bytes(2, "big")), 1002),
        ("close reason that is not UTF-8", frame(CLOSE, b"\x03\xe8\xff"), 1007),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_violation_ends_the_connection_with_its_code(what: str, sent: bytes, code: int) -> None:
    log = Eventually()
    async with upgraded(on_disconnect=lambda session: log.add("disconnected")) as raw:
        raw.send(sent + frame(TEXT, PROTOCOL_PING))  # nothing behind a violation is answered
        answer = await raw.receive()
        assert answer is not None
        assert (answer.opcode, answer.close_code) == (CLOSE, code)
        if sent[0] & 0x0F != CLOSE:  # after a CLOSE of the peer's, however bad, the server drops the socket first
            raw.send(frame(CLOSE, answer.payload[:2]))
            raw.writer.write_eof()
        assert await raw.receive() is None
        await log.until("disconnected")


@pytest.mark.parametrize(
    ("what", "before", "payload"),
    [
        ("a message", b"", b'"' + b"x" * 5000 + b"\xe2\x82\xac\xff"),
        ("a long message", b"", b'"' + "\u20ac".encode() * 50_000 + b"\xed\xa0"),
        ("a fragment, from inside a character", frame(TEXT, b'"\xe2\x82', fin=False), b"\x2e"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("step", [1, 7, 1_000_000])
async def test_ill_formed_text_fails_before_its_frame_ends(what: str, before: bytes, payload: bytes, step: int) -> None:
    whole = frame(CONTINUATION if before else TEXT, payload + b" " * 70_000, fin=True)
    part = whole[: len(whole) - 70_000]
    async with upgraded() as raw:
        raw.send(before)
        if step < 1000:  # the last bytes one read each, the many before them in few
            raw.send(part[:-20])
            part = part[-20:]
        for i in range(0, len(part), step):
            raw.send(part[i : i + step])
            await raw.writer.drain()
        answer = await raw.receive()
        assert answer is not None
        assert (answer.opcode, answer.close_code) == (CLOSE, 1007)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_good_text_in_any_pieces_passes(opcode: int) -> None:
    text = json.dumps({"type": "ping", "x": "a\u00e9\u20ac\U0001f600" * 30}, ensure_ascii=False).encode()
    whole = frame(opcode, text[:100], fin=False) + frame(PING, b"\xff") + frame(CONTINUATION, text[100:])
    async with upgraded() as raw:
        for i in range(len(whole)):
            raw.send(whole[i : i + 1])
            await raw.writer.drain()
        assert await raw.receive() == Frame(PONG, b"\xff")
        assert await raw.receive() == PROTOCOL_PONG


@pytest.mark.parametrize(
    ("payload", "echoed"),
    [(b"", b""), ((1000).to_bytes(2, "big") + b"bye", (1000).to_bytes(2, "big")), ((4999).to_bytes(2, "big"),) * 2],
)
async def test_a_close_is_answered_by_its_code(payload: bytes, echoed: bytes) -> None:
    """A close is answered by its code and the connection ends."""
    log = Eventually()
    async with upgraded(on_disconnect=lambda session: log.add("disconnected")) as raw:
        raw.send(frame(CLOSE, payload) + frame(CLOSE, payload) + frame(TEXT, PROTOCOL_PING))
        assert await raw.receive() == Frame(CLOSE, echoed)
        assert await raw.receive() is None
        await log.until("disconnected")


async def test_a_peer_ignoring_our_close_is_dropped() -> None:
    async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        session.close()

    async with upgraded(SessionSettings(close_timeout_s=0.05), on_init=on_init) as raw:
        raw.send(frame(TEXT, json.dumps({"type": "init", "conversation_id": "c"}).encode()))
        assert await raw.receive() == Frame(CLOSE, (1000).to_bytes(2, "big"))
        raw.send(frame(TEXT, PROTOCOL_PING))  # read, and not answered any more
        assert await raw.receive() is None


@pytest.mark.parametrize(
    ("ping", "pong"),
    [
        (frame(PING, b"p" * 125), b"\x8a\x7d" + b"p" * 125),
        (frame(TEXT, PROTOCOL_PING), b"\x81\x0f" + PROTOCOL_PONG.payload),
    ],
    ids=["frame", "message"],
)
async def test_pongs_for_a_deaf_peer_are_bounded(ping: bytes, pong: bytes) -> None:
    """A peer that pings and does not read gets pongs up to a bound."""
    asked_bytes = 16 * 1024 * 1024  # of pongs: more than the kernel and the high-water mark let through
    burst = ping * 1024
    log = Eventually()
    # The rates would end the flood first.
    settings = SessionSettings(
        max_control_frames_per_s=10**9, max_messages_per_s=10**9, max_messages_burst=10**9, max_work_per_s=10**12
    )
    async with upgraded(settings, on_error=lambda error, session: log.add(str(error))) as raw:
        for _ in range(asked_bytes // len(pong) // 1024):
            raw.send(burst)
            await asyncio.wait_for(raw.writer.drain(), 10)
        raw.send(frame(TEXT, b'{"type": "error", "message": "the last"}'))
        await log.until("the last")
        raw.send(frame(CLOSE))
        received = await raw.receive_all()
    assert received.startswith(pong)
    assert len(received) < asked_bytes / 2


async def test_a_finished_deaf_peer_is_dropped_in_time() -> None:
    """A peer that finishes and does not read is dropped after the close timeout."""
    log = Eventually()
    answer_bytes = 16 * 1024 * 1024

    async def on_transcript(transcript: Any, session: SpeechEngineSession) -> None:
        await session.send_response("x" * answer_bytes)
        log.add(session)

    # Below the high-water mark no write timeout runs.
    settings = SessionSettings(write_high_water_bytes=2 * answer_bytes, close_timeout_s=0.05)
    async with upgraded(
        settings, on_transcript=on_transcript, on_disconnect=lambda session: log.add("disconnected")
    ) as raw:
        raw.fix_receive_buffer()
        transcript = [{"role": "user", "content": "hello"}]
        raw.send(frame(TEXT, json.dumps({"type": "user_transcript", "user_transcript": transcript}).encode()))
        await log.until(bool)
        raw.writer.write_eof()
        await log.until("disconnected")
        session: SpeechEngineSession = log.items[0]
        await asyncio.wait_for(session._transport.wait_closed(), 10)
        assert len(await raw.receive_all()) < answer_bytes


@pytest.mark.parametrize(
    "still_to_come", [b"", frame(TEXT, PROTOCOL_PING) + frame(PONG)], ids=["alone", "behind other frames"]
)
async def test_a_close_answered_after_a_violation_ends(still_to_come: bytes) -> None:
    """A peer that answers the close after its violation is not kept waiting."""
    async with upgraded() as raw:
        silent = await another(raw)
        ends: list[Raw] = []

        async def violate(one: Raw, is_silent: bool) -> None:
            one.send(b"\x81\xff" + (1024 * 1024 + 1).to_bytes(8, "big"))
            answer = await one.receive()
            assert answer is not None
            assert answer.close_code == 1009
            if not is_silent:
                one.send(still_to_come + frame(CLOSE, answer.payload[:2]))
            assert await one.receive() is None
            ends.append(one)
            one.writer.close()

        await asyncio.gather(violate(silent, True), violate(raw, False))
        assert ends == [raw, silent]


async def test_a_peer_that_sent_too_much_learns_why() -> None:
    """A peer that reads after it has sent too much still learns why."""
    size_bytes = 4 * 1024 * 1024
    async with upgraded() as raw:
        transport: Any = raw.writer.transport
        transport.pause_reading()
        # The server has to read what the kernel does not hold.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        raw.send(b"\x81\xff" + size_bytes.to_bytes(8, "big") + frame(CLOSE)[:2] * (size_bytes // 2))
        await raw.writer.drain()
        transport.resume_reading()
        answer = await raw.receive()
        assert answer is not None
        assert answer.close_code == 1009


async def test_only_a_quiet_connection_gets_a_ping() -> None:
    """A quiet connection gets a ping and a busy one none."""
    loop = asyncio.get_running_loop()
    settings = SessionSettings(ping_interval_s=0.4, max_messages_per_s=1_000_000, max_messages_burst=1_000_000)
    async with upgraded(settings) as raw:
        assert await raw.receive() == Frame(PING, b"")
        raw.send(frame(PONG))
        spoke_s = loop.time()
        until_s = spoke_s + 1.0
        while (now_s := loop.time()) < until_s:
            if not await raw.is_alive():  # a machine that stands still makes a connection quiet
                assert loop.time() - spoke_s > 0.35
                assert await raw.receive() == PROTOCOL_PONG
            spoke_s = now_s


async def test_binary_messages_are_json_too() -> None:
    async with upgraded() as raw:
        raw.send(frame(BINARY, PROTOCOL_PING))
        assert await raw.receive() == PROTOCOL_PONG


async def closing_code(raw: Raw, skipped: Frame) -> int:
    """Return the code of the CLOSE that follows any number of `skipped`."""
    while (answer := await raw.receive()) == skipped:
        pass
    assert answer is not None
    assert answer.opcode == CLOSE
    return answer.close_code


@pytest.mark.parametrize(("opcode", "count", "answer"), [(PING, 200, Frame(PONG, b"")), (PONG, 200, None)])
async def test_a_control_frame_flood_is_closed_with_1008(opcode: int, count: int, answer: Frame | None) -> None:
    async with upgraded() as raw:
        raw.send(frame(opcode) * count)
        assert await closing_code(raw, answer or Frame(PONG, b"")) == 1008


async def test_as_many_control_frames_as_are_allowed_pass() -> None:
    async with upgraded() as raw:
        raw.send(frame(PONG) * 100)
        assert await raw.is_alive()


async def test_a_burst_passes_and_a_flood_does_not() -> None:
    """A flood of messages is closed with 1008 and a burst passes."""
    settings = SessionSettings(max_messages_per_s=1, max_messages_burst=200)
    async with upgraded(settings) as raw:
        raw.send(frame(TEXT, PROTOCOL_PING) * 190)
        assert [await raw.receive() for _ in range(190)] == [PROTOCOL_PONG] * 190
        raw.send(frame(TEXT, PROTOCOL_PING) * 200)
        assert await closing_code(raw, PROTOCOL_PONG) == 1008


async def test_the_clock_gives_messages_back() -> None:
    async with upgraded(SessionSettings(max_messages_per_s=100_000, max_messages_burst=128)) as raw:
        for _ in range(1000):
            assert await raw.is_alive()


async def test_a_silent_connection_is_closed_with_1008() -> None:
    async with upgraded(SessionSettings(first_message_timeout_s=0.05)) as raw:
        raw.send(frame(PING))  # no message
        assert await closing_code(raw, Frame(PONG, b"")) == 1008


async def test_silence_after_a_message_is_allowed() -> None:
    async with upgraded(SessionSettings(first_message_timeout_s=0.3, ping_interval_s=0.5)) as raw:
        assert await raw.is_alive()
        assert await raw.receive() == Frame(PING, b"")  # long after
        assert await raw.is_alive()


async def test_an_unanswered_ping_ends_the_session_as_disconnected() -> None:
    log = Eventually()
    settings = SessionSettings(ping_interval_s=0.05, ping_timeout_s=0.1)
    async with upgraded(settings, on_disconnect=lambda session: log.add("disconnected")) as raw:
        assert await raw.receive() == Frame(PING, b"")
        await log.until("disconnected")


async def test_an_answered_ping_keeps_the_session() -> None:
    settings = SessionSettings(ping_interval_s=0.05, ping_timeout_s=0.3)
    async with upgraded(settings) as raw:
        for _ in range(12):  # longer than the timeout
            assert await raw.receive() == Frame(PING, b"")
            raw.send(frame(PONG))
