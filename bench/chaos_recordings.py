"""The recordings of `bench.chaos`: every conversation that was cut can be read afterwards, up to its last answer."""

from __future__ import annotations

from pathlib import Path

from bench.chaos_callers import Tally
from se_server.errors import CallerError
from se_server.recordings.reading import load_recorded
from se_server.recordings.records import Recorded

LAST_S = 0.01
"""A worker that dies has put everything that is older than this into its ring."""


def check_recordings(folder: Path, tally: Tally) -> str:
    """Compare the recordings with the callers, and add to the faults; return a sentence on what was found.

    A conversation that was cut before its first answer is not expected: its worker may have read nothing of it.
    """
    found: dict[str, Recorded] = {}
    for path in folder.glob("*.jsonl"):
        try:
            recorded = load_recorded(path)
        except CallerError as error:
            tally.faults.append(str(error))
            continue
        found[str(recorded.conversation_id)] = recorded
    read = 0
    for name, answers in tally.cut_names.items():
        if not answers:
            continue
        recorded = found.get(name)
        if recorded is None:
            tally.faults.append(f"{name} was cut after {answers} answers, and there is no recording of it")
            continue
        read += 1
        ended = [turn for turn in recorded.turns if turn.outcome == "answered"]
        if len(ended) < answers:
            tally.faults.append(f"the caller of {name} heard {answers} answers, and {len(ended)} are in its recording")
        if recorded.header["cause"] is None:
            tally.faults.append(f"{name} was cut, and is open in its recording")
    return f"{read} of the conversations that were cut can be read, each with all answers that its caller heard"
