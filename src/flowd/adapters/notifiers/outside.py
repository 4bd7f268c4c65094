"""The other services of apprise, each delivery in a process of its own that can connect to no refused address.

apprise says False instead of raising, may log what it is given, and connects wherever a service's own rules lead: so
it gets the URL by its standard input, its own words go nowhere, and every connection is looked at before it is made.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Final

import anyio
import msgspec

from flowd.core.notices import Message
from flowd.ports.notifier import Undelivered

PATIENCE_S: Final = 60.0
MISSING: Final = "this service takes the library apprise, which is not installed; pip install 'flowd[apprise]'"


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is asked to deliver, and which networks and hosts are `allowed` besides the public ones."""

    url: str
    subject: str
    text: str
    allowed: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it; `error` is empty where it arrived."""

    error: str = ""
    for_good: bool = False


class Apprise:
    """Delivers to the URLs of every other scheme."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self._allowed = tuple(allowed)

    async def __call__(self, url: str, message: Message) -> None:
        """Deliver it. Raises Undelivered."""
        if find_spec("apprise") is None:
            raise Undelivered(MISSING)
        errand = Errand(url=url, subject=message.subject, text=message.text, allowed=self._allowed)
        try:
            with anyio.fail_after(PATIENCE_S):
                done = await anyio.run_process(
                    [sys.executable, "-m", "flowd.adapters.notifiers.outside_child"],
                    input=msgspec.json.encode(errand),
                    stderr=subprocess.DEVNULL,
                    check=False,
                    env=_environment(),
                    start_new_session=True,
                )
        except TimeoutError:
            raise Undelivered(f"the service did not take it within {PATIENCE_S:g}s") from None
        try:
            report = msgspec.json.decode(done.stdout, type=Report)
        except msgspec.DecodeError:
            raise Undelivered(f"apprise ended with {done.returncode} and said nothing") from None
        if report.error:
            raise Undelivered(report.error, for_good=report.for_good)


def _environment() -> dict[str, str]:
    """What this process has, without proxies: what is behind one cannot be looked at."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
