"""All cases, in the order of the scorecard."""

from __future__ import annotations

from collections.abc import Sequence

# In this order they stand on the scorecard.
from se_server.doctor import conversation_cases, habit_cases, handler_cases, long_cases
from se_server.doctor.cases import CASES, Case

FIRST = "question"
"""The case that is run before all others: what it finds is true of them, too."""

MODULES = (conversation_cases, habit_cases, handler_cases, long_cases)


def chosen(only: Sequence[str] = ()) -> list[Case]:
    """Return the cases of these names, all of them by default; `FIRST` is always one.

    Raises:
        KeyError: there is no case of that name.
    """
    for name in only:
        if name not in CASES:
            raise KeyError(name)
    return [examined for examined in CASES.values() if not only or examined.name in (*only, FIRST)]
