"""The lock table: never over a limit, all or nothing, and whatever lives and dies, nothing stays held."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from flowd.adapters.lock_table import FileLockTable, living_pages
from flowd.core.claims import Claim, Place, Refusal, Want
from flowd.core.errors import StorageFailing
from flowd.core.spec import Rate

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CAPACITIES = {"cpu": 3.0, "gpu": 1.0, "db": 0.3}


def claim(task: str = "t", run: str = "r", **uses: float) -> Claim:
    return Claim(run=run, task=task, uses=uses, capacities={limit: CAPACITIES[limit] for limit in uses})


class Dying(FileLockTable):
    """A table whose engine can die: the kernel closes what it had open, and nothing else happens."""

    def die(self) -> None:
        assert self._lock is not None
        assert self._table is not None
        assert self._threads is not None
        self._threads.begin(int).result()  # it dies between two steps: a dead one takes none
        os.close(self._lock)
        os.close(self._table)
        if self._file is not None:
            os.close(self._file)
        self._lock = self._table = self._file = None
        self._threads.close()


async def test_random_lives_and_deaths_leave_nothing_held(tmp_path: Path) -> None:
    """Over claims, ends and deaths the sum over the living never passes a capacity; at last all is free."""
    chance = random.Random(11)
    tables = [Dying(tmp_path, f"e{number}") for number in range(3)]
    held: list[list[tuple[int, Claim]]] = [[], [], []]
    born, granted, refused = 3, 0, 0
    for _ in range(10_000):
        who = chance.randrange(3)
        what = chance.random()
        if what < 0.5:
            wanted = claim(**{limit: chance.choice((0.1, 1.0, 2.0)) for limit in chance.sample(["cpu", "db"], 2)})
            if chance.random() < 0.3:
                wanted = claim(gpu=1.0)
            answer = await tables[who].claim(wanted, NOW)
            if isinstance(answer, Refusal):
                refused += 1
                continue
            granted += 1
            held[who].append((answer, wanted))
        elif what < 0.99 and held[who]:
            tables[who].free(held[who].pop(chance.randrange(len(held[who])))[0])
            await tables[who].look([], NOW)
        elif what >= 0.995 and tables[who]._lock is not None:
            tables[who].die()
            tables[who], held[who] = Dying(tmp_path, f"e{born}"), []
            born += 1
        for limit, capacity in CAPACITIES.items():
            used = sum(min(c.uses.get(limit, 0), capacity) for mine in held for _, c in mine)
            assert used <= capacity * (1 + 1e-9), limit
    assert min(granted, refused, born) > 20
    for table, mine in zip(tables, held, strict=True):
        for hold, _ in mine:
            table.free(hold)
        table.close()
    last = FileLockTable(tmp_path, "last")
    for limit, capacity in CAPACITIES.items():
        hold = await last.claim(claim(**{limit: capacity}), NOW)
        assert isinstance(hold, int), limit
        last.free(hold)
    assert {page.pid for page in living_pages(tmp_path)} == {os.getpid()}
    last.close()
    assert [name.name for name in (tmp_path / "limits").iterdir()] == []


async def test_what_a_killed_process_held_is_free_at_once(tmp_path: Path) -> None:
    """A real process, really killed while it holds: the next claim is granted, and its files are gone."""
    program = (
        "import anyio, sys, pathlib\n"
        "from flowd.adapters.lock_table import FileLockTable\n"
        "from flowd.core.claims import Claim\n"
        "from datetime import datetime, UTC\n"
        "async def main():\n"
        "    table = FileLockTable(pathlib.Path(sys.argv[1]), 'other')\n"
        "    print(await table.claim(Claim(run='o', task='t', uses={'gpu': 1}, capacities={'gpu': 1}),"
        " datetime.now(UTC)), flush=True)\n"
        "    await anyio.sleep_forever()\n"
        "anyio.run(main)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert process.stdout is not None
    assert process.stdout.readline() == b"1\n"
    table = FileLockTable(tmp_path, "mine")
    refused = await table.claim(claim(gpu=1.0), NOW)
    assert refused == Refusal(code="limit_full", what="gpu", by=("o", "t"))
    process.kill()
    process.wait()
    process.stdout.close()
    assert isinstance(await table.claim(claim(gpu=1.0), NOW), int)
    assert not (tmp_path / "limits" / "other.lock").exists()
    table.close()


async def test_all_or_nothing(tmp_path: Path) -> None:
    """Who cannot have one of what it asks for holds none of it."""
    one, other = FileLockTable(tmp_path, "one"), FileLockTable(tmp_path, "other")
    assert isinstance(await one.claim(claim(gpu=1.0), NOW), int)
    assert isinstance(await other.claim(claim(cpu=3.0, gpu=1.0), NOW), Refusal)
    assert isinstance(await one.claim(claim(cpu=3.0), NOW), int)
    one.close()
    other.close()


async def test_the_tightest_capacity_that_is_known_holds(tmp_path: Path) -> None:
    """Two pipelines declare another capacity of one limit: the smaller binds both."""
    one, other = FileLockTable(tmp_path, "one"), FileLockTable(tmp_path, "other")
    wide = Claim(run="a", task="t", uses={"api": 2}, capacities={"api": 5})
    assert isinstance(await one.claim(wide, NOW), int)
    narrow = Claim(run="b", task="t", uses={"api": 1}, capacities={"api": 2})
    assert isinstance(await other.claim(narrow, NOW), Refusal)
    one.free(1)
    await one.look([], NOW)  # what was asked before is done
    assert isinstance(await other.claim(narrow, NOW), int)
    assert isinstance(await one.claim(wide, NOW), Refusal)
    one.close()
    other.close()


async def test_nobody_passes_by_who_is_more_urgent(tmp_path: Path) -> None:
    """A waiter of another engine goes before a later one here, until it has not looked for seconds."""
    one, other = FileLockTable(tmp_path, "one"), FileLockTable(tmp_path, "other")
    assert isinstance(await one.claim(claim(gpu=1.0), NOW), int)
    want = Want(limit="gpu", run="b", task="waits", weight=1, urgency=5.0, capacity=1)
    await other.claim(claim("waits", "b", gpu=1.0), NOW)
    await other.look([want], NOW)
    one.free(1)
    later = Claim(run="r", task="later", uses={"gpu": 1}, capacities={"gpu": 1}, urgency=6.0)
    answer = await one.claim(later, NOW)
    assert isinstance(answer, Refusal)
    assert answer.by == ("b", "waits")
    sooner = Claim(run="r", task="sooner", uses={"gpu": 1}, capacities={"gpu": 1}, urgency=4.0)
    granted = await one.claim(sooner, NOW)
    assert isinstance(granted, int)
    one.free(granted)
    assert isinstance(await one.claim(later, NOW + timedelta(seconds=4)), int)
    one.close()
    other.close()


async def test_a_thread_that_goes_on_holds_on(tmp_path: Path) -> None:
    """An engine that closes while something of it goes on keeps its lock until that has ended."""
    one, other = FileLockTable(tmp_path, "one"), FileLockTable(tmp_path, "other")
    hold = await one.claim(claim(gpu=1.0), NOW)
    assert isinstance(hold, int)
    one.close()
    assert isinstance(await other.claim(claim(gpu=1.0), NOW), Refusal)
    one.free(hold)
    with anyio.fail_after(5):
        while isinstance(await other.claim(claim(gpu=1.0), NOW), Refusal):
            await anyio.sleep(0.001)
    other.close()


@pytest.mark.parametrize(
    ("held", "asked", "busy"),
    [
        (Place("/a/x"), Place("/a/x"), True),
        (Place("/a/x"), Place("/a/xy"), False),
        (Place("/a"), Place("/a/x"), True),
        (Place("/a/x"), Place("/a"), True),
        (Place("/a/*.csv", glob=True), Place("/a/x.csv"), True),
        (Place("/a/*.csv", glob=True), Place("/a/x.json"), False),
        (Place("/a/x.csv"), Place("/a/*.csv", glob=True), True),
        (Place("/a"), Place("/a/*.csv", glob=True), True),
        (Place("/a/*.csv", glob=True), Place("/a/*.json", glob=True), True),  # who can tell
        (Place("/a/*.csv", glob=True), Place("/b/*.csv", glob=True), False),
    ],
)
async def test_a_path_that_another_run_writes_is_busy(tmp_path: Path, held: Place, asked: Place, *, busy: bool) -> None:
    """Whatever may name the same file, read or written, in this engine or in another; never for the run itself."""
    one, other = FileLockTable(tmp_path, "one"), FileLockTable(tmp_path, "other")
    assert isinstance(await one.claim(Claim(run="a", task="w", writes=(held,)), NOW), int)
    for table in (one, other):
        for asks in ({"reads": (asked,)}, {"writes": (asked,)}):
            answer = await table.claim(Claim(run="b", task="t", **asks), NOW)
            assert isinstance(answer, Refusal) == busy
            if isinstance(answer, Refusal):
                assert (answer.code, answer.by, answer.place) == ("path_busy", ("a", "w"), asked)
            else:
                table.free(answer)
                await table.look([], NOW)
        own = await table.claim(Claim(run="a", task="t", writes=(asked,)), NOW)
        assert isinstance(own, int)
        table.free(own)
        await table.look([], NOW)
    one.close()
    other.close()


async def test_links_lead_to_one_path(tmp_path: Path) -> None:
    """A path by way of a link is the path that it leads to."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "name.csv").symlink_to("real/x.csv")
    table = FileLockTable(tmp_path / "state", "one")
    written = Place(str(tmp_path / "real" / "x.csv"))
    assert isinstance(await table.claim(Claim(run="a", task="w", writes=(written,)), NOW), int)
    links = (f"{tmp_path}/link/x.csv", f"{tmp_path}/name.csv")
    for place in (*map(Place, links), Place(f"{tmp_path}/link/*", glob=True)):
        assert isinstance(await table.claim(Claim(run="b", task="r", reads=(place,)), NOW), Refusal), place
    table.close()


