"""Plans, freshness and parameters: what runs, what does not, and what is written before that is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowd_process import Place, states

COPY = "cat {{ inputs[0] }} > {{ outputs[0] }} && echo ran >> count"


def chain(here: Place, middle: str = COPY, **keys: object) -> None:
    """`first` copies a file, `second` does what `middle` says with it, `third` copies that."""
    here.write("source", "1\n2\n")
    here.pipeline(
        {
            "first": {"run": COPY, "inputs": ["source"], "outputs": ["a"]},
            "second": {"run": middle, "inputs": ["a"], "outputs": ["b"]},
            "third": {"run": COPY, "inputs": ["b"], "outputs": ["c"]},
        },
        **keys,
    )


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and "pycache" not in str(path)}


def actions(here: Place, *words: str) -> dict[str, str]:
    document = here.json("plan", "pipeline.yaml", *words)
    for task in document["tasks"].values():
        assert set(task["reason"]) >= {"code", "sentence"}
        assert task["reason"]["sentence"]
    return {name: task["action"] for name, task in document["tasks"].items()}


def test_a_plan_says_what_a_run_does_and_writes_nothing(here: Place) -> None:
    """Before a run all is to run or depends on it; after it all is fresh; no file appears or changes."""
    chain(here)
    before = snapshot(here.folder)
    planned = actions(here)
    assert planned["first"] == "run"
    assert set(planned.values()) <= {"run", "if_needed"}
    assert snapshot(here.folder) == before
    assert not here.state.exists()
    here.ok("run")
    before = snapshot(here.folder)
    assert set(actions(here).values()) == {"fresh"}
    here.write("source", "3\n")
    assert actions(here) == {"first": "run", "second": "if_needed", "third": "if_needed"}
    assert {path: data for path, data in snapshot(here.folder).items() if not path.endswith("source")} == {
        path: data for path, data in before.items() if not path.endswith("source")
    }
    assert actions(here, "first") == {"first": "run"}


def test_needs_are_inferred_from_files(here: Place) -> None:
    """An input that another task writes orders the two although `needs` is not written."""
    chain(here)
    assert set(states(here.json("run")).values()) == {"succeeded"}
    assert (here.folder / "c").read_text() == "1\n2\n"


def test_unchanged_content_stops_propagation(here: Place) -> None:
    """A task that runs and writes what it wrote before leaves what needs it fresh."""
    chain(here, middle="head -1 {{ inputs[0] }} > {{ outputs[0] }}")
    here.ok("run")
    here.write("source", "1\nother\n")
    assert states(here.json("run")) == {"first": "succeeded", "second": "succeeded", "third": "fresh"}


@pytest.mark.parametrize("damage", ["edited", "gone"])
def test_an_output_that_is_not_intact_is_made_again(here: Place, damage: str) -> None:
    """A checkpoint holds only while its outputs are there as they were left."""
    chain(here)
    here.ok("run")
    if damage == "edited":
        here.write("b", "by hand\n")
    else:
        (here.folder / "b").unlink()
    after = states(here.json("run"))
    assert after == {"first": "fresh", "second": "succeeded", "third": "fresh"}
    assert (here.folder / "b").read_text() == "1\n2\n"


def test_a_file_rewritten_in_place_is_fresh_the_second_time(here: Place) -> None:
    """Reading and writing one file is no cycle and not stale for ever; an edit by another hand is seen."""
    here.pipeline({"grow": {"run": "echo x >> log", "inputs": ["log"], "outputs": ["log"]}})
    assert states(here.json("run")) == {"grow": "succeeded"}
    assert states(here.json("run")) == {"grow": "fresh"}
    here.write("log", "by hand\n")
    assert states(here.json("run")) == {"grow": "succeeded"}
    assert here.lines("log") == ["by hand", "x"]


def test_a_damaged_checkpoint_counts_as_missing(here: Place) -> None:
    """Checkpoints that are not what flowd wrote are reported and not believed; they are made anew once."""
    chain(here)
    here.ok("run")
    [path] = here.state.rglob("checkpoints*.json")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x01
    path.write_bytes(data)
    looked = here.run("plan", "pipeline.yaml")
    assert "checkpoints.json: damaged" in looked.err, looked.said
    assert path.read_bytes() == bytes(data), "a plan writes nothing"
    ended = here.ok("run")
    assert "checkpoints.json: damaged" in ended.err, ended.said
    assert set(states(here.json("show")).values()) <= {"succeeded", "fresh"}
    again = here.ok("run")
    assert "damaged" not in again.err
    assert "3 fresh" in again.out


def test_wrong_parameters_are_refused_before_anything_is_written(here: Place) -> None:
    """Exit 2, a message that names the parameter, no state directory, no task begun."""
    here.pipeline(
        {"t": {"run": "touch begun"}},
        params={
            "size": {"type": "int", "default": 1, "min": 1, "max": 10},
            "colour": {"type": "str", "default": "red", "choices": ["red", "green"]},
            "day": {"type": "date", "default": "2026-01-01"},
            "ratio": {"type": "float", "default": 0.5, "min": 0},
        },
    )
    wrong = ["size=big", "size=11", "size=0", "colour=blue", "siz=1", "size", "day=2026-02-30", "=1", "ratio=nan"]
    for command, given in [("plan", "size=big"), *(("run", given) for given in wrong)]:
        refused = here.run(command, "pipeline.yaml", "-p", given)
        assert (refused.code, refused.out) == (2, ""), refused.said
        assert given.partition("=")[0] in refused.err
        assert "Traceback" not in refused.err
    assert not here.state.exists()
    assert not (here.folder / "begun").exists()


def test_a_required_parameter_is_asked_for(here: Place) -> None:
    """A parameter without a default must be given; its value arrives typed."""
    here.pipeline(
        {"t": {"run": "echo {{ params.day }} {{ params.n + 1 }} > got"}},
        params={"day": {"type": "date", "required": True}, "n": {"type": "int", "default": 1}},
    )
    refused = here.run("run")
    assert refused.code == 2, refused.said
    assert "day" in refused.err
    document = here.json("run", "-p", "day=2026-01-02", "-p", "n=41")
    assert here.lines("got") == ["2026-01-02 42"]
    assert document["params"] == {"day": "2026-01-02", "n": 41}


def test_a_bad_file_writes_nothing(here: Place) -> None:
    """An invalid definition runs nothing and leaves no state."""
    here.pipeline({"a": {"run": "touch begun"}, "b": {"run": "true", "needs": ["c"]}, "d": {"runn": "x"}})
    refused = here.run("run")
    assert refused.code == 2, refused.said
    assert "pipeline.yaml:1:" in refused.err
    problems = here.json("validate", "pipeline.yaml", code=2)["problems"]
    assert len(problems) >= 2
    for problem in problems:
        assert set(problem) == {"file", "line", "column", "key", "code", "message", "hint"}
    assert not here.state.exists()
    assert not (here.folder / "begun").exists()


def test_a_missing_input_is_found_before_anything_starts(here: Place) -> None:
    """Exit 2 with the code input_missing's meaning, and no task begun."""
    here.pipeline(
        {"a": {"run": "touch begun"}, "b": {"needs": ["a"], "run": "true", "inputs": ["nowhere"], "outputs": ["o"]}}
    )
    refused = here.run("run")
    assert refused.code == 2, refused.said
    assert "nowhere" in refused.err
    assert not (here.folder / "begun").exists()


