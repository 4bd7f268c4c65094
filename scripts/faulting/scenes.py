"""Faults that are scenes of their own, each played in turn in a place of its own; and what most scenes begin with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from faulting import living
from faulting.command import RUN, Command, Place
from faulting.family import Broken, Forbidden, Order, Report, lead_each

Scene = Callable[[Place], None]


def playing(scenes: Mapping[str, Scene], counted: str, *, jobs: int | None = None) -> Callable[[Order, Report], None]:
    """What runs a family of scenes: trial n plays the n-th, `jobs` of them at a time."""
    names = list(scenes)

    def run(order: Order, report: Report) -> None:
        def trial(seed: int) -> None:
            name = names[(seed - 1) % len(names)]
            with report.trial(order, seed) as folder:
                place = Place(folder, seed)
                try:
                    scenes[name](place)
                except Forbidden as forbidden:
                    report.skip(name, str(forbidden))
                    return
                except Broken as broken:
                    raise Broken(f"{name}: {broken}") from None
                finally:
                    living.kill_all(lambda: living.bearing(place.token))
                report.did(counted)

        lead_each(replace(order, jobs=jobs or order.jobs), report, trial)

    return run


def prepare(place: Place, text: str = "", *, idempotent: bool = True) -> None:
    """One task that tells its beginnings and waits for the file `go`; `text` is what it does in between."""
    tell = "echo $FLOWD_ATTEMPT $$ >> begun"
    wait = "while ! test -e go; do sleep 0.02; done"
    task = {"run": f"{tell}\n{text}\n{wait}", "grace": "100ms", "idempotent": idempotent}
    place.pipeline({"t": task, "u": {"run": "true", "needs": ["t"]}})


@contextlib.contextmanager
def held(place: Place, text: str = "", *, idempotent: bool = True) -> Iterator[Command]:
    """The run, owned by a living command whose task has begun."""
    prepare(place, text, idempotent=idempotent)
    with place.run() as holder:
        await_begun(place, 1, holder)
        yield holder


def await_begun(place: Place, times: int, command: Command) -> None:
    """Wait until the task has begun so often."""
    if not living.within(20, lambda: len(place.lines("begun")) >= times):
        raise Broken(f"the task did not begin: {command.said()}")


def let_go(place: Place, holder: Command) -> None:
    """Let the task end: the run succeeds, and its body has begun once for each owner it was meant to have."""
    (place.folder / "go").touch()
    if code := holder.wait():
        raise Broken(f"the owner ended with {code}: {holder.said()}")


def check_begun(place: Place, times: int) -> None:
    """Broken unless the task began so often."""
    found = place.lines("begun")
    if len(found) != times:
        raise Broken(f"the task began {len(found)} times, not {times}")


def check_ends(place: Place, *words: str, code: int = 0) -> None:
    """Go on with the run; it ends so, and what is on record is whole."""
    from faulting.looking import look

    place.ask(*(words or ("resume", RUN)), code=code)
    if code == 0 and look(place).state != "succeeded":
        raise Broken(f"exit 0, and the run is {look(place).state}")
