"""Options: how a field of a dataclass is declared as one, and the readers that many options share.

Options come in groups: frozen dataclasses such as `SessionSettings`, `Listening` or `Capacity`, each beside the code
that it configures. A field made with `option(...)` is all that an option needs: `se-server` has it on its command line,
in the environment and in its file, and `options_of` lists it for everything else.

A reader turns a raw value (text from the command line or a variable, a TOML value, or a Python keyword) into a checked
one. It raises ValueError with the expected form, worded to follow "expected".
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar, overload

from se_server.errors import ConfigError

ENVIRONMENT_PREFIX = "SE_SERVER_"
MIN_MESSAGE_BYTES = 1024

_OPTION = "option"
_Value = TypeVar("_Value")
_UNITS = {"": 1, "b": 1, "k": 1024, "kib": 1024, "m": 1024**2, "mib": 1024**2, "g": 1024**3, "gib": 1024**3}
_UNITS |= {"kb": 1000, "mb": 1000**2, "gb": 1000**3}
_KEY = re.compile(r"(?:[\w-]*=)?sk_.*|[\w-]{10,}\.[\w-]{10,}\.[\w-]*", re.ASCII | re.DOTALL)
# A long word without a dot or a slash, NAME=VALUE, or base64: file names are rarely like this.
_NO_FILE = re.compile(r"[^./]{16,}|[^/]+=.*|[A-Za-z0-9+/]{32,}={0,2}", re.ASCII | re.DOTALL)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
_FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_LONG_S = 1e8  # three years replace longer times, which event loops cannot wait for
_MAX_NUMBER = 10**9


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        name: the key in the file and the keyword of functions; names of times and sizes end in their unit.
        parse: the reader of its values.
        default: the value if no source gives one, or a function that returns it.
        help: one sentence for `--help`.
        metavar: the placeholder of the value in `--help`; empty for a flag.
        default_text: the default as shown in `--help`; empty to show none.
        group: its heading in `--help`.
        secret: whether the value is masked when it is shown.
        repeatable: whether it may be given several times.
        positional: whether it is the command's argument instead of an option.
        takes_blanks: whether an empty value of its environment variable is a value, and not "not set".
    """

    name: str
    parse: Callable[[object], Any]
    default: object
    help: str
    metavar: str = ""
    default_text: str = ""
    group: str = ""
    secret: bool = False
    repeatable: bool = False
    positional: bool = False
    takes_blanks: bool = False

    @property
    def is_flag(self) -> bool:
        """Whether the option takes no value on the command line."""
        return not self.metavar

    @property
    def flag(self) -> str:
        """The option as written on the command line."""
        return self.name.upper() if self.positional else "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The option as an environment variable."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    def read(self, raw: object, where: str) -> Any:
        """Read a value.

        Args:
            raw: the value as the source gave it.
            where: the source, with which the error's sentence begins.

        Raises:
            ConfigError: the value is not valid; one sentence, which omits a secret value.
        """
        try:
            return self.parse(raw)
        except ValueError as wrong:
            shown = raw[0] if isinstance(raw, tuple) and len(raw) == 1 else raw
            given = "the value" if self.secret or _holds_key(raw) else repr(shown)  # no secret is shown
            raise ConfigError(f"{where}: {given} is not valid: expected {wrong}") from None


@overload
def option(
    default: Callable[[], _Value],
    read: Callable[[object], Any],
    help: str,
    metavar: str = "",
    *,
    default_text: str,
) -> _Value:
    """Declare an option whose default is found when a configuration is made."""


@overload
def option(
    default: _Value,
    read: Callable[[object], Any],
    help: str,
    metavar: str = "",
    *,
    group: str = "",
    default_text: str | None = None,
    secret: bool = False,
    repeatable: bool = False,
    positional: bool = False,
    takes_blanks: bool = False,
) -> _Value:
    """Declare an option with a fixed default."""


