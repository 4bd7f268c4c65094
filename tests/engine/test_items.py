"""Tasks that are carried out for each item of a list, or each cell of a matrix."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from flowd import BadPipeline, Engine, Pipeline, Retry
from flowd.testing import FakeClock, MemoryEngine

pytestmark = pytest.mark.anyio


def names(result, task: str) -> dict[str, str]:
    """How the items of a task ended, by key."""
    return {key: item["state"] for key, item in result.document["tasks"][task]["items"].items()}


async def run(pipeline: Pipeline, **options):
    """Run it in an engine of its own."""
    async with MemoryEngine(**options) as engine:
        return await engine.run(pipeline)


async def test_a_list_known_at_run_time():
    """The results stand in the order of the items, whichever ended first; what needs the task receives them."""
    made = Pipeline("p")

    @made.task
    async def several():
        return ["slow", "quick"]

    @made.task(foreach=several)
    async def work(item, index):
        await anyio.sleep(0.02 if item == "slow" else 0)
        return [index, item]

    @made.task
    def total(work):
        return len(work)

    result = await run(made)
    assert result.ok
    assert result.tasks["work"].result == [[0, "slow"], [1, "quick"]]
    assert result.tasks["total"].result == 2
    assert names(result, "work") == {"slow": "succeeded", "quick": "succeeded"}
    assert result.counts == {"succeeded": 3}
    assert result.document["tasks"]["work"]["items"]["quick"]["attempts"] == 1


async def test_an_empty_list_succeeds_with_nothing():
    """And what needs the task runs."""
    made = Pipeline("p", params={"of": {"type": "list", "default": []}})

    @made.task(foreach="params.of")
    async def work(item):
        return item

    @made.task
    async def after(work):
        return work

    result = await run(made)
    assert result.ok
    assert result.tasks["work"].result == []
    assert result.tasks["after"].result == []


@pytest.mark.parametrize(
    ("over", "key", "said"),
    [
        ("params.of.none", "", "`none`"),
        ("3", "", "a list"),
        ("'abc'", "", "a list"),
        ("[{'id': 1}, {'id': 2}, {'id': 1}]", "item.id", "items 0 and 2 have the same key `1`"),
        ("['a', 'b']", "'[' + item", "holds `[`"),
        ("[1, 2]", "item.name", "name"),
        ("['']", "item", "is empty"),
    ],
)
async def test_a_bad_list_or_key_fails_the_task_with_a_clear_error(over, key, said):
    """Before an item begins."""
    made = Pipeline("p", params={"of": {"type": "json", "default": {}}})
    ran = []

    @made.task(foreach={"over": over, **({"key": key} if key else {})})
    async def work(item):
        ran.append(item)

    result = await run(made)
    assert result.state == "failed"
    assert said in result.tasks["work"].error.message
    assert ran == []


async def test_each_item_is_tried_again_by_itself():
    """Retries and their waits are the item's own."""
    made = Pipeline("p")
    tries: list[str] = []

    @made.task(foreach=["a", "b"], retry=Retry(attempts=3, delay="10ms"))
    async def work(item):
        tries.append(item)
        if item == "b" and tries.count("b") < 3:
            raise ConnectionError("not yet")
        return item

    result = await run(made)
    assert result.ok
    assert sorted(tries) == ["a", "b", "b", "b"]
    assert result.document["tasks"]["work"]["items"]["b"]["attempts"] == 3


def some_fail(bad: set[int], of: int = 4, **foreach) -> tuple[Pipeline, list[int]]:
    """A task over numbers, of which the bad ones fail, and one that needs it; what ran."""
    made, ran = Pipeline("p"), []

    @made.task(foreach={"over": list(range(of)), **foreach})
    async def work(item):
        ran.append(item)
        if item in bad:
            raise ValueError(f"{item} is bad")
        return item * 10

    @made.task
    async def after(work):
        return work

    return made, ran


