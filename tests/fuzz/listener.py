"""Hostile bytes in any pieces through frame gate, picows and connection: the outcome equals wsproto's.

The real `Connection` runs on a transport, a loop and a session that only record calls. An input is three bytes that
choose limits, pieces and other events, and then the stream: raw bytes, or recipes of frames, which reach deeper.
Limits, which wsproto does not have, are checked by a walk over the frames' heads.
"""

from __future__ import annotations

import asyncio
import struct
from asyncio import events
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from wsproto.frame_protocol import Frame, FrameProtocol, ParseFailed

from se_server.conversation._listener import Connection, FrameGate, Shared
from se_server.conversation.deadlines import Deadlines
from se_server.conversation.settings import SessionSettings
from se_server.errors import MessageError
from se_server.protocol import _wire
from tests.frames import CLOSE, PING, PONG, TEXT, split_frames
from tests.fuzz.exact import exact

# --- the first three bytes of an input ------------------------------------------------------------------------------

SMALL_LIMITS = 0x01
RECIPES = 0x02
ALL_AT_ONCE, BYTE_BY_BYTE, LITTLE_PIECES, LARGE_PIECES = 0x00, 0x04, 0x08, 0x0C
PIECES = 0x0C
BEHIND_THE_HEAD = 0x10
"""The first piece arrives with the request's head."""
HAPPENINGS = 0x20
"""Between pieces the application closes, time passes, the socket is full: only the invariants are checked."""

MASKS = (b"\0\0\0\0", b"\x37\xfa\x21\x3d", b"\x80\x00\xff\x7f", b"\x22\x22\x22\x22")
PADS = (0, 0, 0, 0, 0, 0, 0, 0, 1, 60, 110, 126, 300, 4000, 65_500, 65_536)
PADDED_MAX_BYTES = 150_000  # of a whole stream: larger ones take time without more coverage

LARGE = SessionSettings(max_message_bytes=100_000, max_messages_burst=100)
SMALL = SessionSettings(
    max_message_bytes=200, max_fragments=3, max_control_frames_per_s=4, max_messages_burst=64, max_messages_per_s=1
)


def recipe_stream(data: bytes) -> bytes:
    """Turn recipes into frames: the first byte as it is, sizes, a flavour, then the payload's bytes."""
    stream = bytearray()
    while len(data) >= 3:
        first, length, flavour = data[:3]
        payload = data[3 : 3 + (length & 0x7F)]
        data = data[3 + len(payload) :]
        if first & 0x0F < 8 and len(stream) < PADDED_MAX_BYTES:
            payload += b" " * PADS[flavour >> 4]  # at a JSON message's end it stays one
        mask_bit = 0x80 * (length < 0x80)
        form = flavour & 3
        stream.append(first)
        if form == 2 or (len(payload) > 0xFFFF and form == 0):
            stream += bytes([mask_bit | 127]) + struct.pack("!Q", len(payload))
        elif form == 1 or (len(payload) > 125 and form == 0):
            stream += bytes([mask_bit | 126]) + struct.pack("!H", len(payload) & 0xFFFF)
        else:
            stream.append(mask_bit | len(payload) & 0x7F)
        if not mask_bit:
            stream += payload
            continue
        mask = MASKS[flavour >> 2 & 3]
        repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
        stream += mask
        stream += (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(payload), "big")
    return bytes(stream)


# --- the connection's loop, transport and session -------------------------------------------------------------------


