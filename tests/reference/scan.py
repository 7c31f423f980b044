"""The texts in an LLM provider's HTTP response, in plain Python: the oracle for `se_server.streams._scan`.

It has the whole body at once, splits it by the standards' words, and asks `json` what an event holds. What exactly is
wrong with bytes that are no stream is left open.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn

MAX_DEPTH = 512
MAX_MESSAGE = 1000
MAX_LABEL = 64
NO_MESSAGE = "the provider gave no message"
BOM = b"\xef\xbb\xbf"
BLANKS = b" \t\r\n"
LONE = re.compile(r"[\ud800-\udfff]")
PAIR = re.compile(r"[\ud800-\udbff][\udc00-\udfff]")
# fmt: off
SILENT = {
    "ping", "keepalive", "message_start", "message_delta", "message_stop", "content_block_start", "content_block_delta",
    "content_block_stop", "message-start", "message-end", "content-start", "content-delta", "content-end",
    "tool-plan-delta", "tool-call-start", "tool-call-delta", "tool-call-end", "citation-start", "citation-end", "debug",
}
GEMINI_BLOCKS = {
    "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MALFORMED_FUNCTION_CALL",
    "IMAGE_SAFETY", "OTHER",
}
# fmt: on

Item = tuple[str, Any]
"""`("text", text)`, `("refusal", text)`, `("failure", (kind, message, code))` or `("unknown", (type, keys))`."""


class Malformed(Exception):
    """The bytes are not a stream of events."""


@dataclass(frozen=True)
class Number:
    written: str

    def count(self) -> int | None:
        value = float(self.written)
        return int(value) if math.isfinite(value) and 0 <= value < 10**15 else None


def _refuse_constant(name: str) -> NoReturn:
    raise Malformed(name)


DECODER = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=_refuse_constant)


def parse(data: bytes) -> Any:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("invalid UTF-8") from None
    if depth_of(text) > MAX_DEPTH:
        raise Malformed("too deep")
    try:
        value, end = DECODER.raw_decode(text.strip(" \t\r\n"))
    except (json.JSONDecodeError, RecursionError):
        raise Malformed("no JSON") from None
    if end != len(text.strip(" \t\r\n")) or not isinstance(value, dict):
        raise Malformed("no JSON object")
    return value


def depth_of(text: str) -> int:
    deepest = depth = 0
    for byte in re.sub(r'"(?:[^"\\]|\\.)*"', "", text, flags=re.DOTALL):
        depth += (byte in "[{") - (byte in "]}")
        deepest = max(deepest, depth)
    return deepest


def well_formed(text: str) -> str:
    paired = PAIR.sub(lambda pair: pair[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le"), text)
    return LONE.sub("\ufffd", paired)


def member(value: Any, *names: str) -> Any:
    """What stands under these names, one inside another; None where there is nothing."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def label(value: Any, limit: int) -> str | None:
    return well_formed(value[:limit]) or None if isinstance(value, str) else None


def count(value: Any) -> int | None:
    return value.count() if isinstance(value, Number) else None


def total(*counts: int | None) -> int | None:
    known = [number for number in counts if number is not None]
    return sum(known) if known else None