def test_a_run_keeps_its_definition(here: Place) -> None:
    """Editing the file changes later runs only: a retry goes on with what the run began with."""
    here.pipeline({"a": {"run": "test -e gate && echo old >> said"}})
    assert here.run("run").code == 1
    here.pipeline({"a": {"run": "echo new >> said"}, "b": {"run": "true"}})
    here.write("gate", "")
    here.ok("retry", "last")
    assert here.lines("said") == ["old"]
    assert set(here.json("run")["tasks"]) == {"a", "b"}
    assert here.lines("said") == ["old", "new"]


def test_the_state_directory_is_found(here: Place, tmp_path: Path) -> None:
    """--state-dir, then FLOWD_STATE_DIR, then the nearest .flowd up to the project's root, which --json names."""
    here.write("pyproject.toml", "")
    pipeline = here.write("deep/er/pipeline.yaml", "name: p\ntasks: {t: {run: 'true'}}\n")

    def used(*words: str, **options: object) -> str:
        return str(here.json("run", str(pipeline), *words, **options)["state_dir"])

    assert used() == str(tmp_path / ".flowd")
    assert (tmp_path / ".flowd").stat().st_mode & 0o777 == 0o700
    (tmp_path / "deep/.flowd").mkdir()
    assert used() == str(tmp_path / "deep/.flowd")
    assert used(env={"FLOWD_STATE_DIR": str(tmp_path / "b")}) == str(tmp_path / "b")
    assert used("--state-dir", "c", env={"FLOWD_STATE_DIR": str(tmp_path / "b")}) == str(tmp_path / "c")
    assert here.json("runs", cwd=tmp_path / "deep/er")["state_dir"] == str(tmp_path / "deep/.flowd")