def option(
    default: Any,
    read: Callable[[object], Any],
    help: str,
    metavar: str = "",
    *,
    group: str = "",
    default_text: str | None = None,
    secret: bool = False,
    repeatable: bool = False,
    positional: bool = False,
    takes_blanks: bool = False,
) -> Any:
    """Declare a field of a dataclass as an option. The arguments are those of `Option`, except:

    Args:
        group: the heading in `--help`; if empty, the class's `HEADING`.
        default_text: None shows the default itself if it is a number, and nothing otherwise.
    """
    if default_text is None:
        default_text = f"{default:g}" if isinstance(default, int | float) and metavar else ""
    row = Option("", read, default, help, metavar, default_text, group, secret, repeatable, positional, takes_blanks)
    metadata = {_OPTION: row}
    if callable(default):
        return field(default_factory=default, metadata=metadata, repr=not secret)
    return field(default=default, metadata=metadata, repr=not secret)


@functools.cache
def options_of(group: type) -> Mapping[str, Option]:
    """Return the options of a dataclass by name, in the order of its fields."""
    heading = getattr(group, "HEADING", "")
    return {
        item.name: replace(row, name=item.name, group=row.group or heading)
        for item in fields(group)
        if (row := item.metadata.get(_OPTION)) is not None
    }


def is_like_key(text: str) -> bool:
    """Return whether a text looks like an API key or a token: it was given in the wrong place, and is not shown."""
    return _KEY.fullmatch(text.strip()) is not None


def _holds_key(raw: object) -> bool:
    texts = raw if isinstance(raw, list | tuple) else [raw]
    files = [text[1:] for text in texts if isinstance(text, str) and text.startswith("@")]
    return any(isinstance(text, str) and is_like_key(text) for text in texts) or any(
        shown_file(name) != name for name in files
    )


def shown_file(name: object) -> str:
    """Return the name of a file for an error's sentence; "the file given" if it looks like a secret instead."""
    text = str(name)
    return "the file given" if is_like_key(text) or _NO_FILE.fullmatch(text.strip()) else text


def read_lines(name: object) -> list[str]:
    """Read the lines of a file, without blanks around them, empty lines, and those that begin with `#`.

    Raises:
        ValueError: the file cannot be read, or is no text; the message is a clause of an error's sentence.
    """
    try:
        with open(str(name), encoding="utf-8-sig") as file:
            lines = [line.strip() for line in file]
    except OSError as error:
        raise ValueError(f"cannot read {shown_file(name)}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{shown_file(name)} is not a text file in UTF-8") from None
    return [line for line in lines if line and not line.startswith("#")]


def key_lines(name: object, where: str) -> list[str]:
    """Read a file with one API key a line; at least one.

    Args:
        where: the option that names it, with which an error's sentence begins.

    Raises:
        ConfigError: it cannot be read, or has no line.
    """
    try:
        found = read_lines(name)
    except ValueError as wrong:
        raise ConfigError(f"{where}: {wrong}") from None
    if not found:
        raise ConfigError(f"{where}: {name} holds no key; expected one a line")
    return found


def text(raw: object) -> str:
    """Read a text that is not empty."""
    if not isinstance(raw, str) or not raw.strip():
        raise ValueError("a text")
    return _whole(raw).strip()


def verbatim(raw: object) -> str:
    """Read a text as it is: it may be empty, and its blanks count."""
    if not isinstance(raw, str):
        raise ValueError("a text, which may be empty or blank")
    return _whole(raw)


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a text without half characters (surrogates)") from None
    return text


def texts(raw: object) -> tuple[str, ...]:
    """Read one text or several, none of them empty; a comma is part of a text."""
    found = (raw,) if isinstance(raw, str) else raw
    if (
        not isinstance(found, list | tuple)
        or not found
        or not all(isinstance(item, str) and item.strip() for item in found)
    ):
        raise ValueError("a text, or several")
    return tuple(map(_whole, found))


def one_of(*words: str) -> Callable[[object], str]:
    """Return a reader that accepts one of the words, in any case, with hyphens for underscores."""

    def read(raw: object) -> str:
        word = raw.strip().lower() if isinstance(raw, str) else ""
        word = word if word in words else word.replace("-", "_")
        if word not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return word

    return read


