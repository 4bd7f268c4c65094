"""What of a run is fresh: evidence gathered from the files, for `core.freshness` to judge.

One pass over the whole graph before anything starts finds all that is fresh with one look at
each file; a task behind one that has to run is judged again when its turn comes, since what
it needs may turn out the same (early cut-off). `plan` is the same pass, told instead of done.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from flowd.authoring.binding import Binding
from flowd.core import gates
from flowd.core import states as s
from flowd.core.decide import decide
from flowd.core.durations import format_duration
from flowd.core.events import AnyEvent, Artifact, Reason, Stored
from flowd.core.expressions import ExpressionError, compile_expression
from flowd.core.fanout import base_name, is_fanned
from flowd.core.freshness import Evidence, Verdict, judge, product
from flowd.core.items import owner
from flowd.core.lineage import origin_of
from flowd.core.patterns import Glob, is_pattern
from flowd.core.reasons import because
from flowd.core.run import RunState
from flowd.core.spec import Nested, TaskSpec, Wait
from flowd.core.stimuli import FoundFresh
from flowd.engine.conditions import Conditions
from flowd.engine.files import ABSENT, Declared, Files
from flowd.engine.fingerprint import Codes, Named, digest_of, input_part, plain_parts
from flowd.engine.looks import Looks
from flowd.engine.prepare import NO_BINDING, Prepared, Resolver
from flowd.engine.program import Program
from flowd.engine.recalling import Recall, as_known
from flowd.engine.references import referenced_results, referenced_tasks
from flowd.engine.services import Adapters
from flowd.ports.stores import Checkpoint

_NO_BINDINGS: Mapping[str, Binding] = {}
FRESH, RUN, SKIP, IF_NEEDED, WAIT = "fresh", "run", "skip", "if_needed", "wait"

_OPEN = frozenset({"rule_open", "when_open", "upstream_open"})


class Standing(msgspec.Struct, frozen=True):
    """What the pass over the graph says of one task: fresh, run, skip or if_needed, why, and what is warned of."""

    action: str
    reason: Reason
    warnings: tuple[str, ...] = ()


def _foreseen(wait: Wait) -> Reason:
    """What a task will wait for."""
    if wait.duration is not None:
        return because("until.duration", duration=format_duration(wait.duration))
    return because("until.moment", at=wait.until, timezone=wait.timezone)


def files_of(adapters: Adapters, program: Program) -> Files:
    """The files of a program's folder, with what is kept of how they were."""
    key = adapters.key(program.spec.name, program.folder)
    looks = Looks(adapters.shelf, f"{key}.looks") if adapters.keeps_times(adapters.state_dir) else None
    return Files(program.folder, looks, adapters.keeps_times)


