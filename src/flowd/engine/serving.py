"""The services of one run: their ports, what follows once they serve, and when they are stopped."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from flowd.core import states as s
from flowd.core.deciding.serving import is_needed
from flowd.core.errors import BadRequest
from flowd.core.spec import Retry, TaskSpec
from flowd.core.stimuli import HandedOver, Serves
from flowd.core.task_state import TaskState
from flowd.engine.handing_over import HandOver
from flowd.engine.markers import marker_of, put, remove
from flowd.engine.timers import Timer
from flowd.ports.executor import Work

if TYPE_CHECKING:
    from flowd.engine.channel import AttemptChannel
    from flowd.engine.driver import Driver

SERVED = "served"
"""Why the attempt of a service is stopped that has done all that it was begun for."""
STOOD_BACK = "stood_back"
_LONGEST_BACK_S = 30.0
"""How long, beyond the time that it takes to get ready, the newer one may take to say how it went, in seconds."""


class Servings:
    """What a driver does about its services; most runs have none."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._lifetimes: dict[int, Timer] = {}
        self.back: dict[int, Timer] = {}  # those that stand back for another run's

    def close(self) -> None:
        """Wait for nothing any more."""
        for timer in (*self._lifetimes.values(), *self.back.values()):
            timer.cancel()

    @property
    def up(self) -> list[int]:
        """Those that serve."""
        run = self._driver.run
        return [number for number in sorted(run.shape.services) if run.tasks[number].state == s.SERVING]

    def serves(self, number: int, attempt: int, work: Work, url: str, pid: int) -> None:
        """One has come up: what needs it starts, and its lifetime begins."""
        driver, spec = self._driver, work.task
        driver.tell(Serves(task=spec.name, attempt=attempt, url=url, port=work.port, pid=pid))
        if work.lifetime is not None and driver.run.tasks[number].state == s.SERVING:
            seconds = work.lifetime.total_seconds()
            self._lifetimes[number] = driver.services.timers.after(seconds, partial(self._end, number, attempt))

    def stop_unneeded(self) -> None:
        """Stop what served tasks below that have all ended."""
        for number in self.up:
            if not is_needed(self._driver.run, number):
                self._end(number, self._driver.run.tasks[number].attempt)

    def stop(self, name: str) -> None:
        """Stop one, as a person asks. BadRequest where it does not serve."""
        number = self._driver.run.shape.index[name]
        if number in self.back:
            self.back.pop(number).cancel()
            if (living := self._driver.attempts.get(number)) is not None:
                living.cause = SERVED  # it has not stood back yet, and need not any more
            self._driver.tell(HandedOver(name))
        else:
            self._end(self._checked(name), self._driver.run.tasks[number].attempt)

    def _checked(self, name: str) -> int:
        run = self._driver.run
        number = run.shape.index[name]
        if run.shape.specs[number].service is None:
            raise BadRequest(f"task {name} of run {run.id} is no service; `flowd cancel {run.id}` stops the run")
        if run.tasks[number].state != s.SERVING:
            raise BadRequest(f"service {name} of run {run.id} is {run.tasks[number].state}, not serving")
        return number

    def stand_back(self, name: str) -> None:
        """Stop one, and begin it again unless it is told in time that another serves in its place."""
        number = self._checked(name)
        service = self._driver.run.shape.specs[number].service
        assert service is not None
        seconds = service.ready.timeout.total_seconds() + _LONGEST_BACK_S
        self.back[number] = self._driver.services.timers.after(seconds, partial(self.take_back, name))
        self._end(number, self._driver.run.tasks[number].attempt, STOOD_BACK)

    def take_back(self, name: str) -> None:
        """Begin one again that stands back."""
        number = self._driver.run.shape.index[name]
        if (timer := self.back.pop(number, None)) is None:
            return
        timer.cancel()
        if self._driver.run.may_start(number):
            self._driver.offer(number)
            self._driver.services.wake(1)

    def stop_all(self) -> bool:
        """Stop all of them where nothing else is left to do; False where something is."""
        driver, up = self._driver, self.up
        if not up or set(up) != set(driver.attempts) or driver.is_busy:
            return False
        for number in up:
            self._end(number, driver.run.tasks[number].attempt)
        return True

    def document(self) -> dict[str, Any]:
        """What the services that run have told, and what the probe of those said that do not serve yet."""
        found, run = {}, self._driver.run
        for number in sorted(run.shape.services & run.live):
            channel = getattr(self._driver.attempts.get(number), "channel", None)
            told = {"metrics": dict(channel.metrics), "probe": channel.probe} if channel is not None else {}
            found[run.shape.specs[number].name] = told
        return found

    def _end(self, number: int, attempt: int, cause: str = SERVED) -> None:
        if (timer := self._lifetimes.pop(number, None)) is not None:
            timer.cancel()
        living = self._driver.attempts.get(number)
        if living is not None and self._driver.run.tasks[number].attempt == attempt:
            living.stop(cause)


async def carry_out(driver: Driver, number: int, work: Work, channel: AttemptChannel) -> object:
    """Run a service to its end. While it serves, others have its place among the attempts."""
    older, marker, begun = HandOver(driver, work, channel), marker_of(work.task, work.folder), 0
    await older.prepare()
    with ExitStack() as stack:

        async def serves(url: str, pid: int) -> None:
            nonlocal begun
            if marker is not None:
                await anyio.to_thread.run_sync(put, marker, url, pid, driver.now())
            begun = pid
            stack.enter_context(driver.services.away())
            driver.servings.serves(number, work.attempt, work, url, pid)
            assert driver.approvals.group is not None
            driver.approvals.group.start_soon(older.serves, name="flowd hand-over")

        channel.on_serving = serves
        try:
            return await driver.services.adapters.executors["service"].run(work, channel)
        finally:
            with anyio.CancelScope(shield=True):
                if marker is not None:
                    await anyio.to_thread.run_sync(remove, marker, begun)
                await older.failed()


def port_of(spec: TaskSpec, task: TaskState) -> int:
    """The port of a service's next attempt: the one it had, as long as it is free, else any; 0 where it has none."""
    if spec.service is None or spec.service.port is None:
        return 0
    if spec.service.port:
        return spec.service.port
    for wanted in (task.service.port if task.service is not None else 0, 0):
        with suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", wanted))
            found: int = probe.getsockname()[1]
            return found
    raise OSError(f"service {spec.name}: there is no free port on 127.0.0.1")


def policy(spec: TaskSpec, task: TaskState) -> tuple[Retry | None, int]:
    """What decides whether there is another attempt, and how many count: a service that has served is begun again."""
    if spec.service is None or task.service is None:
        return spec.retry, task.tries
    return spec.service.restart, task.service.restarts + 1
