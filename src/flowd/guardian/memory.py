"""Whether the kernel has ended processes for want of memory, as far as the own control group tells."""

from __future__ import annotations

import os

from flowd.guardian.cgroup import PREFIX

_ROOT = "/sys/fs/cgroup"


def oom_kills() -> int | None:
    """How many processes of this control group the kernel has ended so far; None where it does not tell."""
    try:
        with open("/proc/self/cgroup") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            # The guardian's own group has no controllers: what is counted is counted above it.
            while os.path.basename(path).startswith(PREFIX):
                path = os.path.dirname(path).rstrip("/")
            places = [(f"{_ROOT}{path}", "memory.events"), (f"{_ROOT}/unified{path}", "memory.events")]
        elif "memory" in controllers.split(","):
            places = [(f"{_ROOT}/memory{path}", "memory.oom_control"), (f"{_ROOT}/memory", "memory.oom_control")]
        else:
            continue
        for folder, name in places:
            found = _count(os.path.join(folder, name))
            if found is not None:
                return found
    return None


def _count(path: str) -> int | None:
    try:
        with open(path) as file:
            fields = dict(line.split() for line in file.read().splitlines())
    except (OSError, ValueError):
        return None
    return int(fields["oom_kill"]) if fields.get("oom_kill", "").isdigit() else None
