"""The transcript and the closing summary: every line as people and scripts rely on it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flowd.cli.logs import tame
from flowd.cli.screen import Style, Transcript
from flowd.cli.summary import summary
from flowd.core import stimuli as st
from flowd.core.run import RunState
from flowd.core.views import run_status

PRICES = {
    "ingest": [],
    "clean": ["ingest"],
    "train_or_score": ["clean"],
    "report": ["train_or_score"],
}
PLAIN = Style(unicode=True, colour=False)


def transcript(run, style=PLAIN, skip=0):
    """The lines of a scripted run, from event number `skip` on."""
    state = RunState(run.state.id, run.spec)
    written = Transcript(state)
    lines = []
    for envelope in run.envelopes:
        state.apply(envelope.event, envelope.at)
        if envelope.seq > skip:
            lines += written.after(envelope)
    return [style.line(line) for line in lines]


def closing(run, *, owned=False, seconds=1.4, ended=lambda _run: None, flags=""):
    """The summary of a scripted run, as it stands."""
    status = run_status(run.state, owned=owned)
    lines = summary(run.state, status, seconds=seconds, now=run.now, ended=ended, flags=flags)
    return [PLAIN.line(line) for line in lines]


@pytest.fixture
def good(scripted, keep):
    """The run of the contract's example."""
    run = scripted(PRICES)
    run.succeed("ingest", 0.31, ("data/prices_raw.json",), result=keep({"rows": 203}))
    run.succeed("clean", 0.24, ("data/prices_clean.json",), result=keep({"rows_in": 203, "rows_out": 199}))
    run.fail("train_or_score", 0.1, "reset", delay=0.2)
    run.succeed("train_or_score", 0.61, ("model.json",), metrics={"mae": 0.84})
    run.succeed("report", 0.22, ("report.txt",))
    return run


def test_the_transcript_is_the_contracts_example(good):
    """Heading, a line for each task at its end, a line for each failed attempt: in the contract's form."""
    assert transcript(good) == [
        "prices  4 tasks  run 20261122-0914-k3f",
        "",
        "  ✓ ingest           0.31s   203 rows                       prices_raw.json",
        "  ✓ clean            0.24s   203 → 199 rows                 prices_clean.json",
        "  ↻ train_or_score   attempt 1 of 3 failed: ConnectionError: reset, again in 0.2s",
        "  ✓ train_or_score   0.61s   mae 0.84                       model.json",
        "  ✓ report           0.22s                                  report.txt",
    ]


def test_the_summary_of_a_good_run(good):
    """How it went, how long it took, what ran; nothing to type next."""
    assert closing(good) == ["", "succeeded in 1.4s   4 ran"]


def test_a_run_that_finds_all_fresh_is_told_in_two_lines(scripted):
    """No heading, no line for each task: what is fresh, since when, and how to run it anyway."""
    run = scripted(PRICES)
    for name in PRICES:
        run.fresh(name, "20261122-0914-k3f")
    assert transcript(run) == []
    ended = run.now - timedelta(seconds=36)
    assert closing(run, seconds=0.05, ended=lambda _run: ended) == [
        "  = 4 tasks are fresh: nothing changed since 20261122-0914-k3f (36s ago)",
        "succeeded in 0.05s   0 ran, 4 fresh            (--force runs them anyway)",
    ]


def test_fresh_tasks_beside_others_have_lines_of_their_own(scripted):
    """Where something ran, each fresh task is named with the run that it is from."""
    run = scripted(PRICES)
    run.fresh("ingest")
    run.succeed("clean", 1.0)
    lines = transcript(run)
    assert lines[2:] == [
        "  = ingest           fresh   nothing changed since 20261122-0913-abc",
        "  ✓ clean            1.0s",
    ]


def test_a_failure_says_which_task_which_error_and_what_next(scripted):
    """The failed task, how often it was tried, the error and its place; tasks below it; the retry line."""
    run = scripted(PRICES)
    run.succeed("ingest", 0.3)
    run.fail("clean", 0.1, "NaN in price", delay=0.2, kind="ValueError")
    run.fail("clean", 0.1, "NaN in price", delay=0.2, kind="ValueError")
    run.fail("clean", 0.25, "NaN in price\nand more", kind="ValueError")
    why = "failed 3 of 3 attempts: ValueError: NaN in price (steps/clean.py:44)"
    assert transcript(run)[-3:] == [
        f"  ✗ clean            0.25s   {why}",
        "  - train_or_score   did not run: clean did not end well",
        "  - report           did not run: train_or_score did not end well",
    ]
    assert closing(run) == [
        "",
        "failed in 1.4s   1 ran, 1 failed, 2 did not run",
        f"  clean {why}",
        "next: flowd retry 20261122-0914-k3f",
    ]