class Survey:
    """The knowledge that freshness needs, for one run. Its methods block: call them in a thread.

    `function_file` gives the module file of a task's function, where it has one, `bindings` say what it
    takes; `hide` takes secrets out of what is told.
    """

    def __init__(
        self,
        run: RunState,
        files: Files,
        checkpoints: Mapping[str, Checkpoint],
        *,
        function_file: Callable[[str], Path | None] = lambda _name: None,
        bindings: Mapping[str, Binding] = _NO_BINDINGS,
        hide: Callable[[str], str] = str,
    ) -> None:
        self.files = files
        self.resolver = Resolver(run, files)
        self._run = run
        self._checkpoints = checkpoints
        self._recall = Recall(run, checkpoints, self.resolver)
        self._function_file = function_file
        self._bindings = bindings
        self.conditions = Conditions(run, self.resolver, self._inline_values, hide)
        self._codes = Codes(files)
        self._seen: dict[str, str] = {}  # digests, and what words name, for as long as nothing runs
        self._named: Named | None = None
        self._left: set[str] | None = None
        self._open: set[int] = set()  # what may be skipped, as far as the pass can tell

    def pass_over(self, now: datetime) -> tuple[dict[int, Standing], list[AnyEvent]]:
        """Judge every pending task once, in order, and settle at once those that are fresh.

        The run is changed by the events that are returned: nobody else may touch it meanwhile.
        """
        standings: dict[int, Standing] = {}
        events: list[AnyEvent] = []
        self._seen, self._named = self.files.glance(self._paths_to_see()), {}
        try:
            self._judge_all(standings, events, now)
        finally:
            self._seen, self._named, self._left = {}, None, None
        return standings, events

    def _judge_all(self, standings: dict[int, Standing], events: list[AnyEvent], now: datetime) -> None:
        for number in self._run.shape.order():
            task = self._run.tasks[number]
            if task.state == s.SKIPPED and task.reason is not None:
                standings[number] = Standing(SKIP, task.reason)
            if task.state != s.PENDING:
                continue
            if (verdict := self.conditions.judge_now(number)) is not None:
                events += decide(self._run, verdict, now)
                standings[number] = Standing(SKIP, verdict.reason)
                continue
            standing = standings[number] = self._stand(number, now)
            if standing.reason.code in _OPEN:
                self._open.add(number)
            if standing.action == FRESH:
                events += decide(self._run, self.found(number, standing.reason, standing.warnings), now)

    def _paths_to_see(self) -> dict[str, None]:
        """The outputs and inputs that are sure to be asked for: of tasks that may be fresh, as they are written."""
        paths: dict[str, None] = {}
        place = self.files.place
        for number, spec in enumerate(self._run.shape.specs):
            checkpoint = self._checkpoints.get(spec.name)
            if checkpoint is None or not spec.cache or self._run.tasks[number].state != s.PENDING:
                continue
            if self._run.is_forced(number):
                continue
            for artifact in checkpoint.outputs:
                paths[place(artifact.path)] = None
            for ref in spec.inputs:
                if not is_pattern(ref.path) and "{{" not in ref.path and place(ref.path) not in self._writers:
                    paths[place(ref.path)] = None
        return paths

    def _digest(self, path: str) -> str:
        seen = self._seen.get(path)
        return self.files.digest(path) if seen is None else seen

    def keep_looks(self) -> None:
        """Keep how files were for later runs."""
        run = self._run
        self.files.keep(all_seen=run.state == s.RUN_SUCCEEDED and len(run.tasks) == len(run.spec.tasks))

    def found(self, number: int, reason: Reason, warnings: tuple[str, ...] = ()) -> FoundFresh:
        """The stimulus that a task was found fresh."""
        name = self._run.shape.specs[number].name
        known = self._recall.of(number)
        assert known is not None
        return FoundFresh(
            task=name,
            source=known.run,
            result=known.result,
            outputs=known.outputs,
            metrics=known.metrics,
            parts=known.parts,
            warnings=warnings,
            reason=reason,
        )

    def judge_one(self, number: int, values: Mapping[str, Any], now: datetime) -> Verdict:
        """Judge a task whose needs have all ended, or that runs whatever they give."""
        spec = self._run.shape.specs[number]
        known = self._recall.of(number)
        forced = self._run.is_forced(number)
        if forced or not spec.cache or known is None:
            return judge(spec, as_known(known), Evidence(parts={}), now=now, forced=forced)
        missing, altered = self._outputs_now(number, known)
        try:
            prepared = self.resolver.written(spec, values)
            read = [name.removeprefix("param:") for name in known.parts if name.startswith("param:")]
            altered += self._come_since(number, prepared, known)
            evidence = Evidence(parts=self.parts(number, prepared, read), missing=missing, altered=altered)
        except (ExpressionError, OSError) as error:
            evidence = Evidence(parts={}, missing=missing, altered=altered, unknown=str(error))
            verdict = judge(spec, as_known(known), evidence, now=now, by_clock=origin_of(self._run.trigger) != "hand")
            untold = verdict.fresh and spec.gate  # a person has touched it, and its gates cannot be judged
            return Verdict(fresh=False, reason=because("unknown", error=str(error))) if untold else verdict
        verdict = judge(spec, as_known(known), evidence, now=now, by_clock=origin_of(self._run.trigger) != "hand")
        return self._gated(spec, prepared, values, known) if verdict.fresh and spec.gate else verdict

    def _gated(self, spec: TaskSpec, prepared: Prepared, values: Mapping[str, Any], known: Checkpoint) -> Verdict:
        """What is fresh, once its gates are judged anew: by what is recorded of it, with today's parameters."""
        scope = self.resolver.gate_scope(spec, prepared, values, known.metrics, values.get(spec.name))
        if broken := gates.failed(spec.gate, "error", scope):
            return Verdict(fresh=False, reason=because("gate_failed.recorded", gates="; ".join(broken)))
        warned = tuple(f"gate_warning: {said}" for said in gates.failed(spec.gate, "warn", scope))
        return Verdict(fresh=True, reason=because("fresh", run=known.run), warnings=warned)

    def parts(self, number: int, prepared: Prepared, read_params: Collection[str]) -> dict[str, str]:
        """The fingerprint of a task whose needs have ended, as the world is now."""
        run, spec = self._run, self._run.shape.specs[number]
        needs = [run.shape.specs[need].name for need in run.shape.needs[number]]
        own = self.resolver.own_scope(spec)
        if own:  # a list that has grown is no change to an item that was in it
            needs = [need for need in needs if need not in self._only_listed(number)]
        parts = plain_parts(
            spec,
            action=prepared.action,
            with_=prepared.with_,
            env=prepared.env,
            params=run.params,
            read_params=read_params,
            products={need: product(run.task(need).result, run.task(need).outputs) for need in needs},
        )
        parts |= self._codes.parts(spec, self._function_file(spec.name), self._named)
        if own:
            parts["item"] = digest_of(own.get("item", own.get("matrix")))
            if "index" in self._binding(spec.name).item_parameters:
                parts["index"] = digest_of(own["index"])
        declared = Declared(self.files, [path for _, path in prepared.outputs])
        for pattern in prepared.inputs:
            for written in self.files.matches(pattern):
                parts[f"input:{written}"] = input_part(self._input_digest(number, written, declared))
        return parts

    def _only_listed(self, number: int) -> set[str]:
        """The needs of an item that only its task's list was made of."""
        foreach = self._run.shape.specs[owner(self._run, number)].foreach
        spec = self._run.shape.specs[number]
        if foreach is None or not isinstance(foreach.over, str):
            return set()
        taken = referenced_tasks(spec).union(self._binding(spec.name).result_parameters)
        return set(compile_expression(foreach.over).tasks) - taken

    def _binding(self, name: str) -> Binding:
        return self._bindings.get(base_name(name), NO_BINDING)

    def param_parts(self, names: Collection[str]) -> dict[str, str]:
        """The fingerprint of the parameters that an attempt has read by itself."""
        return {f"param:{name}": digest_of(self._run.params.get(name)) for name in names}

    def as_left(
        self, number: int, prepared: Prepared, parts: Mapping[str, str], artifacts: Collection[Artifact]
    ) -> dict[str, str]:
        """`parts` of a task that has just written `artifacts`: what it reads and writes counts as it left it.

        Blocks.
        """
        settled, place = dict(parts), self.files.place
        left = {place(artifact.path): artifact for artifact in artifacts}
        found = {written: place(written) for named in prepared.inputs for written in self.files.matches(named)}
        for written, path in found.items():
            if path in left and self._writer_above(number, path) is None:
                settled[f"input:{written}"] = input_part(left[path].digest)
        own = Declared(self.files, [path for _, path in prepared.outputs])
        read = [name.removeprefix("input:") for name in parts if name.startswith("input:")]
        for removed in [written for written in read if written not in found and place(written) in own]:
            del settled[f"input:{removed}"]
        return settled

    def _stand(self, number: int, now: datetime) -> Standing:
        run, spec = self._run, self._run.shape.specs[number]
        waiting = [need for need in run.shape.needs[number] if run.tasks[need].state not in s.ENDED]
        rule = run.shape.rules.get(number)
        if spec.final:
            return Standing(RUN, because("finally"))
        if isinstance(spec.action, Wait) and spec.when is None and rule is None:
            return Standing(WAIT, _foreseen(spec.action))
        if run.missing[number] and rule is not None and rule != "all_done":
            names = ", ".join(run.shape.specs[need].name for need in waiting)
            return Standing(IF_NEEDED, because("rule_open", needs=names, rule=rule))
        if waiting and spec.when is not None and run.tasks[number].tried_at is None:
            return Standing(IF_NEEDED, because("when_open", expression=spec.when))
        if isinstance(spec.action, Nested) and spec.cache and not (waiting or run.is_forced(number)):
            return Standing(IF_NEEDED, because("pipeline"))
        if is_fanned(spec) and not waiting:
            return Standing(IF_NEEDED, because("items"))
        if rule is None and (open_ := [need for need in waiting if need in self._open]):
            return Standing(IF_NEEDED, because("upstream_open", need=run.shape.specs[open_[0]].name))
        undecided = spec.cache and spec.name in self._checkpoints and not run.is_forced(number)
        if undecided and waiting:
            first = run.shape.specs[waiting[0]].name
            return Standing(IF_NEEDED, because("upstream_may_change", need=first))
        values = self._inline_values(spec) if undecided else {}
        if values is None:
            return Standing(IF_NEEDED, because("large_result"))
        verdict = self.judge_one(number, values, now)
        return Standing(FRESH if verdict.fresh else RUN, verdict.reason, verdict.warnings)

    def recorded_result(self, spec: TaskSpec) -> Stored | None:
        """The result in a task's newest checkpoint, where its gates are judged by it."""
        checkpoint = self._checkpoints.get(spec.name) if gates.reads_result(spec.gate) else None
        return None if checkpoint is None else checkpoint.result

    def _inline_values(self, spec: TaskSpec) -> dict[str, Any] | None:
        values = {}
        names = referenced_results(spec) & self._run.shape.index.keys()
        wanted = {name: self._run.task(name).result for name in names}
        for name, stored in {**wanted, spec.name: self.recorded_result(spec)}.items():
            if stored is not None:
                if not isinstance(stored.inline, msgspec.Raw):
                    return None
                values[name] = msgspec.json.decode(stored.inline)
        return values

    # --- files -----------------------------------------------------------------------------------

    @cached_property
    def _writers(self) -> dict[str, list[int]]:
        """The tasks that write each path, the last one last; known once the run has begun."""
        writers: dict[str, list[int]] = {}
        for number in self._run.shape.order():
            try:
                outputs = self.resolver.outputs(self._run.shape.specs[number])
            except ExpressionError:
                continue  # it depends on a result: known when its turn comes
            for _, path in outputs:
                writers.setdefault(self.files.place(path), []).append(number)
        return {path: numbers for path, numbers in writers.items() if numbers}

    def recorded_outputs(self, number: int) -> tuple[Artifact, ...]:
        """The outputs in a task's newest checkpoint."""
        checkpoint = self._recall.of(number)
        return checkpoint.outputs if checkpoint else ()

    def _outputs_now(self, number: int, known: Checkpoint) -> tuple[tuple[str, ...], tuple[str, ...]]:
        missing, altered = [], []
        for artifact in known.outputs:
            path = self.files.place(artifact.path)
            now = self._digest(path)
            if now == ABSENT:
                missing.append(artifact.path)
            elif now != self._last_left(number, path, artifact):
                altered.append(artifact.path)
        return tuple(missing), tuple(altered)

    def _come_since(self, number: int, prepared: Prepared, known: Checkpoint) -> tuple[str, ...]:
        """What a task's globs find now, and it did not leave, nor does another task write it."""
        patterns = [written for _, written in prepared.outputs if isinstance(written, Glob)]
        if not patterns:
            return ()
        own = {self.files.place(artifact.path) for artifact in known.outputs}
        found = {self.files.place(written): written for one in patterns for written in self.files.written_as(one)}
        more = [path for path in found if path not in own and {*self._writers.get(path, ())} <= {number}]
        if not more:
            return ()
        recorded = self._all_recorded()
        return tuple(found[path] for path in more if path not in recorded)

    def _all_recorded(self) -> set[str]:
        """Where all outputs are that any task has left; gathered once for a pass, which records no others."""
        if self._left is not None:
            return self._left
        every = [one.outputs for one in self._checkpoints.values()] + [task.outputs for task in self._run.tasks]
        places = {self.files.place(artifact.path) for left in every for artifact in left}
        if self._named is not None:
            self._left = places
        return places

    def _recorded(self, number: int, path: str) -> Artifact | None:
        """What a task recorded of `path`: in this run where it has ended, else before."""
        task = self._run.tasks[number]
        recorded = task.outputs if task.state in s.OK else self.recorded_outputs(number)
        return next((artifact for artifact in recorded if self.files.place(artifact.path) == path), None)

    def _last_left(self, number: int, path: str, own: Artifact) -> str:
        """The digest that the last writer of `path` recorded: what the file ought to have."""
        last = self._writers.get(path, [number])[-1]
        recorded = None if last == number else self._recorded(last, path)
        return own.digest if recorded is None else recorded.digest

    def _writer_above(self, number: int, path: str) -> int | None:
        """The nearest task before this one that writes `path`."""
        writers = [writer for writer in self._writers.get(path, ()) if writer != number]
        if not writers:
            return None
        above = self._run.shape.reach([number], down=False)
        return next((writer for writer in reversed(writers) if writer in above), None)

    def _input_digest(self, number: int, written: str, own: Declared) -> str:
        """What the task reads at this path: the nearest writer's record, else the file itself.

        A file that the task itself rewrites counts as the task left it, unless another hand
        has changed it since.
        """
        path = self.files.place(written)
        writer = self._writer_above(number, path)
        if writer is not None:
            recorded = self._recorded(writer, path)
            return ABSENT if recorded is None else recorded.digest
        now = self._digest(path)
        left = self._recorded(number, path) if path in own else None
        return left.digest if left is not None and now == self._last_left(number, path, left) else now
