"""A provider's HTTP response in pieces: the scanner gives what the plain-Python reference gives for the whole.

The first byte of an input chooses the framing and the limit of an event, the second one how the rest is cut.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, Literal

from se_server.streams._scan import Failure, Refusal, Scanner
from tests.fuzz.exact import exact
from tests.reference import scan as reference

KINDS: tuple[Literal["sse", "ndjson"] | None, ...] = ("sse", "ndjson", None)
LIMITS = (1 << 24, 256, 32)


def one_input(data: bytes) -> None:
    first, step = (*data[:2], 0, 0)[:2]
    body = data[2:]
    cuts = range(step, len(body), step) if step else ()
    compare(KINDS[first % 3], body, cuts, LIMITS[first // 3 % 3])


def compare(kind: Literal["sse", "ndjson"] | None, data: bytes, cuts: Iterable[int], limit: int) -> None:
    """Read `data` cut at these places; raise AssertionError where the outcome is not the reference's."""
    expected = reference.Reader(kind, limit)
    expected.read(data)
    scanner = Scanner(kind, max_event_bytes=limit)
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    items = []
    for start, end in itertools.pairwise(places):
        items += [plain(item) for item in scanner.feed(exact(data[start:end]))]
    items += [plain(item) for item in scanner.finish()]
    assert items == expected.items, (items, expected.items, kind, data, places[:20], limit)
    usage = scanner.usage
    got = scanner.done, scanner.events, None if usage is None else (usage.input_tokens, usage.output_tokens)
    assert got == (expected.done, expected.events, expected.usage), (kind, data, places[:20], limit)
    for item in items:
        item[1].encode() if isinstance(item[1], str) else None  # well-formed


def plain(item: Any) -> reference.Item:
    """A result as the reference writes it; why bytes are malformed is left open."""
    if isinstance(item, str):
        return "text", item
    if isinstance(item, Refusal):
        return "refusal", item.text
    if isinstance(item, Failure):
        return "failure", ("malformed", None, None) if item.kind == "malformed" else (
            item.kind,
            item.message,
            item.code,
        )
    return "unknown", (item.type, item.keys)