def test_an_interrupted_run_names_resume(scripted):
    """What was interrupted, what is to go, and the line that goes on."""
    run = scripted(PRICES)
    run.succeed("ingest", 0.3)
    run.start("clean")
    run.tell(st.PauseAsked(reason="interrupted"))
    run.end("clean", st.Stopped(cause="interrupted"))
    assert transcript(run)[-1] == "  … clean            interrupted: flowd stopped while it ran"
    assert closing(run, flags=" --state-dir d") == [
        "",
        "interrupted after 1.4s   1 ran, 3 to go",
        "next: flowd resume 20261122-0914-k3f --state-dir d",
    ]


def test_an_uncertain_task_names_resolve(scripted):
    """A run that waits for a person's verdict gives the exact line to answer with."""
    run = scripted({"train": []}, idempotent=False)
    run.start("train")
    run.tell(st.Adopted("other"))
    assert transcript(run)[-1].startswith("  ? train   uncertain: the process that ran it died")
    lines = closing(run)
    assert lines[1].startswith("waiting after 1.4s   0 ran, 1 uncertain")
    assert lines[-2:] == [
        "next: flowd resolve 20261122-0914-k3f train --as VERDICT",
        "      VERDICT: succeeded, failed or rerun",
    ]


def test_a_cancelled_run_says_why(scripted):
    """The reason that was given stands in the summary."""
    run = scripted(PRICES)
    run.start("ingest")
    run.tell(st.CancelAsked(reason="wrong data"))
    run.end("ingest", st.Stopped(cause="cancelled"))
    assert "  - ingest           cancelled: wrong data" in transcript(run)
    assert closing(run)[1:] == [
        "cancelled in 1.4s   0 ran, 4 cancelled",
        "  wrong data",
        "next: flowd retry 20261122-0914-k3f",
    ]


def test_many_fresh_tasks_are_one_line(scripted):
    """A thousand fresh tasks do not bury the one that ran."""
    run = scripted({f"t{number}": [] for number in range(20)})
    for number in range(19):
        run.fresh(f"t{number}")
    run.succeed("t19", 0.5)
    assert transcript(run)[2:] == ["  = 19 tasks are fresh: nothing they depend on changed", "  ✓ t19   0.50s"]


def test_warnings_follow_their_task(scripted):
    """A task that succeeded with a warning says so on a line of its own."""
    run = scripted({"a": []})
    run.succeed("a", 0.5, warnings=("log_plan_missing: rows",))
    assert transcript(run)[-1] == "  ! a   warning: log_plan_missing: rows"


def test_what_tasks_say_moves_no_cursor(scripted):
    """Codes for terminals, line ends and signs that turn text round are written out; no line is begun by a task."""
    run = scripted(PRICES)
    run.fail("ingest", 0.5, "\x1b[2J\u202egone\x07\x9b31m")
    lines = transcript(run)
    assert all(line.isprintable() for line in lines)
    assert any("\\x1b[2J\\x202egone\\x07\\x9b31m" in line for line in lines)
    assert PLAIN.text("a\nb") == "a\\x0ab"


def test_logs_on_a_terminal_keep_their_colours_and_nothing_else():
    """Lines, tabs and colours are a task's to use; titles, cursors and bells are written out."""
    assert tame("\x1b[1;31mred\x1b[0m\tx\r\n") == "\x1b[1;31mred\x1b[0m\tx\r\n"
    assert tame("\x1b]0;title\x07\x1b[2J\rover\u202e\n") == "\\x1b]0;title\\x07\\x1b[2J\\x0dover\\x202e\n"


def test_a_stream_that_is_not_unicode_gets_ascii(good):
    """Glyphs and arrows become ASCII, and the words stay."""
    lines = transcript(good, Style.of("ANSI_X3.4-1968", terminal=False, environment={}))
    assert all(line.isascii() for line in lines)
    assert lines[2].startswith("  + ingest ")
    assert "203 -> 199 rows" in lines[3]
    assert lines[4].startswith("  ~ train_or_score   attempt 1 of 3")


@pytest.mark.parametrize(
    ("environment", "terminal", "colour"),
    [({}, True, True), ({"NO_COLOR": "1"}, True, False), ({"TERM": "dumb"}, True, False), ({}, False, False)],
)
def test_colour_is_for_terminals_and_obeys_no_color(good, environment, terminal, colour):
    """Colour only ever adds escapes: without them the lines are the same."""
    style = Style.of("utf-8", terminal=terminal, environment=environment)
    lines = transcript(good, style)
    assert ("\x1b[32m✓\x1b[0m" in lines[2]) is colour
    bare = [line.replace("\x1b[32m", "").replace("\x1b[33m", "").replace("\x1b[0m", "") for line in lines]
    assert bare == transcript(good)


def test_going_on_prints_the_heading_again(good):
    """A transcript that begins in the middle of a run has its heading all the same."""
    lines = transcript(good, skip=8)
    assert lines[0] == "prices  4 tasks  run 20261122-0914-k3f"
