"""`docs/errors.md` lists every exception, every option's complaint and every sentence at the start.

`python -m tests.unit.test_errors_page` writes the page from the code.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from se_server import errors
from se_server.errors import ConfigError
from se_server.options import Option
from se_server.server.config.options import HEADINGS, OPTIONS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "errors.md"
SOURCES = ROOT / "src" / "se_server"
HEAD = """# Errors

`python -m tests.unit.test_errors_page` makes this page from the code: the exceptions, what each option says to a wrong
value, and the sentences with which the commands refuse to start. A message names the input and the way out, and shows
no secret. Search for the words you see; `...` stands for names and values.
"""

# The way out of each exception that user code may see; its cause is its docstring.
WAY_OUT: Mapping[str, str] = {
    "SpeechEngineError": "catch it for all that se-server raises",
    "MessageError": "none: the conversation goes on; if a peer of your own sends it, look at the byte that it names",
    "InvalidUtf8": "as for `MessageError`",
    "PeerError": "none: look at its text, and at the API's record: `se-doctor --conversation`",
    "SessionClosed": "check `session.is_open`, or catch it: the user has hung up",
    "WrongThread": "`asyncio.run_coroutine_threadsafe(..., loop)`",
    "TooManyStrayHandlers": "handlers that end when they are cancelled: no `except BaseException`, no blocking calls",
    "HandlerMistake": "the right form is in the text",
    "TurnTimeout": "a faster answer, or a longer `turn_timeout_s`",
    "AnswerTooLong": "a shorter answer, or a larger `max_answer_bytes`",
    "StreamFailed": "look at the provider's status and its `code`; `failure_text` is what the user hears",
    "UnknownStreamError": "pass on the text: `send_response(event.text async for event in stream)`",
    "UnsupportedWebSocket": "an object of a library in [migrating.md](migrating.md), or with `recv` and `send`",
    "AuthenticationError": "catch it for all faults of tokens; the API retries with a new token",
    "TokenMissing": "a proxy may remove the header; a caller without a token is not the API",
    "TokenMalformed": "a proxy may change the header; else the caller is not the API",
    "SignatureMismatch": "the API key of the account that owns the engine",
    "WrongIssuer": "none: the caller is not the API",
    "WrongSubject": "none: the caller is not the API",
    "ClaimMissing": "none: the caller is not the API",
    "TokenExpired": "set the clocks by NTP; `se-doctor` measures the difference",
    "TokenFromFuture": "set the clocks by NTP; `se-doctor` measures the difference",
    "ConfigError": "the text names the option and the form it expects",
    "KeyMissing": "`ELEVENLABS_API_KEY`, or `--api-key-file`",
    "AppError": "the text names the APP and what it lacks; `se-server --check` repeats it",
    "ApiError": "catch it for all answers of the REST API; `status_code`, `body` and `request_id` have the details",
    "BadRequest": "`body` names what is malformed",
    "Unauthorized": "the right API key",
    "Forbidden": "an API key with that permission",
    "NotFound": "the right id, of the same account and region (`base_url`)",
    "Conflict": "read the resource again, then repeat",
    "UnprocessableEntity": "`body` names the values",
    "RateLimited": "wait; the client has repeated it already",
    "ApiServerError": "try again later; the client has repeated it already",
    "ApiConnectionError": "the network, a proxy or the DNS of this machine",
    "ApiTimeout": "a longer `timeout`, or try again",
    "CallerError": "the text names the way out",
    "LoadError": "the text names the way out",
    "ScriptError": "the text names the file, the step and the key",
    "VirtualTimeError": "run the test on asyncio's loop; the text has the reason",
}

# Sentences that no user sees: of a protocol within the server.
NOT_FOR_USERS = re.compile(r"^(spec|record|control message)\b")


def exceptions() -> list[type[Exception]]:
    """Return the exceptions of `errors.py`, in the order of the file."""
    return [kind for kind in vars(errors).values() if inspect.isclass(kind) and kind.__module__ == errors.__name__]


def complaint(option: Option) -> str:
    """Return what an option says to a wrong value; empty if it takes any text."""
    for wrong in ("wrong,", "wrong value", 1j, [], "", "\udc80"):
        try:
            option.read(wrong, option.flag)
        except ConfigError as error:
            return str(error).partition(" is not valid: expected ")[2].partition(" (")[0]
        except (TypeError, AttributeError):
            continue
    return ""


def sentences() -> Iterator[tuple[str, str]]:
    """Yield the sentences of errors that end a command or a start, with their module."""
    for path in sorted(SOURCES.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCES).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                called = node.exc.func
                name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                text = template(node.exc.args[0])
                if name in KINDS and " " in text.replace("...", "").strip() and not NOT_FOR_USERS.match(text):
                    yield text, module


KINDS = ("ConfigError", "KeyMissing", "AppError", "CallerError", "LoadError", "ScriptError", "UsageError",
         "BadParameter", "CtlError", "Refused", "AddressError")  # fmt: skip


def template(node: ast.expr) -> str:
    """Return the text of a string, with `...` for its parts that vary."""
    if isinstance(node, ast.Constant):
        return str(node.value) if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left) + (template(node.right) or "...")
    return ""


def split(text: str) -> tuple[str, str]:
    """Return the cause and the way out in a sentence: the way out follows the last semicolon or colon."""
    for mark in ("; ", ": "):
        cause, found, out = text.rpartition(mark)
        if found and out.strip(". "):
            return cause, out
    return text, ""


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "\\<")


def page() -> str:
    """Return the page."""
    lines = [HEAD, "## Exceptions\n", "| exception | cause | way out |", "| --- | --- | --- |"]
    for kind in exceptions():
        cause = " ".join((kind.__doc__ or "").partition("\n\n")[0].split()).rstrip(".")
        lines.append(f"| `{kind.__name__}` | {cell(cause)} | {cell(WAY_OUT[kind.__name__])} |")
    lines += ["", "## Values of options\n", "`OPTION: VALUE is not valid: expected` and the form that is expected:\n"]
    lines += ["| option | expected |", "| --- | --- |"]
    for heading in HEADINGS:
        for option in OPTIONS:
            if option.group == heading and (said := complaint(option)):
                lines.append(f"| `{option.flag}` | {cell(said)} |")
    lines += ["", "## Sentences\n", "| text | way out | module |", "| --- | --- | --- |"]
    for text, module in sorted(set(sentences()), key=lambda row: (row[1], row[0])):
        cause, out = split(text)
        lines.append(f"| {cell(cause)} | {cell(out)} | `{module}` |")
    return "\n".join(lines) + "\n"


def test_exceptions_and_options_are_those_of_the_page() -> None:
    """`tests/functional/test_errors_page.py` compares the sentences, too."""
    ours, found = (text.partition("\n## Sentences")[0] for text in (page(), PAGE.read_text()))
    assert found == ours, "run python -m tests.unit.test_errors_page"


@pytest.mark.parametrize("kind", exceptions(), ids=lambda kind: kind.__name__)
def test_every_exception_has_a_way_out(kind: type[Exception]) -> None:
    assert kind.__name__ in WAY_OUT


def test_no_way_out_is_left_over() -> None:
    assert {kind.__name__ for kind in exceptions()} == set(WAY_OUT)


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"written: {PAGE}\n")
