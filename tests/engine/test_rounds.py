"""`repeat`: rounds until something holds; each is on record, and nothing is held between them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flowd import BadPipeline, Engine, Pipeline, Retry
from flowd.adapters.checkpoints import MemoryCheckpoints
from flowd.adapters.journal.memory import MemoryJournal
from flowd.testing import FakeClock, MemoryEngine

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def polling(answers: list[Any], **policies: Any) -> tuple[Pipeline, list[int]]:
    """A task that gives or raises one answer after the other, and one that needs it."""
    made, calls = Pipeline("polling", params={"enough": 3}), []

    async def poll() -> Any:
        calls.append(len(calls) + 1)
        answer = answers[min(len(calls), len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    made.task(poll, name="poll", **policies)
    made.task(lambda poll: {"got": poll}, name="after", needs="poll")
    return made, calls


async def lived(made: Pipeline, **more: Any) -> Any:
    """A run in virtual time."""
    async with MemoryEngine(clock=FakeClock(NOON, autojump=0.01), **more) as engine:
        return await engine.run(made)


def rounds_of(result: Any) -> list[tuple[int, float | None]]:
    """Of each attempt its round, and how long it waited."""
    return [(attempt["round"], attempt["waited_s"]) for attempt in result.document["tasks"]["poll"]["attempt_list"]]


async def test_it_goes_on_until_the_result_is_right() -> None:
    """The last round's result is the task's, and what needs it begins once."""
    made, _ = polling([1, 2, 3, 4], repeat={"until": "result >= params.enough", "every": "30s"})
    result = await lived(made)
    assert (result.state, result.tasks["poll"].result, result.tasks["after"].result) == ("succeeded", 3, {"got": 3})
    assert rounds_of(result) == [(1, None), (2, 30.0), (3, 30.0)]
    task = result.document["tasks"]["poll"]
    assert datetime.fromisoformat(task["ended"]) - NOON >= timedelta(minutes=1)


async def test_every_round_is_on_record_with_its_result() -> None:
    """One event for each, with when the next one begins and why it has to."""
    made, _ = polling([{"ready": False}, {"ready": False, "why": "x" * 9000}, {"ready": True}])
    made.task(made.functions["poll"], name="poll", replace=True, repeat={"until": "result.ready", "every": "10s"})
    async with MemoryEngine(clock=FakeClock(NOON, autojump=0.01)) as engine:
        run = await engine.start(made)
        events = [event async for event in run.events() if event["event"] == "task_round_ended"]
    assert [event["round"] for event in events] == [1, 2]
    assert events[0]["result"]["inline"] == {"ready": False}
    assert "result" not in events[1]  # a large one would be in the journal round after round
    assert events[0]["reason"] == {
        "code": "repeat",
        "sentence": "`until: result.ready` does not hold after round 1 (result.ready is False); "
        "the next begins at 2026-01-01 12:00:10 UTC",
    }


async def test_nothing_is_held_between_rounds() -> None:
    """What wants the only slot, and all of a limit, runs meanwhile; the task is shown as waiting."""
    made = Pipeline("beside", max_concurrency=1, limits={"db": 1})
    order: list[str] = []

    async def one(name: str) -> int:
        order.append(name)
        return len(order)

    made.task(one, name="poll", with_={"name": "poll"}, uses={"db": 1}, priority=9,
              repeat={"until": "result > 2", "every": "10s"})  # fmt: skip
    made.task(one, name="other", with_={"name": "other"}, uses={"db": 1})
    clock = FakeClock(NOON)
    async with MemoryEngine(clock=clock) as engine:
        run = await engine.start(made)
        async for event in run.events():
            if event["event"] == "task_succeeded" and event["task"] == "other":
                task = (await run.snapshot())["tasks"]["poll"]
                assert (task["state"], task["reason"]["code"]) == ("waiting", "repeat")
                clock.advance(10)
        assert (await run.wait()).ok
    assert order == ["poll", "other", "poll"]


async def test_so_many_rounds_and_no_more() -> None:
    """The last that may be is the last, and the reason says what it was judged by."""
    made, calls = polling([1], repeat={"until": "result == 2", "every": "1s", "max": 3})
    result = await lived(made)
    poll = result.tasks["poll"]
    assert (result.state, poll.state, calls) == ("failed", "failed", [1, 2, 3])
    assert poll.error.type == "RepeatExhausted"
    reason = result.document["tasks"]["poll"]["reason"]
    assert reason["code"] == "repeat_exhausted"
    assert reason["sentence"] == "`until: result == 2` did not hold in 3 rounds: 1 is not 2"


@pytest.mark.parametrize(("allow", "state"), [("error.type == 'RepeatTimedOut'", "succeeded"), (False, "failed")])
async def test_no_round_begins_after_the_time_is_over(allow: Any, state: str) -> None:
    """Rounds at 0, 10 and 20 seconds; that at 30 would be one too late. It may be allowed to."""
    made, calls = polling([None], repeat={"until": "result", "every": "10s", "timeout": "25s"}, allow_failure=allow)
    result = await lived(made)
    assert (result.state, result.tasks["poll"].state, len(calls)) == (state, "timed_out", 3)
    assert result.tasks["poll"].error.type == "RepeatTimedOut"
    sentence = result.document["tasks"]["poll"]["reason"]["sentence"]
    assert sentence == "`until: result` did not hold within 25s, after 3 rounds: result is None"


async def test_a_round_that_goes_on_is_ended_when_the_time_is_over() -> None:
    """Its own timeout, which is longer, is not waited for; and no retry follows."""
    import anyio

    made, calls = Pipeline("slow"), []

    @made.task(repeat={"until": "result", "every": "1s", "timeout": "30s"}, timeout="20s", retry=Retry(attempts=9))
    async def poll() -> bool:
        calls.append(1)
        if len(calls) > 1:
            await anyio.sleep_forever()
        return False

    result = await lived(made)
    attempts = result.document["tasks"]["poll"]["attempt_list"]
    assert [(one["round"], (one["error"] or {}).get("type")) for one in attempts] == [
        (1, None),
        (2, "TimeoutError"),
        (2, "RepeatTimedOut"),
    ]
    over = datetime.fromisoformat(attempts[-1]["ended"]) - NOON
    assert timedelta(seconds=30) <= over < timedelta(seconds=35)
    assert result.tasks["poll"].state == "timed_out"


async def test_a_failed_round_is_tried_again_and_each_round_anew() -> None:
    """`retry` counts within a round: two of two attempts in the first do not use up those of the second."""
    broken = ConnectionError("reset")
    made, _ = polling(
        [broken, 1, broken, 2], repeat={"until": "result == 2", "every": "5s"}, retry=Retry(attempts=2, delay="1s")
    )
    result = await lived(made)
    assert result.ok
    assert rounds_of(result) == [(1, None), (1, 1.0), (2, 5.0), (2, 1.0)]
    made, calls = polling([1, broken], repeat={"until": "result == 2", "every": "5s"})
    result = await lived(made)
    assert (result.tasks["poll"].state, result.tasks["poll"].error.type, calls) == ("failed", "ConnectionError", [1, 2])


async def test_a_mistake_in_until_fails_the_task() -> None:
    """It says which name is not there."""
    made, _ = polling([{"a": 1}], repeat={"until": "result.ready"})
    result = await lived(made)
    assert result.tasks["poll"].state == "failed"
    assert "`until`" in result.tasks["poll"].error.message
    assert "ready" in result.tasks["poll"].error.message


async def left_after(made: Pipeline, journal: MemoryJournal, event_name: str, number: int = 1) -> None:
    """An engine that leaves as soon as something has happened so many times."""
    async with MemoryEngine(journal=journal, clock=FakeClock(NOON, autojump=0.01), on_exit="detach") as engine:
        run = await engine.start(made, run_id="r")
        async for event in run.events():
            number -= event["event"] == event_name
            if not number:
                return


async def resumed(made: Pipeline, journal: MemoryJournal, minutes: float) -> Any:
    """Another engine that goes on with it so many minutes after noon."""
    clock = FakeClock(NOON + timedelta(minutes=minutes), autojump=0.01)
    async with MemoryEngine(journal=journal, clock=clock) as engine:
        return await (await engine.resume("r", pipeline=made)).wait()


async def test_rounds_are_counted_over_a_restart() -> None:
    """Two rounds before it, one after: the bound of three is reached, and the moment of the next is kept."""
    made, calls = polling([1], repeat={"until": "result == 2", "every": "1h", "max": 3}, idempotent=False)
    journal = MemoryJournal()
    await left_after(made, journal, "task_round_ended", 2)
    assert calls == [1, 2]
    result = await resumed(made, journal, 70)
    assert calls == [1, 2, 3]
    assert result.document["tasks"]["poll"]["reason"]["code"] == "repeat_exhausted"
    last = result.document["tasks"]["poll"]["attempt_list"][-1]
    assert datetime.fromisoformat(last["started"]) - NOON >= timedelta(hours=2)


async def test_the_time_goes_on_while_nobody_looks() -> None:
    """Resumed after it is over, no round begins any more."""
    made, calls = polling([None], repeat={"until": "result", "every": "10m", "timeout": "1h"})
    journal = MemoryJournal()
    await left_after(made, journal, "task_round_ended")
    result = await resumed(made, journal, 90)
    assert (calls, result.tasks["poll"].state) == ([1], "timed_out")
    assert result.document["tasks"]["poll"]["reason"]["code"] == "repeat_timed_out"
    assert result.tasks["after"].state == "upstream_failed"


async def test_a_retry_by_a_person_begins_anew() -> None:
    """With the first round, and the whole time."""
    made, calls = polling([0, 0, 0, 0, 5], repeat={"until": "result > 0", "every": "1m", "timeout": "2m", "max": 2})
    journal, clock = MemoryJournal(), FakeClock(NOON, autojump=0.01)
    async with MemoryEngine(journal=journal, clock=clock) as engine:
        first = await engine.run(made, run_id="r")
        assert first.tasks["poll"].state == "failed"
        result = await (await engine.retry("r", pipeline=made)).wait()
        assert (result.tasks["poll"].state, len(calls)) == ("failed", 4)
        result = await (await engine.retry("r", pipeline=made)).wait()
    assert result.ok
    assert [number for number, _ in rounds_of(result)] == [1, 2, 1, 2, 1]


async def test_a_cancel_between_rounds_calls_it_off() -> None:
    """At once, and no round follows."""
    made, calls = polling([0], repeat={"until": "result", "every": "1h"})
    async with MemoryEngine(clock=FakeClock(NOON)) as engine:
        run = await engine.start(made)
        async for event in run.events():
            if event["event"] == "task_round_ended":
                await run.cancel()
        result = await run.wait()
    assert (result.state, result.tasks["poll"].state, calls) == ("cancelled", "cancelled", [1])


async def test_items_are_repeated_each_for_itself() -> None:
    """`item` is in scope."""
    made, seen = Pipeline("items"), {}

    @made.task(foreach=[1, 2], repeat={"until": "result >= item", "every": "1s"})
    async def poll(item: int) -> int:
        seen[item] = seen.get(item, 0) + 1
        return seen[item]

    result = await lived(made)
    assert (result.ok, seen, result.tasks["poll"].result) == (True, {1: 1, 2: 2}, [1, 2])


async def test_what_it_waited_for_is_part_of_its_fingerprint(tmp_path) -> None:
    """Fresh as long as `until` is as it was; the outputs of rounds that are left open are not asked for."""
    made_of = []

    def pipeline(until: str) -> Pipeline:
        made = Pipeline("kept", folder=tmp_path)

        @made.task(repeat={"until": until, "every": "0s"}, outputs=["out.txt"])
        async def poll(ctx: Any) -> int:
            made_of.append(until)
            if len(made_of) % 2 == 0:
                ctx.outputs[0].write_text("done")
            return len(made_of)

        return made

    checkpoints = MemoryCheckpoints()
    states = []
    for until in ("result % 2 == 0", "result % 2 == 0", "result % 4 == 0"):
        result = await lived(pipeline(until), checkpoints=checkpoints)
        states.append(result.tasks["poll"].state)
    assert states == ["succeeded", "fresh", "succeeded"]
    assert len(made_of) == 4


async def test_a_command_is_polled_by_its_exit_code(tmp_path) -> None:
    """Ending badly is no failure where `until` asks for the code; where it does not, it is."""
    made = Pipeline("codes", folder=tmp_path)
    made.shell("poll", "echo x >> seen; test $(wc -l < seen) -ge 3", repeat={"until": "exit_code == 0", "every": "1ms"})
    made.shell("hits", "exit 3", repeat={"until": "exit_code == 3 or round > 4"})
    made.shell("fails", "exit 3", repeat={"until": "round > 4"}, allow_failure=True)
    made.shell("killed", "kill -9 $$", repeat={"until": "exit_code == 0 or round > 4"}, allow_failure=True)
    async with Engine(tmp_path / ".flowd") as engine:
        result = await engine.run(made)
    assert result.ok
    assert {name: task.state for name, task in result.tasks.items()} == {
        "poll": "succeeded",
        "hits": "succeeded",
        "fails": "failed",
        "killed": "failed",
    }
    attempts = result.document["tasks"]["poll"]["attempt_list"]
    assert [(one["round"], one["exit_code"], one["error"]) for one in attempts] == [
        (1, 1, None),
        (2, 1, None),
        (3, 0, None),
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("exit_code == 0", "a mapping is expected.*write {until: exit_code == 0}"),
        ({"every": "1s"}, "`repeat` needs the key `until`"),
        ({"until": "exit_code = 0"}, "is no expression"),
        ({"until": "{{ result }}"}, "without `{{ }}`; write `result`"),
        ({"until": "resultt"}, "`resultt` is not known here; did you mean `result`"),
        ({"until": "tasks.later.ok"}, "not upstream of this task; add later to its needs"),
        ({"until": "result", "max": 0}, "at least 1, and is `0`"),
        ({"until": "result", "every": "soon"}, "`soon` is no duration"),
        ({"until": "result", "timeout": "0s"}, "more than zero"),
        ({"until": "result", "tries": 3}, "`tries` is no key of `repeat`"),
        ({"until": "secrets.KEY == 1"}, "KEY"),
    ],
)
def test_what_is_no_repeat_is_refused(given: object, said: str) -> None:
    """Each with what to write instead."""
    made = Pipeline("p")
    made.shell("poll", "true", repeat=given)
    made.shell("later", "true", needs="poll")
    with pytest.raises(BadPipeline, match=said):
        _ = made.spec


def test_it_has_no_meaning_where_nothing_is_carried_out() -> None:
    """A wait and an answer come once."""
    for make in (lambda made: made.wait("t", "1s", repeat={"until": "round > 1"}),
                 lambda made: made.approve("t", message="go?", repeat={"until": "round > 1"})):  # fmt: skip
        made = Pipeline("p")
        make(made)
        with pytest.raises(BadPipeline, match="`repeat` has no meaning beside"):
            _ = made.spec
