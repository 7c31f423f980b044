"""The load generator: many conversations with a server of any make, as the live API holds them.

`LoadPlan` says what is asked for, and a `LoadProcess` does it in a process of its own; its parent only reads. The loop
that holds the conversations is compiled (`_engine`): on a core of its own it has to be faster than what it measures.
"""

from se_server.load.plan import PROFILES, LoadPlan
from se_server.load.process import Connected, Figures, LoadProcess, Run
from se_server.telemetry._histogram import Histogram

__all__ = ["PROFILES", "Connected", "Figures", "Histogram", "LoadPlan", "LoadProcess", "Run"]
