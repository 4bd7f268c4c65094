"""What the daemon itself has to say: lines beside those of its runs, on the standard library's logger `flowd.daemon`.

`wiring` gives that logger its sinks; where a host program mounts the daemon, its own configuration decides.
"""

from __future__ import annotations

import logging
from typing import Any, Final

LOGGER: Final = logging.getLogger("flowd.daemon")
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def say(event: str, *, level: str = "info", **fields: Any) -> None:
    """One line: a stable name and its fields; those that are None are left out."""
    shown = {name: value for name, value in fields.items() if value is not None}
    LOGGER.log(_LEVELS[level], event, extra={"fields": shown})
