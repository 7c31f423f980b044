"""Texts that redaction replaces, and texts that it leaves: a table for both, each read whole and cut at every place."""

from __future__ import annotations

import pytest

from se_server.recordings.redaction import redact, redact_parts, redact_utterances

PRIVATE = {
    "[card]": [
        "4111 1111 1111 1111",
        "4111, 1111, 1111, 1111",
        "4111; 1111; 1111; 1111",
        "4111|1111|1111|1111",
        "4111*1111*1111*1111",
        "4111 · 1111 · 1111 · 1111",
        "4111\n1111\n1111\n1111",
        "4111 11111111 1111",
        "41111111 11111111",
        "3782 822463 10005",
        "378282246310005",
        "1234 5678 1234 5670",
        "41 11 11 11 11 11 11 11",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        "4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1",
        "6011-0009-9013-9424",
        "41111111111111111225123",  # the date and the code behind it
        "four one one one one one one one one one one one one one one one",
    ],
    "[iban]": [
        "DE89 3704 0044 0532 0130 00",
        "DE89, 3704, 0044, 0532, 0130, 00",
        "DE89|3704|0044|0532|0130|00",
        "de89370400440532013000",
        "GB82 WEST 1234 5698 7654 32",
        "NO93 8601 1117 947",
    ],
    "[phone]": [
        "+49 30 1234567",
        "+1 415 555 2671",
        "(415) 555-2671",
        "415-555-2671",
        "030 1234567",
        "0171/1234567",
        "06.12.34.56.78",
        "4155552671",
        "5 5 5 1 2 3 4",
        "0049 30 1234567",
        "415 555 2671 415 555 2672",
        "five five five one two three four",
        "oh one seven one, double two three four, five six",
        "null eins sieben eins zwei drei vier fünf",
    ],
    "[email]": [
        "jane@example.com",
        "jane.doe at example dot com",
        "jane dot doe at example dot com",
        "j a n e at example dot com",
        "jane (at) example (dot) com",
        "jane @ example . com",
        "jane arroba ejemplo punto com",
        "max ät beispiel Punkt de",
        "jane.doe@gmail dot com",
        "jane@web punkt de",
        "jane at hot mail dot com",
        "jane at my hot mail dot co dot uk",
        "jane arroba hot mail punto es",
    ],
    "[token]": [
        "ghp_0123456789abcdefghijABCDEFGHIJ012345",
        "github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz0123456789",
        "AKIAIOSFODNN7EXAMPLE",
        "glpat-abcdefghij0123456789",
        "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
        "xoxb-123456789012-abcdefghijkl",
        "AIzaSyA1234567890abcdefghijklmnopqrstuv",
        "sk-proj-abcdefghijkl0123456789",
        "sk_live_abcdefghijklmnop",
        "AC0123456789abcdef0123456789abcdef",
        "GOCSPX-abcdefghijklmnop",
        "eyJhbGciOiJSU0EifQ.aaaa.bbbb.cccc.dddd",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefgh",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabc\n-----END RSA PRIVATE KEY-----",
    ],
}
WITH_WORDS = [
    ("DE eight nine 3704 0044 0532 0130 00", "[iban]"),
    ("DE89 three seven zero four 0044 0532 0130 00", "[iban]"),
    ("4242 four two four two 4242, uh, 4242", "[card]"),
    ("it is 0171 uh 1234567 ok", "it is [phone] ok"),
    ("my number is 415 um 555 um 2671", "my number is [phone]"),
    ("my number is 8 1 5 meia meia 3 2 1", "my number is [phone]"),
    ("meia meia um cinco quatro três dois", "[phone]"),
    ("my number is 12 04 1984", "my number is [phone]"),  # a word such as "number" decides
    ("call 030 12 04 1984", "call [phone]"),
    ("my number is 5551234", "my number is [phone]"),
    ("call 415, 555, 2671", "call [phone]"),
    ("my order is late, call 4155552671", "my order is late, call [phone]"),
    ("0301234567 01711234567", "[phone] [phone]"),
    ("2 4111 1111 1111 1111 12 25", "[card]"),  # the date of expiry goes with it
    ("key: -----BEGIN PRIVATE KEY-----\nMIIEpAIBAAKCAQEA and its end is missing", "key: [token]"),
    ("on 2026-05-03 18:30 call 030 1234567", "on 2026-05-03 18:30 call [phone]"),
]
HARMLESS = [
    "12. 4. 1984",
    "12 04 1984",
    "1984 04 12",
    "0900-1700",
    "12/1/26 - 15/1/26",
    "Termin um 10 30 um 11 45",
    "meia hora, um dois",
    "room 4 uh 12 uh 2026",
    "look at that red dot over there",
    "4111 1111 1111 1112",  # its check digit is wrong
    "4111111111111112",
    "2026-05-03 18:30",
    "03.05.2026 18:30",
    "2026-05-03T18:30:00Z",
    "20260503",
    "2026-05-03 - 2026-05-07",
    "05/03/2026, 18:30:15",
    "03.05.26 18:30",
    "2026-05-03 18 Uhr",
    "on 2026-05-03 4 people",
    "2024-2025",
    "2024, 2025, 2026, 2027",
    "order 1234567",
    "order number 4155552671",
    "ORD-2026-0001234",
    "#12345678",
    "invoice 2026-0001234",
    "112-1234567-1234567",
    "12.50, 13.00, 14.99, 20.00",
    "1,234,567.00",
    "$1234567",
    "1.234.567,00 €",
    "1 234 567 euros",
    "12 345 678",
    "version 1.2.3.4567",
    "v10.15.7",
    "120.0.6099.109",
    "192.168.100.101",
    "192.168.100.101:8080 and 10.0.0.1",
    "52.5200066, 13.4049540",
    "52.52000 13.40495",
    "temperature 21.5 22.5 23.5",
    "h264 1920x1080",
    "18.30 - 19.30 Uhr",
    "3.14159265",
    "0.12345678",
    "978-3-16-148410-0",
    "550e8400-e29b-41d4-a716-446655440000",
    "1Z999AA10123456784",
    "1, 2, 3, 4, 5",
    "one or two, three or four, five or six",
    "at this point in time",
    "basic understanding of it",
]


