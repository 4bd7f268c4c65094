"""Who holds a port of this machine, as far as the kernel tells."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from flowd.guardian import processes

_LISTENS = "0A"
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def who_listens(port: int, pid: int) -> str | None:
    """Who else holds `port` than the family of `pid`, in words; None where it is that, or nobody tells."""
    sockets = _listening(port)
    if not sockets:
        return None
    table = processes.processes()
    own = processes.family(table, [pid])
    tag = processes.tag_of(pid) or 0
    if tag > 0:  # what has left its family and its session still bears the mark of its attempt
        own |= {other for other in table if processes.tag_of(other) == tag}
    if any(_holds(member, sockets) for member in own):
        return None
    others = [other for other in table if other not in own and _holds(other, sockets)]
    if not others:
        return None if os.geteuid() == 0 else f"port {port} is held by a program of another user"
    named = ", ".join(f"{_name(other)} (pid {other})" for other in others[:3])
    return f"port {port} is held by {named}, not by the service"


def _listening(port: int) -> set[str]:
    """The sockets that listen there, as a process's links to them read."""
    found = set()
    for table in _TABLES:
        try:
            rows = table.read_text("ascii", errors="replace").splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if len(fields) > 9 and fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found


def _holds(pid: int, sockets: Collection[str]) -> bool:
    try:
        links = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for link in links:
        try:
            if os.readlink(f"/proc/{pid}/fd/{link}") in sockets:
                return True
        except OSError:
            continue
    return False


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "a program"
