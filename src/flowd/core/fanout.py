"""Tasks that are carried out once for each item of a list, or for each cell of a matrix.

House rules of this room. An item is a task of its run like any other, called `task[key]`, whose number
lies behind those of all declared tasks. It is never declared: the event that says what a list holds
brings it. Keys are what a person calls an item by; where none is given, they are its place in the list.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from flowd.core.expressions import compile_expression
from flowd.core.rules import ALL_SUCCEEDED
from flowd.core.spec import Foreach, TaskSpec

MOST_KEY = 100
MOST_CELLS = 10_000
_SHORT = 60


class Fan:
    """The items of one expanded task: how many have ended and how, and which are still to be handed out.

    `base` is the number of the first item; `open` counts those that have not ended, `live` those of them
    that have begun; `good` ended well, `failed` broke.
    """

    __slots__ = (
        "_cursor", "_place", "base", "count", "fail_fast", "failed", "good", "keys", "live", "open", "parent",
        "template",
    )  # fmt: skip

    def __init__(self, parent: int, base: int, count: int, keys: tuple[str, ...], spec: TaskSpec) -> None:
        self.parent, self.base, self.count, self.keys = parent, base, count, keys
        self.template = spec
        self.fail_fast = spec.foreach is not None and spec.foreach.fail_fast
        self.open, self.live, self.good, self.failed = count, 0, 0, 0
        self._place: dict[str, int] | None = None
        self._cursor = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fan) and self._facts() == other._facts()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def _facts(self) -> tuple[Any, ...]:
        """What must be the same however the run came about: who is handed out is the driver's affair."""
        return self.parent, self.base, self.count, self.keys, self.open, self.live, self.good, self.failed

    @property
    def halted(self) -> bool:
        """Whether no further item begins: one has failed, and the task says `fail_fast`."""
        return self.fail_fast and self.failed > 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to wait for."""
        return not self.open or (self.halted and not self.live)

    def key(self, place: int) -> str:
        """What the item at this place is called by."""
        return self.keys[place] if self.keys else str(place)

    def place(self, key: str) -> int | None:
        """Where the item of this key stands; None where there is none."""
        if not self.keys:
            found = int(key) if key.isascii() and key.isdecimal() else -1
            return found if 0 <= found < self.count and str(found) == key else None
        if self._place is None:
            self._place = {known: place for place, known in enumerate(self.keys)}
        return self._place.get(key)

    def numbers(self) -> range:
        """The numbers of the items, in their order."""
        return range(self.base, self.base + self.count)

    def take(self, is_open: Callable[[int], bool]) -> int | None:
        """The number of the next item that waits to be begun."""
        while self._cursor < self.count:
            self._cursor += 1
            if is_open(self.base + self._cursor - 1):
                return self.base + self._cursor - 1
        return None

    def look_again(self) -> None:
        """Hand out anew whatever waits, after a replay or a reset."""
        self._cursor = 0


def is_fanned(spec: TaskSpec) -> bool:
    """Whether a task is carried out once for each item."""
    return spec.foreach is not None or bool(spec.matrix)


def item_name(task: str, key: str) -> str:
    """What an item is called."""
    return f"{task}[{key}]"


def base_name(name: str) -> str:
    """The declared task that a task belongs to: itself, or the one whose item it is."""
    return name.partition("[")[0]


_OWN: Final = frozenset({"item", "index", "matrix"})


def judged_by_item(expression: str) -> bool:
    """Whether a condition speaks of an item, and so is judged for each."""
    return any(access[0] in _OWN for access in compile_expression(expression).references)


def item_spec(spec: TaskSpec, key: str) -> TaskSpec:
    """The specification of one item of a task: as the task's, under its own name.

    What decides over the task as a whole is left out: its rule, a `when` that does not speak of items,
    a person's yes, and a failure that is allowed whatever it is.
    """
    return msgspec.structs.replace(
        spec,
        name=item_name(spec.name, key),
        foreach=None,
        matrix=(),
        axes=(),
        trigger_rule=ALL_SUCCEEDED,
        when=spec.when if spec.when is not None and judged_by_item(spec.when) else None,
        approve=None,
        allow_failure=False if spec.allow_failure is True else spec.allow_failure,
    )


def enough(foreach: Foreach | None, good: int, count: int) -> bool:
    """Whether so many of `count` items are enough for those that need the task."""
    return good >= (1.0 if foreach is None else foreach.min_success) * count - 1e-9


# --- keys --------------------------------------------------------------------------------------------


def key_problem(key: Any) -> str:
    """What is wrong with a key; empty where nothing is."""
    if isinstance(key, bool) or not isinstance(key, str | int | float):
        return f"is a {type(key).__name__}, and a key is a text or a number"
    text = str(key)
    if not text or text != text.strip():
        return "is empty" if not text.strip() else "begins or ends with a space"
    if len(text) > MOST_KEY:
        return f"has {len(text)} characters; at most {MOST_KEY} fit"
    if not text.isprintable() or not {"[", "]"}.isdisjoint(text):
        return "holds `[`, `]` or what cannot be printed"
    return ""


def default_keys(items: Sequence[Any]) -> tuple[str, ...]:
    """The items themselves where all are short texts that can be keys and differ; none (their places) otherwise."""
    if not all(isinstance(item, str) and len(item) <= _SHORT and not key_problem(item) for item in items):
        return ()
    return tuple(items) if len(set(items)) == len(items) else ()


def first_twice(keys: Sequence[str]) -> tuple[int, int] | None:
    """The places of the first two keys that are the same."""
    seen: dict[str, int] = {}
    for place, key in enumerate(keys):
        if (before := seen.setdefault(key, place)) != place:
            return before, place
    return None


# --- a matrix ----------------------------------------------------------------------------------------


def cells(
    axes: Mapping[str, Sequence[Any]], include: Sequence[Mapping[str, Any]], exclude: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], ...]:
    """The combinations of a matrix, as GitHub Actions reads one.

    The first axis changes slowest. What an `exclude` says in full or in part is left out. An `include`
    is added to every combination whose axes it does not contradict; where there is none, it is one of its own.
    """
    product = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())] if axes else []
    kept = [cell for cell in product if not any(_fits(cell, one) for one in exclude)]
    more: list[dict[str, Any]] = []
    extended = [dict(cell) for cell in kept]
    for one in include:
        fitting = [new for cell, new in zip(kept, extended, strict=True) if _fits(cell, one, cell.keys())]
        for cell in fitting:
            cell.update(one)
        if not fitting:
            more.append(dict(one))
    return (*extended, *more)


def _fits(cell: Mapping[str, Any], one: Mapping[str, Any], names: Collection[str] | None = None) -> bool:
    wanted = [name for name in one if names is None or name in names]
    return all(name in cell and _same(cell[name], one[name]) for name in wanted)


def _same(left: Any, right: Any) -> bool:
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)


def cell_keys(found: Sequence[Mapping[str, Any]], axes: Collection[str]) -> tuple[str, ...]:
    """What cells are called by: their values on the axes, with commas between; none where that is no name for each."""
    keys = [
        ",".join(_text(value) for name, value in cell.items() if name in axes or not _on(cell, axes)) for cell in found
    ]
    return () if any(key_problem(key) for key in keys) or first_twice(keys) else tuple(keys)


def _on(cell: Mapping[str, Any], axes: Collection[str]) -> bool:
    return bool(axes) and all(name in cell for name in axes)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else "null" if value is None else str(value)
