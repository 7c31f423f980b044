"""Tells the lines of an event stream, passed on as texts, from texts to speak.

A text is held back only while it may be the beginning of such a stream, and only before anything was spoken. `data:`
alone proves nothing ("data: the new oil"); `data: {` does, and so does a whole JSON object that a provider would send.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from se_server.streams._scan import Failure, Scanner, Unknown

Verdict = Literal["text", "raw", "maybe"]
IS_TEXT: Final = "text"
IS_RAW: Final = "raw"
MAY_BE_RAW: Final = "maybe"

# More than a provider's first event has; JSON that is no event is spoken as it is.
MAX_HELD_CHARS = 64 * 1024

BOM = "\ufeff"
SURE = re.compile(r"data:[ \t]*(\{\s*[\"}]|\[DONE\]|\[\s*\{)")
# Lines that may stand before the data: a field with one word, a comment.
FIELD = re.compile(r"(?:(?:event|id|retry):[ ]?[\w.:\-]*|:(?: [^\r\n]*)?)(?:\r\n|\n|\r|$)")
# Beginnings of a line that more letters would make a field.
STARTS = ("data:", "event:", "id:", "retry:")
RAW_START = re.compile(BOM + r"?(?:data:|event:|id:|retry:|: |\{\s*\")")
"""The beginning of a whole text that may be an HTTP response's body."""
PAYLOAD_STARTS = re.compile(r"data:[ \t]*(\{\s*)?(\[[DONE]{0,4})?$")


def is_surely_raw(text: str) -> bool:
    """Whether a text in the midst of others is a line of an event stream or a provider's JSON object."""
    if text.startswith("{"):
        return text.rstrip().endswith("}") and judge_json(text) == IS_RAW
    return SURE.match(text) is not None


class Sniffing:
    """Holds the first texts of an answer back until it is clear what they are.

    Attributes:
        held: the texts, in order.
        kind: the framing for the scanner, once the verdict is `raw`.
        is_by_line: whether each text is one line without its end.
    """

    __slots__ = ("_size", "held", "is_by_line", "kind")

    def __init__(self) -> None:
        self.held: list[str] = []
        self.kind: Literal["sse", "ndjson"] | None = None
        self.is_by_line = False
        self._size = 0

    def add(self, text: str) -> Verdict:
        """Take one more text, and return what all of them are."""
        self.held.append(text)
        self._size += len(text)
        verdict = self._judge()
        return IS_TEXT if verdict == MAY_BE_RAW and self._size > MAX_HELD_CHARS else verdict

    def _judge(self) -> Verdict:
        texts = [text for text in self.held if text]
        if not texts:
            return MAY_BE_RAW
        # A line ends where its text ends, if the next begins with a field; else texts are pieces cut anywhere.
        self.is_by_line = is_by_line(self.held)
        whole = "".join(text if text.endswith(("\n", "\r")) or not self.is_by_line else f"{text}\n" for text in texts)
        whole = whole.lstrip(BOM)
        if whole.lstrip()[:1] == "{":
            verdict = judge_json(whole.lstrip())
            self.kind = "ndjson"
            return verdict
        self.kind = "sse"
        return judge_lines(whole, is_last_whole=self.is_by_line)


def is_by_line(texts: list[str]) -> bool:
    """Whether texts are lines without their ends."""
    first = texts[0].lstrip(BOM)
    if first.endswith(("\n", "\r")):
        return False
    if len(texts) == 1:
        return SURE.match(first) is not None and first.endswith(("}", "]"))
    return texts[1] == "" or texts[1].startswith((*STARTS, ":"))


def judge_lines(whole: str, *, is_last_whole: bool) -> Verdict:
    """Return what lines are: an event stream if its data is JSON, or if nothing but an event stream has its blanks."""
    at = len(whole) - len(whole.lstrip())
    if at == len(whole):
        return IS_TEXT  # blanks alone are spoken as they are
    while at < len(whole):
        rest = whole[at:]
        if SURE.match(rest):
            return IS_RAW
        if PAYLOAD_STARTS.match(rest):
            return MAY_BE_RAW
        if rest.startswith("data:"):
            line, end, behind = rest.partition("\n")
            if not end and "\r" not in line:
                return MAY_BE_RAW  # "data: the new oil"? The next text tells, or the end.
            if behind == "" or behind.startswith(("\n", "\r", "data:")):
                return IS_RAW if behind or is_last_whole or rest.endswith("\n") else MAY_BE_RAW
            return IS_TEXT
        field = FIELD.match(rest)
        if field is None:
            return MAY_BE_RAW if any(start.startswith(rest) for start in STARTS) else IS_TEXT
        if field.end() == len(rest):
            return MAY_BE_RAW
        at += field.end()
        while at < len(whole) and whole[at] in "\r\n":
            at += 1
    return MAY_BE_RAW


def judge_json(whole: str) -> Verdict:
    """Return what JSON is: a provider's event, or a text."""
    if not re.match(r"\{\s*(\"|\}|$)", whole):
        return IS_TEXT
    scanner = Scanner("ndjson")
    for result in scanner.feed(whole):
        return (
            IS_TEXT
            if isinstance(result, Unknown) or (isinstance(result, Failure) and result.kind == "malformed")
            else IS_RAW
        )
    return IS_RAW if scanner.events else MAY_BE_RAW