async def test_a_failed_item_fails_its_task_and_stops_no_other():
    """The error names the items; the results are lost to what needs the task."""
    made, ran = some_fail({1})
    result = await run(made)
    assert sorted(ran) == [0, 1, 2, 3]
    assert result.state == "failed"
    assert result.tasks["work"].error.type == "ItemsFailed"
    assert result.tasks["work"].error.message == "1 of 4 items failed: 1"
    assert result.tasks["after"].state == "upstream_failed"


async def test_enough_items_make_a_task_partial(tmp_path):
    """It counts as met, has null where an item failed, and lists those in failed.jsonl; the run is partial."""
    made, _ = some_fail({1}, min_success=0.75)
    async with Engine(tmp_path / ".flowd") as engine:
        result = await engine.run(made)
        assert (result.state, result.ok) == ("partial", False)
        assert result.document["exit_code"] == 1
        assert result.tasks["work"].state == "partial"
        assert result.tasks["after"].result == [0, None, 20, 30]
        (listed,) = result.tasks["work"].outputs
        assert listed.name == "failed.jsonl"
        (line,) = [json.loads(line) for line in listed.read_text().splitlines()]
        error = {"type": "ValueError", "message": "1 is bad"}
        assert line == {"key": "1", "index": 1, "item": 1, "error": error}
    made, _ = some_fail({1}, min_success=0.76)
    assert (await run(made)).tasks["work"].state == "failed"


async def test_only_the_failed_items_run_again():
    """By --failed-items, by a retry of the run, or of the task; an item by its name; then the task is whole."""
    for asked, options in (((), {"failed_items": True}), ((), {}), (("work",), {}), (("work[1]",), {})):
        bad = {1}
        made, ran = some_fail(bad)
        async with MemoryEngine() as engine:
            first = await engine.start(made)
            assert (await first.wait()).state == "failed"
            ran.clear()
            bad.clear()
            again = await (await engine.retry(first.id, *asked, pipeline=made, **options)).wait()
        assert ran == [1]
        assert again.tasks["work"].result == [0, 10, 20, 30]
        assert again.tasks["after"].state == "succeeded"
        assert again.document["tasks"]["work"]["items"]["1"]["attempts"] == 2


async def test_a_task_that_has_succeeded_is_asked_for_again_as_a_whole():
    """Its list is made anew, too."""
    made, ran = some_fail(set())
    async with MemoryEngine() as engine:
        first = await engine.start(made)
        await first.wait()
        ran.clear()
        again = await (await engine.retry(first.id, "work", pipeline=made)).wait()
    assert again.ok
    assert sorted(ran) == [0, 1, 2, 3]


async def test_fail_fast_begins_nothing_more_and_stops_what_runs():
    """What had not begun is cancelled with its task; what runs is stopped."""
    made = Pipeline("p")
    began, ended = [], []

    @made.task(foreach={"over": list(range(50)), "max_concurrency": 2, "fail_fast": True})
    async def work(item):
        began.append(item)
        if item == 1:
            raise ValueError("no")
        await anyio.sleep(60)
        ended.append(item)

    with anyio.fail_after(5):
        result = await run(made)
    assert result.tasks["work"].state == "failed"
    assert (began, ended) == ([0, 1], [])
    states = list(names(result, "work").values())
    assert states == ["cancelled", "failed", *["cancelled"] * 48]


async def test_no_more_items_run_at_once_than_their_task_allows():
    """`max_concurrency` of the task bounds its items and no other task's."""
    made = Pipeline("p")
    now, most = 0, 0

    @made.task(foreach={"over": list(range(30)), "max_concurrency": 3})
    async def work(item):
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        await anyio.sleep(0.002)
        now -= 1

    assert (await run(made)).ok
    assert most == 3


