"""Whole runs in virtual time, killed at any instant and resumed: one seed, one history.

`simulate(seed)` makes a random pipeline, runs it on the real engine with the memory journal, kills
the engine at random instants, resumes it until nothing can go on, answers what is uncertain, and
checks after each life what flowd promises. The same seed gives the same history, event for event.
"""

from __future__ import annotations

from flowd.testing.simulation.history import History, simulate
from flowd.testing.simulation.promises import Broken

__all__ = ["Broken", "History", "simulate"]