def flag(raw: object) -> bool:
    """Read a yes or no."""
    if isinstance(raw, int) and raw in (0, 1):
        return bool(raw)
    value = _FLAGS.get(raw.strip().lower()) if isinstance(raw, str) else None
    if value is None:
        raise ValueError("true or false")
    return value


def truth(raw: object) -> bool:
    """Return the truth of any value, as the published SDK takes it; a text that says no, such as "off", is false."""
    return _FLAGS.get(raw.strip().lower(), bool(raw)) if isinstance(raw, str) else bool(raw)


def choice(raw: object) -> bool:
    """Read a yes or no that the command line gives as a value, since its default is yes."""
    return flag(raw)


def integer(raw: object, low: int, high: int, expected: str) -> int:
    """Read a whole number within bounds; `expected` is the text of the error."""
    if isinstance(raw, bool) or not isinstance(raw, int | str):
        raise ValueError(expected)
    digits = str(raw).strip()
    # isdecimal alone lets digits of other scripts pass; int() would take "1_000", and refuses very many.
    if not (digits.isascii() and digits.isdecimal()):
        raise ValueError(expected)
    value = int(digits.lstrip("0")[:12] or "0")
    if not low <= value <= high:
        raise ValueError(expected)
    return value


def number(raw: object) -> int:
    """Read a count of at least 1."""
    return integer(raw, 1, _MAX_NUMBER, "a whole number from 1 to a billion")


def size(raw: object) -> int:
    """Read the size of a message in bytes: a whole number, or one with a unit."""
    expected = f"a size of at least {MIN_MESSAGE_BYTES}, such as 65536, 64KiB or 1MiB"
    value = _bytes(raw, expected)
    # picows counts payloads in a signed 32-bit number.
    if value >= 2**31:
        raise ValueError(expected + ", below 2GiB")
    if value < MIN_MESSAGE_BYTES:
        raise ValueError(expected)
    return value


def size_or_off(raw: object) -> int | None:
    """Read the size of a message in bytes, or the word `off`, which is None."""
    return _or_off(size, raw)


def memory(raw: object) -> int:
    """Read an amount of a process's memory in bytes: a whole number, or one with a unit."""
    expected = "an amount of memory of at least 1MiB, such as 512MiB or 2GiB"
    value = _bytes(raw, expected)
    if not 1 << 20 <= value < 1 << 60:
        raise ValueError(expected)
    return value


def _bytes(raw: object, expected: str) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int | str):
        raise ValueError(expected)
    match = _SIZE.fullmatch(raw.strip() if isinstance(raw, str) else format(raw, "d")[:20])
    unit = _UNITS.get(match.group(2).lower()) if match else None
    if match is None or unit is None:
        raise ValueError(expected)
    value = float(match.group(1)) * unit
    if value >= 2**63:
        return 1 << 63
    if value != int(value):
        raise ValueError(expected)
    return int(value)


def duration(raw: object) -> float:
    """Read a time in seconds, 0 included."""
    return _seconds(raw, "a number of seconds, such as 30 or 0.5")


def interval(raw: object) -> float:
    """Read a time in seconds above 0."""
    expected = "a number of seconds above 0, such as 20 or 0.5"
    value = _seconds(raw, expected)
    if value == 0:
        raise ValueError(expected)
    return value


def _or_off(read: Callable[[object], _Value], raw: object) -> _Value | None:
    if raw is False or (isinstance(raw, str) and _FLAGS.get(raw.strip().lower()) is False and raw.strip() != "0"):
        return None
    try:
        return read(raw)
    except ValueError as wrong:
        raise ValueError(f"{wrong}, or off") from None


def interval_or_off(raw: object) -> float | None:
    """Read a time in seconds above 0, or the word `off`, which is None."""
    return _or_off(interval, raw)


def _seconds(raw: object, expected: str) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise ValueError(expected)
    try:
        value = float(raw)
    except (ValueError, OverflowError):
        raise ValueError(expected) from None
    if not math.isfinite(value) or value < 0:
        raise ValueError(expected)
    return min(value, _LONG_S)