async def test_a_cancelled_run_cancels_what_had_not_begun():
    """Every task of it ends, and a retry goes on with the items that are left."""
    made = Pipeline("p")
    begun, ran = anyio.Event(), []

    @made.task(foreach={"over": list(range(10)), "max_concurrency": 1})
    async def work(item):
        ran.append(item)
        if item == 3 and ran.count(3) == 1:
            begun.set()
            await anyio.sleep(60)
        return item

    async with MemoryEngine() as engine:
        first = await engine.start(made)
        await begun.wait()
        await engine.cancel(first.id)
        result = await first.wait()
        assert (result.state, result.tasks["work"].state) == ("cancelled", "cancelled")
        assert list(names(result, "work").values()) == ["succeeded"] * 3 + ["cancelled"] * 7
        again = await (await engine.retry(first.id, pipeline=made)).wait()
    assert again.tasks["work"].result == list(range(10))
    assert ran == [0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9]


async def test_a_detached_run_goes_on_with_what_is_left(tmp_path):
    """In another engine; what had succeeded does not run again."""
    ran: list[int] = []

    def pipeline() -> Pipeline:
        made = Pipeline("p", folder=tmp_path)

        @made.task(foreach={"over": list(range(8)), "max_concurrency": 2})
        async def work(item):
            ran.append(item)
            if item == 5 and ran.count(5) == 1:
                await anyio.sleep(60)
            return item

        return made

    async with Engine(tmp_path / ".flowd", on_exit="detach") as engine:
        first = await engine.start(pipeline())
        with anyio.fail_after(5):
            while 7 not in ran:
                await anyio.sleep(0.01)
    async with Engine(tmp_path / ".flowd") as engine:
        result = await (await engine.resume(first.id, pipeline())).wait()
    assert result.tasks["work"].result == list(range(8))
    assert ran.count(5) == 2
    assert sorted(set(ran)) == list(range(8))
    assert all(ran.count(item) == 1 for item in range(5))


async def test_what_is_not_idempotent_is_uncertain_item_by_item(tmp_path):
    """A person resolves it by its name, and the others stand."""
    ran: list[int] = []

    def pipeline() -> Pipeline:
        made = Pipeline("p", folder=tmp_path)

        @made.task(foreach=[0, 1, 2], idempotent=False)
        async def work(item):
            ran.append(item)
            if item == 1:
                await anyio.sleep(60)
            return item

        return made

    async with Engine(tmp_path / ".flowd", on_exit="detach") as engine:
        first = await engine.start(pipeline())
        with anyio.fail_after(5):
            while len(ran) < 3:
                await anyio.sleep(0.01)
        await anyio.sleep(0.05)
    async with Engine(tmp_path / ".flowd") as engine:
        waiting = await (await engine.resume(first.id, pipeline())).wait()
        assert (waiting.state, waiting.document["exit_code"]) == ("waiting", 3)
        assert names(waiting, "work") == {"0": "succeeded", "1": "uncertain", "2": "succeeded"}
        resolved = await engine.resolve(first.id, "work[1]", "succeeded", result=7, pipeline=pipeline())
        assert (await resolved.wait()).tasks["work"].result == [0, 7, 2]
    assert sorted(ran) == [0, 1, 2]