@dataclass
class Timer:
    due: float
    action: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop(asyncio.AbstractEventLoop):
    """A loop with a manual clock and manual timers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []
        self.soon: list[Callable[[], None]] = []

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def call_later(self, delay: float, callback: Any, *_args: Any, **_options: Any) -> Any:
        timer = Timer(self.now + delay, callback)
        self.timers.append(timer)
        return timer

    def call_soon(self, callback: Any, *_args: Any, **_options: Any) -> Any:
        self.soon.append(callback)

    def step(self) -> None:
        """Call what is due in the next step."""
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()

    def pass_time(self, seconds: float) -> None:
        self.step()
        self.now += seconds
        for timer in sorted(self.timers, key=lambda timer: timer.due):
            if not timer.cancelled and timer.due <= self.now:
                self.timers.remove(timer)
                timer.action()
        self.timers = [timer for timer in self.timers if not timer.cancelled]


class Transport:
    """A transport without a socket, as with TLS: all bytes are passed to it."""

    def __init__(self, loop: Loop) -> None:
        self.written = bytearray()
        self.closing = False
        self.gate: Any = None
        self._loop = loop
        self._paused = False

    def write(self, data: bytes) -> None:
        assert not self.closing, "written to a transport that is closing"
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def get_extra_info(self, name: str) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        return 0

    def get_protocol(self) -> Any:
        return self.gate

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def close(self) -> None:
        self.closing = True

    abort = close

    def pause_reading(self) -> None:
        assert not self._paused
        self._paused = True

    def resume_reading(self) -> None:
        assert self._paused
        self._paused = False

    def _wait_until_read(self) -> None:
        """Run the steps of the loop for which the connection holds frames back."""
        steps = 0
        while self._paused and not self.closing:
            self._loop.step()
            steps += 1
            assert steps < 100_000, "reading never goes on"

    def read(self, data: bytes) -> None:
        """Feed bytes to the connection, in reads of its buffer's size."""
        while data and not self.closing:
            view = self.gate.get_buffer(-1)
            count = min(len(view), len(data))
            assert count, "no room to read to"
            view[:count] = data[:count]
            del view
            self.gate.buffer_updated(count)
            data = data[count:]
            self._wait_until_read()


@dataclass
class Session:
    """Records the received messages and errors as plain values."""

    messages: list[Any] = field(default_factory=list)
    lost: bool = False

    def receive(self, message: _wire.Message) -> None:
        assert not self.lost, "a message after the conversation's end"
        self.messages.append(values(message))

    def receive_error(self, error: MessageError) -> None:
        assert not self.lost, "an error after the conversation's end"
        self.messages.append((type(error), str(error)))

    def connection_lost(self) -> None:
        self.lost = True

    def write_timed_out(self) -> None:
        pass


def values(message: _wire.Message) -> tuple[Any, ...]:
    transcript = message.transcript
    entries = None if transcript is None else [(entry.role, entry.content) for entry in transcript]
    bad = None if message.bad_entry is None else str(message.bad_entry)
    return message.kind, message.event_id, message.conversation_id, entries, bad, message.text


# --- the reference --------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """The required outcome of a stream.

    Attributes:
        messages: as in `Session`.
        pongs: the payloads.
        codes: the close codes that may be sent; empty for none, 0 for a CLOSE without one.
    """

    messages: list[Any] = field(default_factory=list)
    pongs: list[bytes] = field(default_factory=list)
    codes: set[int] = field(default_factory=set)


@dataclass
class Head:
    """The head of a frame, as far as it has arrived.

    Attributes:
        size: of the whole head, mask included.
        probe: a complete head: missing bytes are filled in without a flaw.
        declared: the payload's size; None while it is unknown.
    """

    opcode: int
    fin: bool
    size: int
    probe: bytes
    declared: int | None


class Oracle(FrameProtocol):
    """Replace close code 1014 by 1013: it is in IANA's registry (RFC 6455, 11.7), but wsproto does not know it."""

    def _process_close(self, frame: Frame) -> Frame:
        if frame.payload[:2] == (1014).to_bytes(2, "big"):
            frame = frame._replace(payload=(1013).to_bytes(2, "big") + frame.payload[2:])
        return super()._process_close(frame)


