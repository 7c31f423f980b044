"""Compares the waits of a conversation with the patience of the API, which gives up on a server that is silent."""

from __future__ import annotations

CASCADE_S = 4.0
"""The seconds after which the API asks again, `cascade_timeout_seconds`, of an engine that does not set them."""

API = (
    f"the API asks again after the engine's cascade_timeout_seconds ({CASCADE_S:g} unless set, at most 15), "
    "and gives up after the third time"
)


def doubts_of(
    hold_after_s: float | None, settle_s: float, first_word_after_s: float | None, turn_timeout_s: float | None = None
) -> list[str]:
    """Return a sentence for each wait that is as long as the API's, unless the engine sets a longer one."""
    found = []
    has_word = first_word_after_s is not None and first_word_after_s < CASCADE_S  # then no blank is sent
    if hold_after_s is not None and hold_after_s >= CASCADE_S and not has_word:
        found.append(f"hold_after_s is {hold_after_s:g} s, too late to hold the API: {API}; choose less, such as 3")
    if settle_s >= CASCADE_S:
        found.append(f"settle_s is {settle_s:g} s, so that every answer is late: {API}; choose less, such as 0.3")
    if turn_timeout_s is not None and 0 < turn_timeout_s <= settle_s:
        found.append(
            f"settle_s is {settle_s:g} s, and turn_timeout_s, which counts from the transcript, too, is "
            f"{turn_timeout_s:g} s: every turn ends before its handler begins; choose a longer turn_timeout_s"
        )
    return found