@pytest.mark.parametrize(("mark", "text"), [(mark, text) for mark, texts in PRIVATE.items() for text in texts])
def test_a_private_value_is_replaced_wherever_cut(mark: str, text: str) -> None:
    whole = f"well {text} ok"
    assert redact(whole) == f"well {mark} ok"
    for place in range(len(whole) + 1):
        assert "".join(redact_parts([whole[:place], whole[place:]])) == f"well {mark} ok"


@pytest.mark.parametrize(("text", "expected"), WITH_WORDS)
def test_words_around_a_value_decide(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_numbers_stay(text: str) -> None:
    whole = f"well {text} ok"
    assert redact(whole) == whole
    for place in range(len(whole) + 1):
        assert redact_parts([whole[:place], whole[place:]]) == [whole[:place], whole[place:]]


OVER_A_PAUSE = [
    *PRIVATE["[card]"][:-1],
    *PRIVATE["[iban]"],
    "jane@example.com",
    "jane.doe at example dot com",
    "jane (at) example (dot) com",
    "+49 30 1234567",
    "(415) 555-2671",
    "415 555 2671",
    "0171/1234567",
]


@pytest.mark.parametrize("text", OVER_A_PAUSE)
def test_a_value_over_two_utterances_is_replaced(text: str) -> None:
    for place in range(1, len(text)):
        first, second = redact_utterances([f"number: {text[:place].strip()}", f"{text[place:].strip()} ok"])
        left = f"{first} {second}".removeprefix("number: ").removesuffix(" ok").strip()
        assert "[" in left, (text[:place], first, second)
        assert len(left.replace(" ", "")) <= len("jane[email]"), (text[:place], first, second)


@pytest.mark.parametrize(
    "utterances",
    [
        ["15", "18:30", "2026", "10115"],
        ["room 12", "345"],
        ["in 2026", "0171 people"],
        ["I am at", "home"],
        ["3", "2", "4", "1", "5", "7", "6"],
    ],
)
def test_short_answers_stay(utterances: list[str]) -> None:
    assert redact_utterances(utterances) == utterances


def test_words_beside_an_address_stay() -> None:
    assert redact_utterances(["hello", "jane@example.com", "thanks"]) == ["hello", "[email]", "thanks"]
