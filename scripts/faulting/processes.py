"""Tasks whose processes are hard to end, under everything that ends them: none may survive it."""

from __future__ import annotations

import itertools
import random
import signal
import time
from collections.abc import Callable

from faulting import living
from faulting.command import RUN, Command, Place
from faulting.family import Broken, Forbidden, Order, Report, lead_each
from faulting.shapes import LEFT_BEHIND, NASTY, UNMARKED
from flowd.guardian.cgroup import available

GRACE = "2s"
STOP_S = 5.0
"""Seconds from a signal, a cancel or a timeout to the last process's end, the grace of 2 s among them."""
DEATH_S = 2.0
"""Seconds from flowd's own death to the last process's end."""
NEXT_S = 6.0
"""Seconds in which the next owner ends what is left, and a whole task runs."""
TIMEOUT_S = 1.0

AGAIN = """\
if test -e before; then
  while read pid; do
    state=$(sed -n 's/^State:[[:space:]]*\\(.\\).*/\\1/p' /proc/$pid/status 2>/dev/null || :)
    case "$state" in ''|Z|X) ;; *) echo $pid >> met ;; esac
  done < before
  exit 0
fi
"""
"""What a task does first: in a second life it looks for the processes of the first, and does no more."""

NEXT = "echo ready; while ! test -e go && ! test -e before; do sleep 0.02; done"
"""What comes after a task that succeeded: it keeps the run open until somebody has looked at what is left."""


def run(order: Order, report: Report) -> None:
    """Every combination of a shape and an end, in turn."""

    def trial(seed: int) -> None:
        shape, end = COMBINATIONS[(seed - 1) % len(COMBINATIONS)]
        text = (NASTY | LEFT_BEHIND)[shape]
        with report.trial(order, seed) as folder:
            place = Place(folder, seed)
            if (shape, end) == (UNMARKED, KILLED_BOTH) and not available()[0]:
                raise Forbidden(f"only a control group keeps a task that {shape}: {available()[1]}")
            if end == WITHOUT_GROUP:
                place.variables["FLOWD_CGROUP"] = "off"
            found = Trial(place, f"9{seed % 10**5:05d}.{random.randrange(10**6):06d}", random.Random(seed))
            try:
                found.begin(text, **({"timeout": f"{TIMEOUT_S:g}s"} if end == "timeout" else {}))
                with found.command:
                    ENDS[end](found)
            except Broken as broken:
                raise Broken(f"a task that {shape}, {end}: {broken}") from None
            finally:
                living.kill_all(found.living)
                living.kill_all(lambda: living.bearing(place.token))
            report.did("ends")

    lead_each(order, report, trial)


class Trial:
    """One run of one nasty task; `token` is in the command line of all its processes."""

    command: Command

    def __init__(self, place: Place, token: str, chance: random.Random) -> None:
        self.place = place
        self.token = token
        self.chance = chance

    def begin(self, text: str, **policies: str) -> None:
        """Start the run and wait until all the task's processes are there, most of the time."""
        text = AGAIN + text.format(token=self.token)
        tasks = {"t": {"run": text, "grace": GRACE, **policies}, "next": {"run": NEXT, "needs": ["t"]}}
        self.place.pipeline(tasks)
        self.command = self.place.run()
        self.until_ready("t")
        time.sleep(self.chance.uniform(0, 0.05))

    def until_ready(self, task: str) -> None:
        """Wait until a task says so."""
        log = self.place.run_folder / "logs" / f"{task}.1.log"
        if not living.within(20, lambda: log.exists() and b"ready" in log.read_bytes()):
            raise Broken(f"task {task} did not begin: {self.command.said()}")

    def living(self) -> set[int]:
        """The task's processes."""
        return living.bearing(self.token)

    def none_left(self, seconds: float, what: str) -> None:
        """Broken where any process lives on after these seconds."""
        if not living.within(seconds, lambda: not self.living()):
            raise Broken(f"{seconds:.1f}s after {what} there live {living.described(self.living())}")

    def ends(self, seconds: float, code: int, what: str) -> None:
        """The command ends with this code within these seconds, and no process lives when it has."""
        found = self.command.wait(max(seconds, 0.1))
        if found != code:
            raise Broken(f"after {what} flowd ended with {found}, not {code}: {self.command.said()}")
        self.none_left(0.0, f"flowd's end ({what})")

    def state(self) -> str:
        """How the task ended, as recorded."""
        return str(self.place.ask("show", RUN, "--json").document()["tasks"]["t"]["state"])


