"""`repeat` over a SIGKILL, and as people see it."""

from __future__ import annotations

from flowd_process import Place, until


def begun(here: Place, task: str) -> None:
    """A pipeline with one polling task."""
    here.write("pipeline.yaml", f"name: w\ntasks: {{poll: {task}, after: {{needs: poll, run: echo x >> did}}}}\n")


def events(here: Place, name: str) -> list[dict[str, object]]:
    """The events of this name."""
    return [event for event in here.run("events", "--json").events if event["event"] == name]


def test_killed_between_two_rounds_it_goes_on_with_the_next(here: Place) -> None:
    """The rounds that were are not done again, and the next one comes at the moment that was written down."""
    begun(here, '{run: "echo x >> n; test -e go", repeat: {until: exit_code == 0, every: 2s}}')
    process = here.begin("run")
    until(lambda: here.recorded("task_round_ended"))
    process.kill()
    process.wait()
    task = here.json("show")["tasks"]["poll"]
    assert (task["state"], task["attempt_list"][0]["exit_code"]) == ("waiting", 1)
    text = here.ok("show").out
    assert (
        "poll  waiting\n  `until: exit_code == 0` does not hold after round 1 (1 is not 0); the next begins at" in text
    )
    assert "attempt 1, round 1  " in text
    here.write("go", "")
    here.ok("resume")
    assert here.lines("n") == ["x", "x"]
    assert here.lines("did") == ["x"]
    [ended], [_, second, *_] = events(here, "task_round_ended"), events(here, "task_started")
    assert str(second["at"]) >= str(ended["next_at"])
    assert (second["round"], second["attempt"]) == (2, 2)


def test_killed_in_a_round_it_does_that_round_again(here: Place) -> None:
    """It is the same round of another attempt; one that is not idempotent asks a person."""
    for idempotent in ("true", "false"):
        begun(
            here,
            '{run: "nap=$(cat nap); echo x >> n; test $(wc -l < n) -ge 2 && sleep $nap; exit 1", '
            f"idempotent: {idempotent}, repeat: {{until: exit_code == 0, every: 1ms, max: 3}}}}",
        )
        here.write("nap", "30")
        (here.folder / "n").unlink(missing_ok=True)
        process = here.begin("run")
        until(lambda: len(here.lines("n")) == 2 and len(events(here, "task_started")) == 2)
        process.kill()
        process.wait()
        here.write("nap", "0")
        ended = here.run("resume")
        assert ended.code == (1 if idempotent == "true" else 3), ended.said
        task = here.json("show")["tasks"]["poll"]
        rounds = [attempt["round"] for attempt in task["attempt_list"]]
        if idempotent == "true":
            assert rounds == [1, 2, 2, 3]
            assert task["reason"]["code"] == "repeat_exhausted"
        else:
            assert (task["state"], rounds) == ("uncertain", [1, 2])


def test_the_transcript_tells_of_rounds_once(here: Place) -> None:
    """One line when the first has not been the last, and one at the end with the time of all."""
    begun(here, '{run: "echo x >> n; test $(wc -l < n) -ge 4", repeat: {until: exit_code == 0, every: 300ms}}')
    ended = here.ok("run")
    lines = [line for line in ended.out.splitlines() if "poll" in line]
    assert lines[0] == "  … poll    its `until` does not hold yet; a round every 0.3s"
    assert len(lines) == 2
    took = lines[1].split()[2]
    assert took.endswith("s")
    assert float(took[:-1]) >= 0.9
    assert here.json("why", "last", "poll")["code"] == "done"


def test_why_of_a_task_between_rounds(here: Place) -> None:
    """What it was judged by, and when the next round begins."""
    begun(here, "{run: exit 1, repeat: {until: exit_code == 0, every: 1h}}")
    here.begin("run")
    until(lambda: here.recorded("task_round_ended"))
    why = here.json("why", "last", "poll")
    assert why["code"] == "repeat"
    assert "`until: exit_code == 0` does not hold after round 1 (1 is not 0); the next begins at" in why["sentence"]
    document = here.json("show")
    assert (document["state"], document["counts"]) == ("running", {"waiting": 1, "pending": 1})
