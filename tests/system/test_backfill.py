"""`flowd backfill`: each past slot has one run with its time, whatever dies, stops or fails in between."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from typing import Any

import pytest

from flowd_process import Place, end_of, interrupt, until

DAYS = ("--from", "2026-11-01", "--to", "2026-11-06")
TIMES = [f"2026-11-0{day}T06:00:00" for day in range(1, 6)]
DAILY = {"cron": "0 6 * * *"}
SLOW = "echo began-$DAY >> log; test -e go || sleep 30; echo ended-$DAY >> log"


def daily(here: Place, run: str, schedule: Any = DAILY, **keys: Any) -> None:
    """A pipeline of one task, which knows its day."""
    task = {"run": run, "env": {"TIME": "{{ run.time }}", "DAY": "{{ run.time[:10] }}"}}
    here.pipeline({"fetch": {**task, **keys}}, schedule=schedule)


def slots(here: Place, *words: str, code: int = 0) -> list[dict[str, Any]]:
    """The slots of the document."""
    document = here.json("backfill", *DAYS, *words, code=code)
    assert document["exit_code"] == code
    return list(document["slots"])


# --- the ordinary case -----------------------------------------------------------------------------------


def test_each_slot_has_one_run_with_its_time(here: Place) -> None:
    """From the first day up to the last, the oldest first, one after the other; and never again."""
    daily(here, "echo $TIME >> log")
    first = here.ok("backfill", *DAYS)
    assert [line[:19] for line in here.lines("log")] == TIMES
    assert len(re.findall(r"✓ \w{3} 2026-11-0\d 06:00:00 UTC   succeeded in ", first.out)) == 5
    assert "5 succeeded" in first.out
    again = here.ok("backfill", *DAYS)
    assert "= 5 slots succeeded before" in again.out
    assert len(here.lines("log")) == 5
    shown = here.json("show", "20261103")
    assert shown["trigger"] == {"kind": "backfill", "schedule": "p", "time": "2026-11-03T06:00:00Z"}
    more = here.json("backfill", "--from", "2026-11-04", "--to", "2026-11-08")
    assert [slot["did"] for slot in more["slots"]] == ["good", "good", "begun", "begun"]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(here: Place) -> None:
    """Nothing is made, not even a state directory."""
    daily(here, "echo $TIME >> log")
    planned = here.ok("backfill", *DAYS, "--dry-run")
    assert planned.out.count("would be begun") == 5
    assert [slot["did"] for slot in slots(here, "--dry-run")] == ["begun"] * 5
    assert not here.state.exists()
    assert not here.lines("log")


def test_days_are_those_of_the_schedules_zone(here: Place) -> None:
    """Both of a time that a day has twice are slots; the first day begins at its own midnight."""
    zone = {"cron": "30 0,1 * * *", "timezone": "America/New_York", "dst": {"fold": "both"}}
    daily(here, "true", zone)
    found = here.json("backfill", "--from", "2026-11-01", "--to", "2026-11-02", "--dry-run")["slots"]
    assert [slot["time"][11:16] for slot in found] == ["04:30", "05:30", "06:30"]


def test_tasks_targets_and_params_are_those_of_the_schedule(here: Place) -> None:
    """As the schedule itself would be begun them."""
    named = {"fetch": {"run": "echo {{ params.n }} >> log"}, "other": {"run": "echo other >> log"}}
    here.pipeline(
        named,
        params={"n": 1},
        targets={"some": ["fetch"]},
        schedule=[{"name": "a", **DAILY, "tasks": ["some"], "params": {"n": 7}}, {"name": "b", "every": "2d"}],
    )
    refused = here.run("backfill", *DAYS)
    assert refused.code == 2
    assert "several schedules; add --schedule a or b" in refused.err
    here.ok("backfill", *DAYS, "--schedule", "a")
    assert here.lines("log") == ["7"] * 5


def test_so_many_run_at_once_and_no_more(here: Place) -> None:
    """By `--max-parallel`."""
    daily(here, "echo + >> log; sleep 0.3; echo - >> log")
    slots(here, "--max-parallel", "2")
    running = most = 0
    for line in here.lines("log"):
        running += 1 if line == "+" else -1
        most = max(most, running)
    assert most == 2


# --- what goes wrong -------------------------------------------------------------------------------------


def test_a_failed_slot_keeps_no_other_and_is_tried_again_as_the_file_is_now(here: Place) -> None:
    """Exit 1, with the reason; once the pipeline is mended the same command does what is left."""
    daily(here, "echo $DAY >> log; test $DAY != 2026-11-02")
    ended = here.run("backfill", *DAYS)
    assert ended.code == 1
    failed = re.search(r"✗ Mon 2026-11-02 06:00:00 UTC   failed in \S+ +(\S+)   fetch: exit code 1", ended.out)
    assert failed is not None
    assert f"next: flowd show {failed[1]}" in ended.out
    assert len(here.lines("log")) == 5
    daily(here, "echo mended-$DAY >> log")
    found = slots(here)
    assert Counter(slot["did"] for slot in found) == {"good": 4, "retried": 1}
    assert here.lines("log")[5:] == ["mended-2026-11-02"]
    assert len(list(here.state.glob("runs/*"))) == 5


def on_disk(here: Place) -> list[str]:
    """How the runs stand by what is durable: a task that may run twice is begun before that is."""
    return [run["state"] for run in here.json("runs")["runs"]]


def test_a_killed_backfill_is_gone_on_with(here: Place) -> None:
    """SIGKILL amid the third slot: the same command leaves two out, goes on with the third, and does the rest."""
    daily(here, f"test $DAY \\< 2026-11-03 || {{ {SLOW}; exit; }}; echo ended-$DAY >> log")
    process = here.begin("backfill", *DAYS)
    until(lambda: "began-2026-11-03" in here.lines("log") and "running" in on_disk(here))
    process.send_signal(signal.SIGKILL)
    end_of(process)
    here.write("go", "")
    assert [slot["did"] for slot in slots(here, "--dry-run")] == ["good", "good", "resumed", "begun", "begun"]
    found = slots(here)
    assert [slot["state"] for slot in found] == ["succeeded"] * 5
    ended = [line for line in here.lines("log") if line.startswith("ended")]
    assert sorted(ended) == [f"ended-2026-11-0{day}" for day in range(1, 6)]
    assert len(list(here.state.glob("runs/*"))) == 5
    attempts = here.json("show", found[2]["run"])["tasks"]["fetch"]["attempts"]
    assert attempts == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_so_that_it_can_be_gone_on_with(here: Place, number: int) -> None:
    """Exit 130: what runs is interrupted, what has not begun is not, and the same command does both."""
    daily(here, SLOW)
    process = here.begin("backfill", *DAYS, "--max-parallel", "2")
    until(lambda: len(here.lines("log")) == 2)
    stopped = interrupt(process, number)
    assert stopped.code == 130
    assert "2 interrupted, 3 to go" in stopped.out
    assert "the same command again goes on" in stopped.out
    here.write("go", "")
    found = slots(here)
    assert [slot["did"] for slot in found] == ["resumed", "resumed", "begun", "begun", "begun"]
    assert {slot["state"] for slot in found} == {"succeeded"}


def test_two_at_once_do_nothing_twice(here: Place) -> None:
    """A slot that goes on in another process is left to it: exit 6, with who has it."""
    daily(here, SLOW)
    process = here.begin("backfill", *DAYS)
    until(here.has("log"))
    held = here.run("backfill", "--from", "2026-11-01", "--to", "2026-11-02")
    assert held.code == 6
    assert f"pid {process.pid} on" in held.out
    here.write("go", "")
    assert interrupt(process).code == 130
    slots(here)
    assert Counter(here.lines("log"))["ended-2026-11-01"] == 1


def test_a_slot_that_waits_for_a_person_keeps_no_other(here: Place) -> None:
    """Exit 3, and the answer is given to that run."""
    here.pipeline({"ask": {"approve": {"message": "Good?"}}}, schedule=DAILY)
    found = slots(here, code=3)
    assert [slot["state"] for slot in found] == ["waiting"] * 5
    here.ok("approve", found[0]["run"], "ask")
    assert [slot["did"] for slot in slots(here, code=3)] == ["good", *["resumed"] * 4]


def test_a_cancelled_slot_stays_so(here: Place) -> None:
    """A person has said so: exit 1, and `--force` alone runs it."""
    here.pipeline({"ask": {"approve": {"message": "Good?"}}}, schedule=DAILY)
    waiting = slots(here, code=3)[0]["run"]
    here.ok("cancel", waiting)
    assert [slot["did"] for slot in slots(here, code=3)] == ["left", *["resumed"] * 4]
    assert "was cancelled" in here.run("backfill", *DAYS).out
    assert [slot["did"] for slot in slots(here, "--force", "--dry-run")] == ["begun"] * 5


def test_a_damaged_run_is_named_and_keeps_no_other(here: Place) -> None:
    """Exit 5, with the file."""
    daily(here, "echo $DAY >> log")
    run = here.json("backfill", "--from", "2026-11-01", "--to", "2026-11-02")["slots"][0]["run"]
    journal = here.journal(run)
    journal.write_bytes(journal.read_bytes().replace(b"run_started", b"run_stirred", 1))
    found = slots(here, code=5)
    assert [slot["state"] for slot in found] == [None, *["succeeded"] * 4]
    assert journal.name in found[0]["error"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from", "2026-11-06", "--to", "2026-11-01"), "--to is the first day that is left out"),
        (("--from", "monday", "--to", "2026-11-01"), "--from monday is no time; write 2026-11-01T06:00:00Z, or"),
        (("--from", "2026-11-01"), "Missing option '--to'"),
        ((*DAYS, "--schedule", "q"), "pipeline p has no schedule q: its schedules are p"),
        ((*DAYS, "--max-parallel", "0"), "0 is not in the range"),
        (("--from", "1970-01-01", "--to", "2026-11-01"), "that is 20758 slots, and fewer than 10000 can be"),
    ],
)
def test_a_mistake_is_refused_before_anything_runs(here: Place, words: tuple[str, ...], said: str) -> None:
    """Exit 2, and what to write instead."""
    daily(here, "echo $DAY >> log", {"every": "1d"})
    ended = here.run("backfill", *words)
    assert ended.code == 2
    assert said in ended.err
    assert not here.state.exists()


def test_a_pipeline_without_a_schedule_has_no_slots(here: Place) -> None:
    """What to write is said."""
    here.pipeline({"a": {"run": "true"}})
    ended = here.run("backfill", *DAYS)
    assert ended.code == 2
    assert "pipeline p has no schedule; write `schedule:" in ended.err


def test_slots_that_are_still_to_come_are_left_to_the_schedule(here: Place) -> None:
    """A backfill does nothing ahead of its time."""
    daily(here, "echo $DAY >> log")
    ended = here.ok("backfill", "--from", "2999-01-01", "--to", "2999-02-01")
    assert "slots that are still to come are left to the schedule" in ended.err
    assert "nothing was due then" in ended.out


# --- the schedule's own runs, and all anew ---------------------------------------------------------------


def test_what_the_schedule_has_filled_itself_is_left_out(here: Place) -> None:
    """A run of its own that succeeded fills the slot, and one that failed does not."""
    from datetime import UTC, datetime

    from flowd.core.firing import firing_id

    daily(here, "echo $DAY >> log; test ! -e bad")
    here.ok("run", "--run-id", firing_id("p", datetime(2026, 11, 1, 6, tzinfo=UTC)))
    here.write("bad", "")
    assert here.run("run", "--run-id", firing_id("p", datetime(2026, 11, 2, 6, tzinfo=UTC))).code == 1
    os.unlink(here.folder / "bad")
    assert [slot["did"] for slot in slots(here)] == ["good", "begun", "begun", "begun", "begun"]
    assert len(here.lines("log")) == 6


def test_force_fills_all_slots_anew_and_believes_no_checkpoint(here: Place) -> None:
    """What is fresh after the first slot runs in each of them; a second `--force` does all of it again."""
    here.write("in", "x")
    here.pipeline(
        {"make": {"run": "echo made >> log; touch out", "inputs": ["in"], "outputs": ["out"]}}, schedule=DAILY
    )
    slots(here)
    assert len(here.lines("log")) == 1
    for number in (1, 2):
        assert {slot["did"] for slot in slots(here, "--force")} == {"begun"}
        assert len(here.lines("log")) == 1 + 5 * number


def test_a_forced_backfill_that_was_killed_does_the_rest(here: Place) -> None:
    """The same words again are no third time for the slots that were done."""
    daily(here, f"test ! -e slow -o $DAY \\< 2026-11-03 || {{ {SLOW}; exit; }}; echo ended-$DAY >> log")
    slots(here)
    here.write("slow", "")
    process = here.begin("backfill", *DAYS, "--force")
    until(lambda: "began-2026-11-03" in here.lines("log") and "running" in on_disk(here))
    process.send_signal(signal.SIGKILL)
    end_of(process)
    here.write("go", "")
    assert [slot["did"] for slot in slots(here, "--force")] == ["good", "good", "resumed", "begun", "begun"]
    assert set(Counter(line for line in here.lines("log") if "ended" in line).values()) == {2}
    assert {slot["did"] for slot in slots(here, "--force", "--dry-run")} == {"begun"}


def test_a_program_that_takes_the_document_gets_nothing_else(here: Place) -> None:
    """Lines about how it goes are on stderr."""
    daily(here, "echo loud")
    ended = here.ok("backfill", *DAYS, "--json")
    assert set(ended.document) == {"pipeline", "schedule", "slots", "counts", "exit_code", "state_dir"}
    assert ended.document["counts"] == {"succeeded": 5}
    assert "5 succeeded" in ended.err


def test_each_run_has_its_log(here: Place) -> None:
    """In its own file, and where the pipeline has it go."""
    here.pipeline({"fetch": {"run": "echo hello"}}, schedule=DAILY, log={"file": "all.log", "format": "json"})
    first = slots(here)[0]["run"]
    assert "hello" in here.ok("logs", first, "fetch").out
    assert (here.state / "runs" / first / "run.log").read_text("utf-8")
    assert {json.loads(line)["run"] for line in here.lines("all.log")} >= {first}


# --- functions, over a weekend on which the clock is set -----------------------------------------------------

WEEKEND = ("--from", "2026-03-07", "--to", "2026-03-10")
INSTANTS = ["2026-03-07T07:30:00Z", "2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"]


def prepare(here: Place) -> None:
    here.write(
        "work.py",
        "import os, time\n"
        "def day(time):\n"
        "    open('days', 'a').write(f'{time}\\n')\n"
        "    while os.path.exists('hold'):\n"
        "        import time as t\n        t.sleep(0.02)\n"
        "    if time.startswith('2026-03-09') and not os.path.exists('good'):\n"
        "        raise ValueError('no data')\n",
    )
    task = {"call": "work:day", "with": {"time": "{{ run.time }}"}}
    here.pipeline({"a": task}, schedule={"cron": "30 2 * * *", "timezone": "America/New_York"})


def test_each_time_has_a_run_and_what_went_well_is_left_alone(here: Place) -> None:
    """In the schedule's zone, with its own time; a failed one is tried again, a good one is not."""
    prepare(here)
    dry = here.json("backfill", *WEEKEND, "--dry-run")["slots"]
    assert [slot["time"] for slot in dry] == INSTANTS
    assert {slot["did"] for slot in dry} == {"begun"}
    first = here.json("backfill", *WEEKEND, code=1)["slots"]
    assert [(slot["did"], slot["state"]) for slot in first] == [
        ("begun", "succeeded"),
        ("begun", "succeeded"),
        ("begun", "failed"),
    ]
    assert [slot["run"] for slot in first] == [slot["run"] for slot in dry]
    here.write("good", "x")
    second = here.json("backfill", *WEEKEND)["slots"]
    assert {slot["time"]: (slot["did"], slot["state"]) for slot in second} == dict(
        zip(INSTANTS, [("good", "succeeded"), ("good", "succeeded"), ("retried", "succeeded")], strict=True)
    )
    assert [line[:10] for line in here.lines("days")] == ["2026-03-07", "2026-03-08", "2026-03-09", "2026-03-09"]
    shown = here.json("show", first[0]["run"])
    assert shown["trigger"] == {"kind": "backfill", "schedule": "p", "time": "2026-03-07T07:30:00Z"}


def test_killed_in_the_middle_it_goes_on_where_it_was(here: Place) -> None:
    """By SIGKILL: the run that was cut off is the one that goes on."""
    prepare(here)
    here.write("good", "x")
    here.write("hold", "x")
    process = here.begin("backfill", *WEEKEND)
    until(here.has("days"))
    until(lambda: on_disk(here) == ["running"])
    process.kill()
    end_of(process)
    (here.folder / "hold").unlink()
    slots = here.json("backfill", *WEEKEND)["slots"]
    assert [slot["did"] for slot in slots] == ["resumed", "begun", "begun"]
    assert len(here.json("runs")["runs"]) == 3
