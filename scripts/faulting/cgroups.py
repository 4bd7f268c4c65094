"""Control groups of version 1, for limits of memory and processes and for standstills."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from faulting import living
from faulting.command import Place
from faulting.family import Forbidden

CGROUPS = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def cgroup(controller: str, place: Place) -> Iterator[Path]:
    """A group below our own, whose processes are ended with it. Forbidden where none can be made."""
    group = _own(controller) / f"faults-{place.token}"
    try:
        group.mkdir()
    except OSError as error:
        raise Forbidden(f"no cgroup of the {controller} controller can be made here: {error.strerror}") from None
    try:
        yield group
    finally:
        living.kill_all(lambda: living.bearing(place.token))
        living.within(5, lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


def inside(group: Path) -> tuple[str, ...]:
    """Words before a command that is to run inside of a group."""
    return ("sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group))


def _own(controller: str) -> Path:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                below = CGROUPS / controller / path.lstrip("/")
                return below if below.is_dir() else CGROUPS / controller
    raise Forbidden(f"there is no {controller} controller of version 1 here")