class Reports:
    """A pipeline that writes a file for each item of a list; what ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[str] = []
        self.items: list[object] = []

    async def run(self, key: str = "", **options):
        """Run it in an engine of its own."""
        made = Pipeline("reports", folder=self.folder)

        @made.task
        async def several():
            return self.items

        @made.task(foreach={"over": several, **({"key": key} if key else {})}, outputs=["{{ item.id }}.txt"])
        async def report(ctx, item):
            self.ran.append(item["id"])
            ctx.outputs[0].write_text(str(item))

        self.ran.clear()
        async with Engine(self.folder / ".flowd") as engine:
            return await engine.run(made, **options)


@pytest.mark.parametrize("key", ["item.id", ""])
async def test_an_item_whose_input_is_unchanged_is_fresh(tmp_path, key):
    """Though the list has grown, or stands in another order, and with keys or by place."""
    reports = Reports(tmp_path)
    reports.items = [{"id": name, "n": 1} for name in "abc"]
    await reports.run(key)
    assert sorted(reports.ran) == ["a", "b", "c"]
    result = await reports.run(key)
    assert (reports.ran, result.tasks["report"].state) == ([], "fresh")
    reports.items = [{"id": "d", "n": 1}, *reversed(reports.items)]
    assert (await reports.run(key)).ok
    assert reports.ran == ["d"]
    reports.items[1]["n"] = 2
    await reports.run(key)
    assert reports.ran == ["c"]
    (tmp_path / "a.txt").write_text("edited")
    await reports.run(key)
    assert reports.ran == ["a"]
    await reports.run(key, force_tasks=["report"])
    assert sorted(reports.ran) == ["a", "b", "c", "d"]


async def test_items_that_write_one_path_are_refused(tmp_path):
    """Before one of them begins; the message says what to write."""
    made = Pipeline("p", folder=tmp_path)
    made.shell("same", "echo > {{ outputs[0] }}", foreach=["a", "b"], outputs=["out.txt"])
    async with Engine(tmp_path / ".flowd") as engine:
        result = await engine.run(made)
    assert result.state == "failed"
    assert "same[a] and same[b] both write out.txt; put {{ item }}" in result.tasks["same"].error.message


async def test_a_matrix_is_known_before_the_run(tmp_path):
    """Its values are in scope everywhere; cells that write one path are refused at validation."""
    made = Pipeline("p", folder=tmp_path)
    made.shell(
        "build",
        "echo $KIND {{ matrix.os }} > {{ outputs[0] }}; echo {{ index }} > $FLOWD_RESULT",
        matrix={"os": ["linux", "mac"], "py": [1, 2], "exclude": [{"os": "mac", "py": 1}]},
        outputs=["{{ matrix.os }}-{{ matrix.py }}.txt"],
        env={"KIND": "py{{ matrix.py }}"},
    )
    async with Engine(tmp_path / ".flowd") as engine:
        result = await engine.run(made)
    assert result.tasks["build"].result == [0, 1, 2]
    assert (tmp_path / "mac-2.txt").read_text() == "py2 mac\n"
    assert names(result, "build").keys() == {"linux,1", "linux,2", "mac,2"}
    one = Pipeline("p", folder=tmp_path)
    one.shell("same", "true", matrix={"os": ["linux", "mac"], "py": [1, 2]}, outputs=["{{ matrix.os }}.txt"])
    with pytest.raises(BadPipeline, match=r"same\[linux,1\] and same\[linux,2\] both write `linux.txt`"):
        _ = one.spec


async def test_a_function_takes_what_its_task_gives(tmp_path):
    """`matrix` where there is one; `item` only beside foreach."""
    made = Pipeline("p")

    @made.task(matrix={"rate": [0.1, 0.2]})
    async def fit(matrix, index):
        return [index, matrix["rate"]]

    assert (await run(made)).tasks["fit"].result == [[0, 0.1], [1, 0.2]]
    with pytest.raises(BadPipeline, match="nothing is passed for `item`"):
        Pipeline("q").task(lambda item: item, name="t")  # type: ignore[arg-type,return-value]


async def test_the_waits_of_items_are_the_clocks(tmp_path):
    """An item that waits for its next attempt holds nobody up, and begins when its wait is over."""
    made = Pipeline("p")
    clock, at = FakeClock(), []

    @made.task(foreach={"over": [0, 1, 2], "max_concurrency": 1}, retry=Retry(attempts=2, delay="1h"))
    async def work(item):
        at.append((item, clock.monotonic()))
        if item == 0 and len(at) == 1:
            raise ValueError("not yet")

    async with MemoryEngine(clock=clock) as engine:
        going = await engine.start(made)
        with anyio.fail_after(5):
            while len(at) < 3:
                await anyio.sleep(0.01)
        clock.advance(3600)
        assert (await going.wait()).ok
    assert [item for item, _ in at] == [0, 1, 2, 0]
    assert at[3][1] - at[0][1] >= 3600