def head_of(data: bytes) -> Head | None:
    if len(data) < 2:
        return None
    form = data[1] & 0x7F
    extra, least = {126: (2, 126), 127: (8, 65536)}.get(form, (0, form))
    size = 6 + extra if data[1] & 0x80 else 2 + extra
    known = len(data) >= 2 + extra
    declared = (int.from_bytes(data[2 : 2 + extra], "big") if extra else form) if known else None
    length = data[2 : 2 + extra] if known else least.to_bytes(extra, "big")
    probe = data[:2] + length + b"\0\0\0\0" * (data[1] >> 7)
    return Head(data[0] & 0x0F, bool(data[0] & 0x80), size, probe, declared)


def expect(stream: bytes, settings: SessionSettings) -> Outcome:
    outcome = Outcome()
    peer = Oracle(client=False, extensions=[])
    controls = messages = fragments = message_bytes = 0
    parts: list[bytes] = []
    is_text = False
    while (head := head_of(stream)) is not None:
        try:
            feed(Oracle(client=False, extensions=[]), head.probe)
        except ParseFailed as error:
            if "CONTINUATION" not in str(error):  # the probe's protocol has no message in progress
                outcome.codes = {error.code}
                return outcome
        if head.declared is None:
            return outcome
        if head.declared > settings.max_message_bytes:
            outcome.codes = {1009}
            return outcome
        end = head.size + head.declared
        whole = len(stream) >= end
        if whole and head.opcode in (PING, PONG):
            controls += 1
            if controls > settings.max_control_frames_per_s:
                outcome.codes = {1008}
                return outcome
        is_data = head.opcode < 8
        if is_data:
            fragments = fragments + 1 if head.opcode == 0 else 1
            message_bytes = message_bytes * (head.opcode == 0) + head.declared
            parts = parts if head.opcode == 0 else []
            is_text = is_text if head.opcode == 0 else head.opcode == TEXT
        last = is_data and whole and head.fin
        fragmented = is_data and (head.opcode == 0 or not head.fin)
        codes = set()
        if whole and fragmented and (message_bytes > settings.max_message_bytes or fragments > settings.max_fragments):
            codes.add(1009)
        if last:
            messages += 1
            if messages % 64 == 0 and messages > settings.max_messages_burst:
                codes.add(1008)
        try:
            frames = feed(peer, stream[:end])
        except ParseFailed as error:
            # The stream has two faults, and the pieces decide which is found first.
            outcome.codes = codes | {error.code} if error.code == 1007 else {error.code}
            return outcome
        if holds_surrogate(peer):
            outcome.codes = codes | {1007}
            return outcome
        if codes:
            outcome.codes = {max(codes)}
            return outcome
        if not whole:
            return outcome
        if head.opcode == PING:
            outcome.pongs.append(bytes(frames[0].payload))
        elif head.opcode == CLOSE:
            code = frames[0].payload[0]
            outcome.codes = {0 if code == 1005 else int(code)}
            return outcome
        elif is_data:
            parts += [part.encode() if isinstance(part, str) else bytes(part) for part in (f.payload for f in frames)]
            if last:
                outcome.messages.append(read(b"".join(parts)))
        stream = stream[end:]
    return outcome


def feed(peer: FrameProtocol, data: bytes) -> list[Any]:
    peer.receive_bytes(data)
    return list(peer.received_frames())


def holds_surrogate(peer: FrameProtocol) -> bool:
    """Whether the text so far ends with the first two bytes of a surrogate, where Python's decoder awaits a third."""
    decoder = peer._message_decoder.decoder
    pending = b"" if decoder is None else decoder.getstate()[0]
    return pending[:1] == b"\xed" and pending[1:] >= b"\xa0"


def read(payload: bytes) -> Any:
    try:
        return values(_wire.decode(exact(payload)))
    except MessageError as error:
        return type(error), str(error)


# --- one input ------------------------------------------------------------------------------------------------------


