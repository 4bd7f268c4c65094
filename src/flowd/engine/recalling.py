"""What is recorded of a run's tasks from before: each one's newest checkpoint, and an item's wherever it stood."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from flowd.core.fanout import base_name
from flowd.core.freshness import Known
from flowd.core.items import fan_of
from flowd.core.run import RunState
from flowd.engine.fingerprint import digest_of
from flowd.engine.prepare import Resolver
from flowd.ports.stores import Checkpoint


class Recall:
    """The checkpoints of one run's pipeline, as its tasks are called now."""

    def __init__(self, run: RunState, checkpoints: Mapping[str, Checkpoint], resolver: Resolver) -> None:
        self._run = run
        self._checkpoints = checkpoints
        self._resolver = resolver

    def of(self, number: int) -> Checkpoint | None:
        """The newest checkpoint of a task; of an item that is called by its place, wherever it stood in the list."""
        spec = self._run.shape.specs[number]
        found, fan = self._checkpoints.get(spec.name), fan_of(self._run, number)
        if fan is None or fan.keys or "item" not in (own := self._resolver.own_scope(spec)):
            return found
        item = digest_of(own["item"])
        if found is not None and found.parts.get("item") == item:
            return found
        moved = self._by_item.get((fan.template.name, item))
        if moved is None or {path for _, path in self._resolver.outputs(spec)} != {one.path for one in moved.outputs}:
            return found
        return moved

    @cached_property
    def _by_item(self) -> dict[tuple[str, str], Checkpoint]:
        """The newest checkpoint by what the item was, of all items."""
        items: dict[tuple[str, str], Checkpoint] = {}
        for name, one in self._checkpoints.items():
            if "[" in name and "item" in one.parts:
                key = base_name(name), one.parts["item"]
                if key not in items or items[key].at < one.at:
                    items[key] = one
        return items


def as_known(checkpoint: Checkpoint | None) -> Known | None:
    """What is recorded of a task's newest success, as far as it is judged."""
    if checkpoint is None:
        return None
    return Known(
        run=checkpoint.run,
        at=checkpoint.at,
        parts=checkpoint.parts,
        touched=checkpoint.touched,
        refused=checkpoint.refused,
    )
