"""Faults injected into the real flowd: each family breaks something and says what did not hold."""


class Skipped(Exception):
    """A family cannot be run on this machine; the message says why."""
