"""How often an address has failed of late; what is remembered is bounded, whoever asks.

Nobody guesses 256 random bits. What this bounds is what guessing costs: work, and lines in the audit. So a
right token is never refused for the wrong ones of others at the same address, which all of a machine's share.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from flowd.ports.clock import Clock

_REMEMBERED: Final = 1_024


class Throttle:
    """Counts for each address, from its first failure on, for `within_s` seconds."""

    def __init__(self, clock: Clock, most: int, within_s: float = 60.0) -> None:
        self._clock = clock
        self._most = most
        self._within_s = within_s
        self._counts: dict[str, tuple[float, int]] = {}

    def is_over(self, address: str) -> bool:
        """Count one more; whether that is too many by now."""
        key, now = _network(address), self._clock.monotonic()
        since, count = self._counts.get(key, (now, 0))
        if now - since >= self._within_s:
            since, count = now, 0
            self._counts.pop(key, None)
        if key not in self._counts and len(self._counts) >= _REMEMBERED:
            del self._counts[next(iter(self._counts))]  # whose first failure is longest ago
        self._counts[key] = since, count + 1
        return count + 1 > self._most

    def wait_s(self, address: str) -> int:
        """Whole seconds until it counts from nothing again."""
        since, _ = self._counts.get(_network(address), (0.0, 0))
        return max(1, round(since + self._within_s - self._clock.monotonic()))


def _network(address: str) -> str:
    """An address; of IPv6 the network of 64 bits, of which one machine has all."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(found) if found.version == 4 else str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
