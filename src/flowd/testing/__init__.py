"""A kit for tests of pipelines, and of flowd itself: no disk, no real waiting, no network."""

from __future__ import annotations

from flowd.testing.clock import FakeClock
from flowd.testing.memory import MemoryEngine
from flowd.testing.replay import replay

__all__ = ["FakeClock", "MemoryEngine", "replay"]
