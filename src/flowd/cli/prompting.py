"""Questions of a run on a terminal: asked where nothing else can go on, and given up where another has answered.

House rules of this room. The terminal is read by the loop, a line at a time: no thread waits for a
person, so an answer of another process, the end of the time for one, and a signal are seen at once.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Awaitable, Callable
from typing import TextIO

import anyio

from flowd.authoring.params import resolve_params
from flowd.cli.again import person
from flowd.cli.summary import question_lines
from flowd.cli.watch import Watch
from flowd.core import states as s
from flowd.core.errors import BadParameters, BadRequest
from flowd.core.printable import printable
from flowd.core.spec import Param
from flowd.core.views import WAITING, run_status
from flowd.engine.handle import Run
from flowd.wiring.build import Engine

_YES, _NO = frozenset({"a", "approve", "y", "yes"}), frozenset({"r", "reject", "n", "no"})


class Closed(Exception):
    """The person has ended the input: nothing more is asked."""


class Prompter:
    """Asks what a run of `engine` waits for, as `watch` sees it, and passes the answers on.

    `pause(True)` keeps the terminal free for as long as something is asked.
    """

    def __init__(
        self, engine: Engine, run: Run, watch: Watch, terminal: tuple[TextIO, TextIO], pause: Callable[[bool], None]
    ) -> None:
        self._engine = engine
        self._run = run
        self._watch = watch
        self._stdin, self._out = terminal
        self._pause = pause
        self._decoder = codecs.getincrementaldecoder(self._stdin.encoding or "utf-8")("replace")
        self._typed = ""

    async def ask_all(self) -> None:
        """Ask whatever is open, again and again, until the run goes on no more or the input ends."""
        left_open: set[str] = set()
        while True:
            await self._watch.until(self._waits)
            if not (asked := self._open(left_open)):
                self._run.interrupt()  # what it waits for is asked elsewhere: of a run that is a task of this one
                return
            task = asked[0]
            self._pause(True)
            try:
                if not await self._ask(task):
                    left_open.add(task)
                if self._waits() and not self._open(left_open):
                    self._run.interrupt()  # what is left open stays so, without us
            except Closed:
                self._say("")
                self._run.interrupt()
                return
            finally:
                self._pause(False)

    def _waits(self) -> bool:
        return run_status(self._watch.state, owned=True) == WAITING

    def _open(self, left_open: set[str]) -> list[str]:
        """The tasks that wait for an answer, once nothing else can go on."""
        run = self._watch.state
        if not self._waits():
            return []
        names = [spec.name for spec, task in run.own() if task.state == s.WAITING and task.child is None]
        return [name for name in names if name not in left_open]

    async def _ask(self, task: str) -> bool:
        """Ask until there is an answer; False where it is left open."""
        while self._still_asked(task):
            run = self._watch.state
            self._say("")
            for text in question_lines(run, task):
                self._say(f"? {task} {text}")
            said = await self._line(task, "approve, reject, or leave it open? [a/r/Enter] ")
            if said is None or not said:
                return said is None
            if said.lower() not in _YES | _NO:
                self._say(f"  {said} is no answer")
                continue
            comment = await self._line(task, "comment (Enter for none): ")
            if comment is None:
                return True
            if said.lower() in _NO:
                return await self._passed_on(task, self._engine.reject(run.id, task, comment=comment, by=person()))
            values = await self._fields(task)
            if values is None:
                return True
            answer = self._engine.approve(run.id, task, comment=comment, values=values, by=person())
            if await self._passed_on(task, answer):
                return True
        return True

    async def _passed_on(self, task: str, answer: Awaitable[Run]) -> bool:
        """Whether the answer counts; else what is against it is said."""
        try:
            await answer
        except (BadRequest, BadParameters) as refused:
            self._say(f"  {refused}")
            return False
        await self._watch.until(lambda: not self._still_asked(task))  # it is told a little after it is durable
        return True

    async def _fields(self, task: str) -> dict[str, object] | None:
        run = self._watch.state
        asked = run.shape.specs[run.shape.index[task]].approve
        values: dict[str, object] = {}
        for name, param in (asked.form if asked is not None else {}).items():
            while name not in values:
                said = await self._line(task, _label(name, param))
                if said is None:
                    return None
                try:
                    given = {name: said} if said else {}
                    values |= resolve_params({name: param}, given, text=True, what="field", option="--set")
                except BadParameters as wrong:
                    self._say(f"  {wrong}")
        return values

    def _still_asked(self, task: str) -> bool:
        return self._watch.state.task(task).state == s.WAITING

    async def _line(self, task: str, label: str) -> str | None:
        """What the person types; None where the task waits for it no more. Closed at the end of the input."""
        self._out.write(label)
        self._out.flush()
        line: list[str] = []
        async with anyio.create_task_group() as group:

            async def answered_elsewhere() -> None:
                await self._watch.until(lambda: not self._still_asked(task))
                group.cancel_scope.cancel()

            group.start_soon(answered_elsewhere, name="flowd prompt")
            line.append(await self._read())
            group.cancel_scope.cancel()
        if not line:
            known = self._watch.state.task(task)
            self._say(f"\n  {task}: {known.reason.sentence if known.reason else known.state}")
            return None
        if line[0] == "":
            raise Closed
        return line[0].strip()

    async def _read(self) -> str:
        """A line with its end, or nothing at the end of the input."""
        while "\n" not in self._typed:
            await anyio.wait_readable(self._stdin)
            data = os.read(self._stdin.fileno(), 4096)
            self._typed += self._decoder.decode(data, final=not data)
            if not data:
                rest, self._typed = self._typed, ""
                return rest
        line, self._typed = self._typed.split("\n", 1)
        return f"{line}\n"

    def _say(self, text: str) -> None:
        self._out.write("\n".join(printable(line) for line in text.split("\n")) + "\n")
        self._out.flush()


def _label(name: str, param: Param) -> str:
    default = "" if param.required else f", Enter for {param.default}"
    choices = f" of {', '.join(map(str, param.choices))}" if param.choices else ""
    return f"{name} ({param.type}{choices}{default}): "
