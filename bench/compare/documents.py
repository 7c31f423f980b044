"""Generated tables in hand-written documents, between `<!-- name: begin -->` and `<!-- name: end -->`."""

from __future__ import annotations

import re
from pathlib import Path

from bench.kernel import BenchError

__all__ = ["replaced"]


def replaced(document: Path, name: str, text: str) -> str:
    """Return the document with `text` between the marks of this name; the file itself stays as it is.

    Raises:
        BenchError: the document has no such marks.
    """
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    found = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    before = document.read_text()
    if not found.search(before):
        raise BenchError(f"{document.name} has no marks `{name}: begin` and `{name}: end`")
    return found.sub(lambda _: f"{begin}{text}\n{end}", before)
