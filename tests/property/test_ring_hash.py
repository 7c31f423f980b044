"""Texts in a ring are hashed with SipHash-1-3, however they are cut."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from se_server.telemetry._ring import RING_BYTES, Ring

KEY = bytes(range(16))
MASK = 2**64 - 1
FIRST_EVENT = 128 + 16  # the ring's head, and the event of its worker


def rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & MASK


def sip_round(v: list[int]) -> None:
    v[0] = (v[0] + v[1]) & MASK
    v[1] = rotated(v[1], 13) ^ v[0]
    v[0] = rotated(v[0], 32)
    v[2] = (v[2] + v[3]) & MASK
    v[3] = rotated(v[3], 16) ^ v[2]
    v[0] = (v[0] + v[3]) & MASK
    v[3] = rotated(v[3], 21) ^ v[0]
    v[2] = (v[2] + v[1]) & MASK
    v[1] = rotated(v[1], 17) ^ v[2]
    v[2] = rotated(v[2], 32)


def sip_hash(data: bytes) -> int:
    """SipHash-1-3 as its authors describe it."""
    low, high = struct.unpack("<QQ", KEY)
    v = [low ^ 0x736F6D6570736575, high ^ 0x646F72616E646F6D, low ^ 0x6C7967656E657261, high ^ 0x7465646279746573]
    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) & 255])
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        sip_round(v)
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(3):
        sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def written(memory: bytearray) -> str:
    """Return the hash behind the first event of a ring: fifteen of its sixteen digits."""
    return memory[FIRST_EVENT + 17 : FIRST_EVENT + 32].decode()


@given(st.lists(st.text(max_size=20), max_size=12))
def test_hash_of_an_answer_is_that_of_its_text(texts: list[str]) -> None:
    memory = bytearray(RING_BYTES)
    Ring(memory, key=KEY).spoken(1, texts, 0, 0.0)
    assert written(memory) == f"{sip_hash(''.join(texts).encode('utf-8', 'surrogatepass')):016x}"[1:]


@given(st.none() | st.text(max_size=40))
def test_hash_of_the_users_words_is_theirs(said: str | None) -> None:
    memory = bytearray(RING_BYTES)
    Ring(memory, key=KEY).said(1, said, 0.0)
    assert written(memory) == f"{sip_hash((said or '').encode('utf-8', 'surrogatepass')):016x}"[1:]