def pieces(stream: bytes, mode: int, seed: int) -> Iterator[bytes]:
    largest = {ALL_AT_ONCE: len(stream), BYTE_BY_BYTE: 1, LITTLE_PIECES: 9, LARGE_PIECES: 3000}[mode & PIECES]
    at = 0
    if largest < 10 and len(stream) > 2000:
        at = len(stream) - 2000  # its end only: reading all of it takes seconds
        yield stream[:at]
    while at < len(stream):
        seed = (seed * 69069 + 1) & 0xFFFFFFFF
        count = 1 + (seed >> 16) % largest if mode & LITTLE_PIECES else largest
        yield stream[at : at + count]
        at += count


def happen(number: int, connection: Connection, loop: Loop, transport: Transport) -> None:
    """Cause an event on the server's side."""
    if number == 0:
        connection.close(1000, "bye \u20ac")
    elif number == 1:
        connection.look()
    elif number == 2:
        connection.pause_writing()
    elif number == 3:
        connection.resume_writing()
    elif number == 4:
        loop.pass_time(0.3)
    elif number == 5:
        loop.pass_time(25.0)
    elif number == 6 and not transport.closing:
        transport.gate.eof_received()
    elif number == 7:
        connection.outbox.flush()


def one_input(data: bytes) -> None:
    mode, seed = (data[0] if data else 0), int.from_bytes(data[1:3], "big")
    stream = recipe_stream(data[3:]) if mode & RECIPES else data[3:]
    settings = SMALL if mode & SMALL_LIMITS else LARGE
    loop = Loop()
    events._set_running_loop(loop)
    try:
        transport, session = run(loop, settings, stream, mode, seed)
    finally:
        events._set_running_loop(None)
    head, _, rest = bytes(transport.written).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    sent, left = split_frames(rest)
    assert not left, "the stream ends inside a frame"
    assert [frame.opcode for frame in sent].count(CLOSE) <= 1
    assert not sent or all(frame.opcode != CLOSE for frame in sent[:-1]), "something follows a CLOSE"
    if mode & HAPPENINGS:
        return
    expected = expect(stream, settings)
    assert session.messages == expected.messages, (session.messages, expected)
    assert [frame.payload for frame in sent if frame.opcode == PONG] == expected.pongs, (sent, expected)
    closes = [frame for frame in sent if frame.opcode == CLOSE]
    assert bool(closes) == bool(expected.codes), (sent, expected)
    codes = expected.codes | ({1014} if 1013 in expected.codes else set())  # see Oracle
    assert not closes or closes[0].close_code in codes, (closes, expected)
    assert session.lost == bool(closes)


def run(loop: Loop, settings: SessionSettings, stream: bytes, mode: int, seed: int) -> tuple[Transport, Session]:
    transport, session, gone = Transport(loop), Session(), []
    silent = Deadlines(loop, settings.first_message_timeout_s, Connection.miss_message)
    unanswered = Deadlines(loop, settings.ping_timeout_s, Connection.miss_pong)
    shared = Shared(loop, settings, silent, unanswered, lambda *_: gone.append(True))
    transport.gate = FrameGate(shared, asyncio.Protocol())
    connection = Connection(shared, transport.gate, transport, -1)  # type: ignore[arg-type]
    parts = list(pieces(stream, mode, seed))
    tail = parts.pop(0) if parts and mode & BEHIND_THE_HEAD else b""
    connection.start(session, b"MDEyMzQ1Njc4OWFiY2RlZg==", tail)  # type: ignore[arg-type]
    for part in parts:
        if mode & HAPPENINGS:
            seed = (seed * 69069 + 5) & 0xFFFFFFFF
            happen((seed >> 20) % 24, connection, loop, transport)
        transport.read(part)
    lost = session.lost
    if transport.closing or lost:
        loop.pass_time(3600.0)  # in every case the socket is dropped
        assert transport.closing, "a socket that is never dropped"
    transport.closing = True
    transport.gate.connection_lost(None)
    assert gone == [True]
    assert session.lost
    silent.close()
    unanswered.close()
    assert not [timer for timer in loop.timers if not timer.cancelled], "a timer outlives its connection"
    session.lost = lost
    return transport, session