def _signalled(number: signal.Signals) -> Callable[[Trial], None]:
    def end(trial: Trial) -> None:
        trial.command.process.send_signal(number)
        trial.ends(STOP_S, 130, number.name)

    return end


def _timeout(trial: Trial) -> None:
    trial.ends(TIMEOUT_S + STOP_S, 1, "the task's timeout")
    if trial.state() != "timed_out":
        raise Broken(f"after its timeout the task is {trial.state()}")


def _cancelled(trial: Trial) -> None:
    began = time.monotonic()
    trial.place.ask("cancel", RUN)
    trial.ends(began + STOP_S + 0.5 - time.monotonic(), 1, "flowd cancel")  # half a second until it is taken
    if trial.state() != "cancelled":
        raise Broken(f"after a cancel the task is {trial.state()}")


def _killed(trial: Trial) -> None:
    trial.command.process.kill()
    trial.command.process.wait()
    trial.none_left(DEATH_S, "SIGKILL of flowd")


def _killed_with_its_guardian(trial: Trial) -> None:
    guardians = living.guardians(trial.command.pid)
    trial.command.process.send_signal(signal.SIGSTOP)  # or it would hear of its guardian's end, and act
    living.kill(guardians)
    trial.command.process.kill()
    trial.command.process.wait()
    left = trial.living()
    if not left:
        raise Broken("nothing was left by a dead guardian, so nothing was tried")
    (trial.place.folder / "before").write_text("".join(f"{pid}\n" for pid in left))
    with trial.place.begin("resume", RUN) as command:
        code = command.wait(NEXT_S)
    if code == 2 and NEVER_ON_RECORD in command.said():
        with trial.place.run() as command:
            code = command.wait(NEXT_S)
    if code:
        raise Broken(f"the next owner ended with {code}: {command.said()}")
    if met := trial.place.lines("met"):
        raise Broken(f"the next owner began a task while {', '.join(met)} of the one before still lived")
    trial.none_left(0.0, "the next owner's end")


def _succeeded(trial: Trial) -> None:
    trial.until_ready("next")
    trial.none_left(0.0, "the task's success, with the run going on")
    (trial.place.folder / "go").touch()
    trial.ends(STOP_S, 0, "the task's success")


NEVER_ON_RECORD = "before its first record"
"""A busy disk may take longer over the first record than an idempotent task to begin: the id is then run anew."""
KILLED_BOTH = "on SIGKILL of flowd and its guardian"
WITHOUT_GROUP = f"{KILLED_BOTH}, without a control group"

ENDS: dict[str, Callable[[Trial], None]] = {
    "on SIGTERM": _signalled(signal.SIGTERM),
    "on SIGINT": _signalled(signal.SIGINT),
    "timeout": _timeout,
    "flowd cancel": _cancelled,
    "on SIGKILL of flowd": _killed,
    KILLED_BOTH: _killed_with_its_guardian,
    WITHOUT_GROUP: _killed_with_its_guardian,
    "having succeeded": _succeeded,
}

COMBINATIONS = [
    *itertools.product(NASTY, [end for end in ENDS if end not in ("having succeeded", WITHOUT_GROUP)]),
    *((shape, WITHOUT_GROUP) for shape in NASTY if shape != UNMARKED),
    *((shape, "having succeeded") for shape in LEFT_BEHIND),
]
