"""The words of the simulated user, as the API transcribes them, and their event ids."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from se_server.simulator.habits import Silence, Wording

MAX_ID_GAP = 20  # field reports show ids such as 26, 43 and 45 for neighbouring turns
LAST_WORDS = "That is all, goodbye."
SILENCES = {Silence.DOTS: "...", Silence.ELLIPSIS: "\u2026", Silence.DOT: "."}
"""The user text of each transcript after a pause without words; `Silence.AGENT_LAST` has none."""


def growing_ids(seed: str) -> Iterator[int]:
    """Yield event ids as the API does: increasing, with gaps; equal seeds give equal ids."""
    dice = random.Random(seed)
    event_id = 0
    while True:
        event_id += dice.randint(1, MAX_ID_GAP)
        yield event_id


def wordings(text: str, extra: int, wording: Wording) -> list[str]:
    """Return the transcripts of one pause in order; the last one is the text itself."""
    words = text.split()
    if wording is Wording.GROWING:
        parts = [" ".join(words[: max(1, len(words) * n // (extra + 1))]) for n in range(1, extra + 1)]
        return [*parts, text]
    plain = re.sub(r"[^\w\s']", "", text).strip() or text
    return [*[plain.lower(), plain][:extra], text]