async def test_a_rate_is_kept_over_processes_and_restarts(tmp_path: Path) -> None:
    """No stretch of time has more starts than the rate says, whoever starts, and whoever has died since."""
    rate, at, starts = Rate(count=3, per=timedelta(seconds=10)), NOW, list[datetime]()
    chance = random.Random(5)
    table = Dying(tmp_path, "e0")
    for number in range(1, 200):
        answer = await table.claim(Claim(run="r", task="t", uses={"api": 1}, rates={"api": rate}), at)
        if isinstance(answer, Refusal):
            assert answer.until is not None
            assert answer.until > at
            at = min(answer.until, at + timedelta(seconds=chance.random() * 12))
        else:
            starts.append(at)
            at += timedelta(seconds=chance.choice((0, 0, 0, 1, 4)))
        if chance.random() < 0.1:
            table.die()
            table = Dying(tmp_path, f"e{number}")
            await table.look([], at)
    assert len(starts) > 60
    assert all(later - sooner >= rate.per for sooner, later in zip(starts, starts[3:], strict=False))
    table.die()


async def test_a_clock_that_was_set_back_delays_by_one_stretch_at_most(tmp_path: Path) -> None:
    """Starts that seem to be in the future count as of now: nothing waits for a year."""
    table, rate = FileLockTable(tmp_path, "e"), Rate(count=1, per=timedelta(minutes=1))
    asked = Claim(run="r", task="t", uses={"api": 1}, rates={"api": rate})
    assert isinstance(await table.claim(asked, NOW + timedelta(days=365)), int)
    answer = await table.claim(asked, NOW)
    assert isinstance(answer, Refusal)
    assert answer.until == NOW + timedelta(minutes=1)
    table.close()


async def test_a_table_that_is_held_by_a_stopped_process_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever for the table itself."""
    import fcntl

    table = FileLockTable(tmp_path, "e")
    await table.look([], NOW)
    monkeypatch.setattr("flowd.adapters.lock_table._PATIENCE_S", 0.05)
    stopped = os.open(tmp_path / "limits", os.O_RDONLY)
    fcntl.flock(stopped, fcntl.LOCK_EX)
    with pytest.raises(StorageFailing, match="held by another process"):
        await table.claim(claim(gpu=1.0), NOW)
    os.close(stopped)
    assert isinstance(await table.claim(claim(gpu=1.0), NOW), int)
    table.close()
