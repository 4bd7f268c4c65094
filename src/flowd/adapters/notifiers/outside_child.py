"""The process in which apprise delivers one message: `python -m` this; an errand comes in, a report goes out."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import msgspec

from flowd.adapters.notifiers.addresses import Allowed
from flowd.adapters.notifiers.outside import Errand, Report

_INTERNET = 2
"""The least that an address of the internet has: a host and a port."""


class Refused(OSError):
    """A connection to where notices are not sent."""


def main() -> None:
    """Carry out one errand."""
    errand = msgspec.json.decode(sys.stdin.buffer.read(), type=Errand)
    report = deliver(errand)
    sys.stdout.buffer.write(msgspec.json.encode(report))
    sys.stdout.flush()


def deliver(errand: Errand) -> Report:
    """Deliver by apprise, from now on unable to connect to what is refused."""
    warnings.simplefilter("ignore")  # it imports what Python is about to drop
    try:
        import apprise
    except ImportError as error:
        return Report(error=f"apprise cannot be imported: {type(error).__name__}")
    service = apprise.Apprise.instantiate(errand.url)
    if service is None:
        return Report(error="apprise cannot read its URL; its documentation says how this service's is written")
    refusals = guard(Allowed(errand.allowed))
    try:
        done = bool(service.notify(body=errand.text, title=errand.subject))
    except Exception as error:  # noqa: BLE001  # each service's plugin raises what it likes
        return Report(error=f"apprise: {type(error).__name__}", for_good=bool(refusals))
    if refusals:
        return Report(error=refusals[0], for_good=True)
    return Report() if done else Report(error="the service did not take it; apprise does not say why")


def guard(allowed: Allowed) -> list[str]:
    """Look at every connection that this process makes from now on; the refusals so far, as they come."""
    refusals = list[str]()
    names: dict[str, str] = {}

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.getaddrinfo":
            names["last"] = str(arguments[0])
        elif event in {"socket.connect", "socket.sendto"}:
            address = arguments[1]
            if not isinstance(address, tuple) or len(address) < _INTERNET:
                refused = "a socket of this machine is not written to"
            else:
                refused = allowed.refusal(names.get("last", str(address[0])), str(address[0]))
            if refused:
                refusals.append(refused)
                raise Refused(refused)

    sys.addaudithook(look)
    return refusals


if __name__ == "__main__":
    main()