class Reader:
    """Everything that one body says."""

    def __init__(self, kind: str | None, max_event_bytes: int) -> None:
        self.kind = kind
        self.max_event_bytes = max_event_bytes
        self.items: list[Item] = []
        self.done = False
        self.events = 0
        self.usage: tuple[int | None, int | None] | None = None
        self.halves = {"text": "", "refusal": ""}

    def read(self, data: bytes) -> None:
        try:
            self.split(data)
        except Malformed:
            self.items.append(("failure", ("malformed", None, None)))
        for name, half in self.halves.items():
            if half:
                self.items.append((name, "\ufffd"))

    # --- framing ------------------------------------------------------------------------------------------------------

    def split(self, data: bytes) -> None:
        if data[:3] == BOM:
            data = data[3:]
        elif data[:1] == BOM[:1]:
            raise Malformed("a part of a byte order mark")
        if self.kind is None:
            data = data.lstrip(BLANKS)
            if data:
                self.kind = "ndjson" if data[:1] in (b"{", b"[") else "sse"
        if self.kind == "sse":
            self.split_sse(data)
        else:
            self.split_json(data)

    def split_sse(self, data: bytes) -> None:
        *lines, rest = re.split(rb"\r\n|\r|\n", data)
        lines += [rest, b""] if rest else [b""]
        values: list[bytes] = []
        is_error = is_stray = False
        for line in lines:
            if len(line) > self.max_event_bytes:
                raise Malformed("too long")
            if not line:
                if values and not self.event(b"\n".join(values), is_error):
                    return
                values, is_error = [], False
            elif line[:1] != b":":
                name, _, value = line.partition(b":")
                value = value[1:] if value[:1] == b" " else value
                if name == b"data":
                    values.append(value)
                    if len(b"\n".join(values)) > self.max_event_bytes:
                        raise Malformed("too long")
                elif name == b"event":
                    is_error = value == b"error"
                elif name not in (b"id", b"retry"):
                    is_stray = True
        if is_stray and not self.events:
            raise Malformed("no events")

    def split_json(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            if data[at : at + 1] in (b" ", b"\t", b"\r", b"\n", b",", b"[", b"]"):
                at += 1
                continue
            if data[at : at + 1] != b"{":
                raise Malformed("no object")
            end = object_end(data, at)
            if end - at > self.max_event_bytes:
                raise Malformed("too long")
            if data[end - 1 : end] not in (b"}", b"]") or depth_at(data[at:end]):
                raise Malformed("cut")
            self.event(data[at:end], False)
            at = end

    # --- events -------------------------------------------------------------------------------------------------------

    def event(self, data: bytes, is_error: bool) -> bool:
        """Read one event; return whether more may follow."""
        if len(data) > self.max_event_bytes:
            raise Malformed("too long")
        data = data.lstrip(BLANKS)
        if not data:
            return True
        if self.kind == "sse" and data.startswith(b"[DONE]"):
            self.done = True
            return False
        self.events += 1
        try:
            event = parse(data)
        except Malformed:
            if not is_error:
                raise
            self.fail("error", data[: 4 * MAX_MESSAGE].decode("utf-8", "replace")[:MAX_MESSAGE], None)
            return True
        error = event.get("error")
        if is_error and error is None:
            self.fail("error", label(event.get("message"), MAX_MESSAGE), label(event.get("code"), MAX_LABEL))
        elif is_error or isinstance(error, dict) or (isinstance(error, str) and error):
            self.error(error)
        elif event.get("object") == "error":
            code = label(event.get("code"), MAX_LABEL) or label(event.get("type"), MAX_LABEL)
            self.fail("error", label(event.get("message"), MAX_MESSAGE), code)
        elif not self.named(event) and not self.shaped(event):
            keys = [label(name, MAX_LABEL) or "" for name in event]
            self.items.append(("unknown", (label(event.get("type"), MAX_LABEL), tuple(dict.fromkeys(keys))[:8])))
        return True

    def named(self, event: dict[str, Any]) -> bool:
        name, delta = event.get("type"), event.get("delta")
        if not isinstance(name, str) or len(name.encode("utf-8", "surrogatepass")) > 80:
            return False
        if name == "response.output_text.delta":
            self.say("text", delta)
        elif name == "response.refusal.delta":
            self.say("refusal", delta)
        elif name == "response.completed":
            self.done = True
            self.count(member(event, "response", "usage"))
        elif name == "response.failed":
            self.done = True
            self.count(member(event, "response", "usage"))
            self.error(member(event, "response", "error"))
        elif name == "response.incomplete":
            self.done = True
            self.count(member(event, "response", "usage"))
            reason = label(member(event, "response", "incomplete_details", "reason"), MAX_LABEL)
            self.fail("incomplete", reason, reason)
        elif name.startswith("response."):
            pass
        elif name == "error":
            self.fail("error", label(event.get("message"), MAX_MESSAGE), label(event.get("code"), MAX_LABEL))
        elif name == "content_block_delta":
            if member(delta, "type") == "text_delta":
                self.say("text", member(delta, "text"))
        elif name == "content-delta":
            self.say("text", member(delta, "message", "content", "text"))
        elif name == "message" and isinstance(event.get("content"), list):
            self.count(event.get("usage"))
            self.content(event["content"])
        elif name not in SILENT:
            return False
        elif name == "message_start":
            self.count(member(event, "message", "usage"))
        elif name == "message_delta":
            self.count(event.get("usage"))
            if member(delta, "stop_reason") == "refusal":
                self.block("stop_reason", "refusal", None)
        elif name == "message_stop":
            self.done = True
        elif name == "message-end":
            self.done = True
            self.count(member(delta, "usage"))
            if member(delta, "finish_reason") in ("ERROR", "TIMEOUT"):
                self.fail("error", label(member(delta, "error"), MAX_MESSAGE), member(delta, "finish_reason"))
        return True

    def shaped(self, event: dict[str, Any]) -> bool:
        known = False
        if isinstance(event.get("usage"), dict):
            known = True
            self.count(event["usage"])
        if isinstance(event.get("x_groq"), dict):
            known = True
            self.count(event["x_groq"].get("usage"))
        if isinstance(event.get("choices"), list):
            known = True
            self.choices(event["choices"])
        metadata = event.get("usageMetadata")
        if isinstance(metadata, dict):
            known = True
            written = total(count(metadata.get("candidatesTokenCount")), count(metadata.get("thoughtsTokenCount")))
            self.used(count(metadata.get("promptTokenCount")), written)
        if isinstance(event.get("candidates"), list):
            known = True
            self.candidate((event["candidates"] or [None])[0])
        feedback = event.get("promptFeedback")
        if isinstance(feedback, dict):
            known = True
            if isinstance(feedback.get("blockReason"), str):
                self.block("blockReason", feedback["blockReason"], feedback.get("blockReasonMessage"))
        message, response, done = (event.get(name) for name in ("message", "response", "done"))
        if isinstance(done, bool) and (isinstance(message, dict) or isinstance(response, str)):
            known = True
            self.say("text", message.get("content") if isinstance(message, dict) else response)
            if done:
                self.done = True
                self.used(count(event.get("prompt_eval_count")), count(event.get("eval_count")))
        return known

    def choices(self, choices: list[Any]) -> None:
        for choice in choices:
            if not isinstance(choice, dict):
                continue
            index = choice.get("index")
            if isinstance(index, Number) and index.count() != 0:
                continue
            message = next((choice[name] for name in ("delta", "message") if isinstance(choice.get(name), dict)), None)
            if message is not None:
                self.content(message.get("content"))
                self.say("refusal", message.get("refusal"))
            else:
                self.say("text", choice.get("text"))
            if choice.get("finish_reason") == "content_filter":
                self.block("finish_reason", "content_filter", None)
            return

    def candidate(self, candidate: Any) -> None:
        parts = member(candidate, "content", "parts")
        for part in parts if isinstance(parts, list) else ():
            if member(part, "thought") is not True:
                self.say("text", member(part, "text"))
        reason = member(candidate, "finishReason")
        if isinstance(reason, str) and reason in GEMINI_BLOCKS:
            self.block("finishReason", reason, member(candidate, "finishMessage"))

    # --- what is given ------------------------------------------------------------------------------------------------

    def content(self, content: Any) -> None:
        if isinstance(content, list):
            for part in content:
                if member(part, "type") == "text":
                    self.say("text", member(part, "text"))
        else:
            self.say("text", content)

    def say(self, name: str, text: Any) -> None:
        if not isinstance(text, str) or not text:
            return
        text = self.halves[name] + text
        self.halves[name] = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        text = text[:-1] if self.halves[name] else text
        if text:
            self.items.append((name, well_formed(text)))

    def fail(self, kind: str, message: str | None, code: str | None) -> None:
        self.items.append(("failure", (kind, message or NO_MESSAGE, code)))

    def error(self, error: Any) -> None:
        if not isinstance(error, dict):
            self.fail("error", label(error, MAX_MESSAGE), None)
            return
        codes = [label(error.get(name), MAX_LABEL) for name in ("code", "status", "type")]
        number = error.get("code")
        codes.append(number.written[:MAX_LABEL] if isinstance(number, Number) else None)
        self.fail("error", label(error.get("message"), MAX_MESSAGE), next((code for code in codes if code), None))

    def block(self, name: str, reason: str, message: Any) -> None:
        if not any(item[0] == "text" for item in self.items):
            code = label(reason, MAX_LABEL)
            self.fail("blocked", label(message, MAX_MESSAGE) or f"{name}: {code}", code)

    def count(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        usage = usage["tokens"] if isinstance(usage.get("tokens"), dict) else usage
        read, written = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
        if read is None:
            names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
            read = total(*(count(usage.get(name)) for name in names))
        self.used(read, count(usage.get("output_tokens")) if written is None else written)

    def used(self, read: int | None, written: int | None) -> None:
        if read is None and written is None:
            return
        before = self.usage or (None, None)
        self.usage = (before[0] if read is None else read, before[1] if written is None else written)


def object_end(data: bytes, at: int) -> int:
    """Behind the object or array that starts at `at`, by its brackets only; the end of `data` if it was cut."""
    depth = 0
    for token in re.finditer(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[][{}]', data[at:], re.DOTALL):
        depth += (token[0] in b"[{") - (token[0] in b"]}")
        if depth == 0:
            return at + token.end()
    return len(data)


def depth_at(data: bytes) -> int:
    """How many brackets and braces are open behind `data`."""
    outside = re.sub(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', b"", data, flags=re.DOTALL)
    return sum((byte in b"[{") - (byte in b"]}") for byte in outside)
