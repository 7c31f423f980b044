"""Shaped text read aloud by espeak-ng to a file; its transcript names no symbol, and that of the text as it is does."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from se_server.streams._shape import Shaper

pytestmark = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng: apt-get install espeak-ng")

SYMBOLS = ("hash", "slash", "tilde", "grinning face", "arrow", "asterisk", "vertical bar", "underscore", "backquote")
TEXT = """# Your order 🎉
Here is **what I found** for `order_id` 42, see [the page](https://shop.example.com/o/42?x=1).

- *Two* lamps → Berlin
- [x] One ~~red~~ table

| item | price |
|---|---|
| lamp | 20 |

Water is H~2~O[^1], the area is $\\frac{a}{b} \\cdot x_1$ (see [1], [2]), more in [the notes][n] ==today==.

[^1]: As <b>you</b> know, ~~not~~ \\(y\\).
[n]: https://shop.example.com/notes_1 "Notes"

```python
print("**" * 3)
```
Anything else? 😀"""


def phonemes(text: str, *options: str) -> str:
    command = ["espeak-ng", *options, "-x", "--", text]
    made = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    return re.sub(r"[',_: \n]", "", made)


def symbols_in(text: str, *options: str) -> list[str]:
    heard = phonemes(text, *options)
    return [name for name in SYMBOLS if phonemes(name, "-q") in heard]


def test_no_symbol_is_named_aloud(tmp_path: Path) -> None:
    shaper = Shaper("plain")
    pieces = [TEXT[place : place + 3] for place in range(0, len(TEXT), 3)]
    speech = "".join(chunk for piece in pieces for chunk in shaper.feed(piece)) + "".join(shaper.finish())
    sound = tmp_path / "speech.wav"
    assert symbols_in(speech, "-w", str(sound)) == []
    assert sound.read_bytes()[:4] == b"RIFF"
    assert symbols_in(TEXT, "-q") != []
