"""The load generator: many concurrent conversations, as the live API holds them.

A `LoadPlan` describes the load, and a `LoadProcess` applies it in a process of its own; the parent only reads figures.
The loop that holds the conversations is compiled (`_engine`): on its own core it must be faster than the server it
measures.
"""

from se_server.load.plan import PROFILES, LoadPlan
from se_server.load.process import Connected, Figures, LoadProcess, Run
from se_server.telemetry._histogram import Histogram

__all__ = ["PROFILES", "Connected", "Figures", "Histogram", "LoadPlan", "LoadProcess", "Run"]
