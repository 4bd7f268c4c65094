"""What a service manager is told, by the protocol of systemd's sd_notify(3): lines to the socket that it names."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class ServiceManager:
    """Tells whoever started this process how it is; nobody where `environment` names no socket."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.every_s = _watchdog(environment)

    def tell(self, *lines: str) -> None:
        """Say something, such as `READY=1`. Nobody listening keeps nothing from going on."""
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaker:
            speaker.connect(self._address)
            speaker.send("\n".join(lines).encode())


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """Seconds between two signs of life: half of what the manager waits for one. None where it does not watch."""
    if environment.get("WATCHDOG_PID") not in {None, str(os.getpid())}:
        return None
    text = environment.get("WATCHDOG_USEC", "")
    return int(text) / 2e6 if text.isdecimal() and int(text) else None
