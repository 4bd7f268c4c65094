"""What is read before and after: wall clock, and the processor's time of this process and of what it has waited for."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, field


def _processor() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


@dataclass
class Clock:
    """Started when it is made; `read` gives the figures since."""

    began: float = field(default_factory=time.perf_counter)
    spent: float = field(default_factory=_processor)

    def read(self) -> dict[str, float]:
        """`seconds` by the wall, and `cpu` seconds: these say more where others keep the machine busy."""
        taken = time.perf_counter() - self.began
        return {"seconds": taken, "cpu": _processor() - self.spent}
