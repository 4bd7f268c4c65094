"""`flowd backfill`: a run for each past time, gone on with after any end."""

import json
import signal

from flowd_process import Place, end_of, until

WORDS = ("--from", "2026-03-07", "--to", "2026-03-10")
TIMES = ["2026-03-07T07:30:00Z", "2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"]


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
    dry = here.json("backfill", *WORDS, "--dry-run")["slots"]
    assert [slot["time"] for slot in dry] == TIMES
    assert {slot["did"] for slot in dry} == {"begun"}
    first = here.json("backfill", *WORDS, code=1)["slots"]
    assert [(slot["did"], slot["state"]) for slot in first] == [
        ("begun", "succeeded"),
        ("begun", "succeeded"),
        ("begun", "failed"),
    ]
    assert [slot["run"] for slot in first] == [slot["run"] for slot in dry]
    here.write("good", "x")
    second = here.json("backfill", *WORDS)["slots"]
    assert {slot["time"]: (slot["did"], slot["state"]) for slot in second} == dict(
        zip(TIMES, [("good", "succeeded"), ("good", "succeeded"), ("retried", "succeeded")], strict=True)
    )
    assert [line[:10] for line in here.lines("days")] == ["2026-03-07", "2026-03-08", "2026-03-09", "2026-03-09"]
    shown = here.json("show", first[0]["run"])
    assert shown["trigger"] == {"kind": "backfill", "schedule": "p", "time": "2026-03-07T07:30:00+00:00"}


def test_killed_in_the_middle_it_goes_on_where_it_was(here: Place) -> None:
    """By SIGKILL: the run that was cut off is the one that goes on."""
    prepare(here)
    here.write("good", "x")
    here.write("hold", "x")
    process = here.begin("backfill", *WORDS)
    until(here.has("days"))
    process.kill()
    end_of(process)
    (here.folder / "hold").unlink()
    slots = here.json("backfill", *WORDS)["slots"]
    assert [slot["did"] for slot in slots] == ["resumed", "begun", "begun"]
    assert len(here.json("runs")["runs"]) == 3


def test_interrupted_it_ends_with_130_and_begins_nothing_more(here: Place) -> None:
    """The first Ctrl-C stops what runs, so that it can be gone on with."""
    prepare(here)
    here.write("hold", "x")
    process = here.begin("backfill", *WORDS, "--json")
    until(here.has("days"))
    process.send_signal(signal.SIGINT)
    ended = end_of(process)
    assert ended.code == 130, ended.said
    assert [slot["state"] for slot in json.loads(ended.out)["slots"]] == ["interrupted"]
    assert len(here.lines("days")) == 1


def test_a_mistake_is_refused_in_words(here: Place) -> None:
    """Exit 2, and what to write instead."""
    prepare(here)
    for words, said in (
        (("--from", "x", "--to", "y"), "--from x is no time; write 2026-01-01"),
        (("--from", "2026-02-01", "--to", "2026-01-01"), "--to is not later than --from"),
        (("--from", "2026-02-01", "--to", "9000-01-01"), "--to lies ahead"),
        ((*WORDS, "--schedule", "other"), "its schedules are p; name one with --schedule"),
    ):
        ended = here.run("backfill", *words)
        assert ended.code == 2, ended.said
        assert said in ended.err, ended.said
