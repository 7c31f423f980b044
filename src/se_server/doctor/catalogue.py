"""The list of all cases, in the order of the scorecard."""

from __future__ import annotations

from collections.abc import Sequence

from se_server.doctor import answer_cases, conversation_cases, habit_cases, handler_cases, long_cases
from se_server.doctor.cases import CASES, Case

FIRST = "question"
"""The case that runs before all others: if it fails without an answer, the others cannot pass."""

# The order of these modules is the order on the scorecard.
MODULES = (conversation_cases, habit_cases, answer_cases, handler_cases, long_cases)


def chosen(only: Sequence[str] = ()) -> list[Case]:
    """Return the cases with these names, by default all; `FIRST` is always included.

    Raises:
        KeyError: there is no case with that name.
    """
    for name in only:
        if name not in CASES:
            raise KeyError(name)
    order = [module.__name__ for module in MODULES]
    cases = sorted(CASES.values(), key=lambda examined: order.index(examined.run.__module__))
    return [examined for examined in cases if not only or examined.name in (*only, FIRST)]
