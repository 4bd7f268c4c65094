"""What outlives a simulated death: the journal, and the ledger of what tasks really did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import anyio
import msgspec

from flowd.adapters.journal.memory import Kept, MemoryJournal
from flowd.core.codec import scan
from flowd.core.errors import StorageFailing
from flowd.core.events import AnyEvent, Envelope
from flowd.core.fanout import base_name
from flowd.ports.executor import Channel, Work
from flowd.ports.follower import Signal


class Did(msgspec.Struct, frozen=True):
    """One thing that a task did: `began` or `finished`, of which attempt, when, and in which life."""

    what: str
    task: str
    attempt: int
    at: float
    life: int


class World:
    """Kills the engine at a given step, and remembers what was done before it."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.journal = DyingJournal(self)
        self.ledger: list[Did] = []
        self.told: list[Envelope] = []
        self.answers: dict[str, bool] = {}  # who has answered, and whether it was confirmed
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.life = 0
        self.now = 0.0
        self._left: int | None = None
        self._died: anyio.Event | None = None

    @property
    def dead(self) -> bool:
        """Whether the engine of this life has been killed: nothing that it does now counts."""
        return self._left is not None and self._left <= 0

    def begin_life(self, steps: int | None) -> None:
        """A new engine, to be killed after so many steps of its loop (None: never)."""
        self.life += 1
        self._left = steps
        self._died = None
        self.running.clear()

    def step(self) -> None:
        """One step of the loop has come."""
        if self._left is not None and self._left > 0:
            self._left -= 1
            if self._left == 0 and self._died is not None:
                self._died.set()

    async def death(self) -> None:
        """Return when the engine has been killed."""
        if self._died is None:
            self._died = anyio.Event()
        if not self.dead:
            await self._died.wait()

    def record(self, what: str, work: Work, at: float) -> None:
        """A task did something, if there still was a process to do it."""
        if self.dead:
            return
        self.ledger.append(Did(what, work.task.name, work.attempt, at, self.life))
        change = 1 if what == "began" else -1
        items = {f"items of {base_name(work.task.name)}": 1} if "[" in work.task.name else {}
        place = {} if work.task.service is not None else {"": 1}  # a service takes none of those that run at once
        for limit, weight in {**work.task.uses, **items, **place}.items():
            self.running[limit] += int(weight) * change
            self.most[limit] = max(self.most[limit], self.running[limit])

    def durable(self, run: str) -> list[AnyEvent]:
        """The events that are on disk."""
        return [envelope.event for envelope in self.envelopes(run)]

    def envelopes(self, run: str) -> list[Envelope]:
        """The records that are on disk."""
        return scan(bytes(self.journal.kept(run).lines), run).envelopes


class DyingJournal(MemoryJournal):
    """A journal whose disk stops with the engine: the batch under way is lost, kept, or kept in part."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    async def commit(self, kept: Kept, data: bytes, seq: int, checksum: int) -> None:
        """Take some time; after death, nothing more is acknowledged."""
        world = self._world
        if world.dead:
            raise StorageFailing("the engine is dead")
        await anyio.sleep(world.random.choice((0, 0, 0.0002, 0.003)))
        if not world.dead:
            await super().commit(kept, data, seq, checksum)
            return
        lines = data.splitlines(keepends=True)
        survived = lines[: world.random.randint(0, len(lines))]
        if survived and not kept.cut:
            kept.lines += b"".join(survived)
            kept.seq = seq - len(lines) + len(survived)
            kept.checksum = int(survived[-1][-11:-3], 16)
        kept.cut = True
        raise StorageFailing("the engine died while it wrote")


class Witness:
    """A follower that remembers what it was told, as a person who reads the output does."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def record(self, envelopes: Sequence[Envelope]) -> None:
        """Remember them; a dead process has told nobody anything."""
        if not self._world.dead:
            self._world.told += envelopes

    def signal(self, signal: Signal) -> None:
        """What is said in passing promises nothing."""


class Script(msgspec.Struct, frozen=True):
    """What one attempt of a task does: takes so long, then succeeds or fails."""

    seconds: float
    succeeds: bool


class ScriptedExecutor:
    """Carries attempts out as their scripts say, and writes the ledger."""

    def __init__(self, world: World, scripts: dict[tuple[str, int], Script]) -> None:
        self._world = world
        self._scripts = scripts

    async def __aenter__(self) -> ScriptedExecutor:
        return self

    async def __aexit__(self, *_: Any) -> None:
        """Nothing is left."""

    async def run(self, work: Work, channel: Channel) -> object:  # noqa: ARG002  # it has nothing to say
        """Begin, take the time, finish."""
        world = self._world
        world.record("began", work, anyio.current_time())
        script = self._scripts[work.task.name, work.attempt % 8]
        ended = False
        try:
            await anyio.sleep(script.seconds)
            ended = True
        finally:
            world.record("finished" if ended and script.succeeds else "stopped", work, anyio.current_time())
        if not script.succeeds:
            raise RuntimeError("as the script says")
        return work.attempt


class ScriptedServices(ScriptedExecutor):
    """Services that come up after a while, and go on until they are stopped, or end by themselves.

    What one did before it was stopped is finished work: it was begun for nothing else.
    """

    async def run(self, work: Work, channel: Channel) -> object:
        """Begin, get ready or not, serve."""
        world = self._world
        world.record("began", work, anyio.current_time())
        script, serves = self._scripts[work.task.name, work.attempt % 8], False
        try:
            await anyio.sleep(script.seconds)
            serves = script.succeeds or world.random.random() < 0.5
            if serves:
                await channel.serves("", 1)
                await anyio.sleep(3600 if script.succeeds else script.seconds)
        finally:
            world.record("finished" if serves else "stopped", work, anyio.current_time())
        raise RuntimeError("as the script says")
