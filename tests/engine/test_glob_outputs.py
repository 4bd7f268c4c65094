"""Outputs that are named by a glob: at least one file, each an artifact, and the set of them counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowd import Engine, Pipeline
from flowd.engine.files import Files


class Split:
    """A task that writes `out/<n>.csv` for each of `parts`, one that reads them all, and what ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts = {"1": "a", "2": "b"}
        self.ran: list[str] = []
        self.more: dict[str, str] = {}

    def pipeline(self) -> Pipeline:
        """The pipeline, made anew as a new process would."""
        made = Pipeline("split", folder=self.folder)

        @made.task(outputs=["out/*.csv"])
        def split(ctx):
            self.ran.append("split")
            assert ctx.outputs == [self.folder / "out/*.csv"]
            for name, text in self.parts.items():
                (self.folder / "out" / f"{name}.csv").write_text(text)

        @made.task(inputs=["out/*.csv"], outputs=["all.txt"])
        def join(ctx):
            self.ran.append("join")
            ctx.outputs[0].write_text("".join(path.read_text() for path in ctx.inputs))

        if self.more:

            @made.task(needs=[join], outputs=list(self.more))
            def late(ctx):
                self.ran.append("late")
                for path, text in zip(ctx.outputs, self.more.values(), strict=True):
                    path.write_text(text)

        return made

    async def run(self, **options):
        """Run it; what ran in it."""
        self.ran.clear()
        async with Engine(self.folder / ".flowd") as engine:
            self.result = await engine.run(self.pipeline(), **options)
        return self.ran


@pytest.fixture
def split(tmp_path):
    """The pipeline in an empty folder."""
    return Split(tmp_path)


async def test_each_file_is_an_artifact(split):
    """Folders are made, files are recorded in order of their names, and readers see them all."""
    assert await split.run() == ["split", "join"]
    artifacts = split.result.document["tasks"]["split"]["outputs"]
    assert [artifact["path"] for artifact in artifacts] == ["out/1.csv", "out/2.csv"]
    assert all(artifact["digest"] and artifact["size"] == 1 for artifact in artifacts)
    assert (split.folder / "all.txt").read_text() == "ab"
    assert await split.run() == []


async def test_a_glob_that_finds_nothing_fails_the_task(split):
    """Unless it is optional; a folder is no file."""
    split.parts = {}
    await split.run()
    assert "its output out/*.csv finds no file" in split.result.tasks["split"].error.message
    (split.folder / "out" / "d.csv").mkdir()
    await split.run()
    assert split.result.tasks["split"].error.type == "MissingOutput"
    optional = Pipeline("optional", folder=split.folder)
    optional.shell("t", "true", outputs=[{"path": "none/*.csv", "optional": True}])
    async with Engine(split.folder / ".flowd") as engine:
        assert (await engine.run(optional)).ok


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda out: (out / "1.csv").unlink(), "out/1.csv is not there any more"),
        (lambda out: (out / "1.csv").write_text("x"), "out/1.csv is not as the task left it"),
        (lambda out: (out / "3.csv").write_text("c"), "out/3.csv is not as the task left it"),
    ],
    ids=["one fewer", "another content", "one more"],
)
async def test_the_set_of_files_counts(split, change, sentence):
    """One that is gone, altered or added makes the task run again."""
    await split.run()
    change(split.folder / "out")
    assert "split" in await split.run()
    events = []
    async with Engine(split.folder / ".flowd") as engine:
        async for event in (await engine.get(split.result.run_id)).events():
            events += [event.reason["sentence"]] if event.event == "task_started" and event.task == "split" else []
    assert events == [sentence]


async def test_a_product_of_other_files_reaches_what_reads_them(split):
    """More files than before: the reader runs again."""
    await split.run()
    split.parts["3"] = "c"
    assert await split.run(force_tasks=["split"]) == ["split", "join"]
    assert (split.folder / "all.txt").read_text() == "abc"


@pytest.mark.parametrize("more", [{"out/9.csv": "z"}, {"9.txt": "z"}], ids=["into the glob", "elsewhere"])
async def test_a_file_of_another_task_is_not_one_too_many(split, more):
    """A later task that writes what the glob finds as well leaves it fresh."""
    split.more = more
    assert await split.run() == ["split", "join", "late"]
    assert "split" not in await split.run()


async def test_a_file_that_two_globs_find_is_one_artifact(split):
    """It stands once, in the place of the first."""
    from flowd.core.patterns import named
    from flowd.core.spec import Output
    from flowd.engine.files import collect

    await split.run()
    outputs = [(Output(path=path), named(path)) for path in ("out/*.csv", "**/*.csv")]
    found = collect(Files(split.folder), outputs, {})
    assert [artifact.path for artifact in found] == ["out/1.csv", "out/2.csv"]


async def test_a_folder_with_signs_in_its_name_is_no_glob(tmp_path):
    """The folder of an output is made in it, readers are told apart, and all is fresh then."""
    split = Split(tmp_path / "q what?[x]*")
    split.folder.mkdir()
    assert await split.run() == ["split", "join"]
    assert (split.folder / "all.txt").read_text() == "ab"
    assert await split.run() == []


async def test_a_value_is_no_glob(tmp_path):
    """Neither where the path is none, nor within one: it stands for itself, escaped for the glob, plain for people."""
    pipeline, paths = Pipeline("p", folder=tmp_path, params={"q": "what?[a]"}), []

    @pipeline.task(outputs=["out/{{ params.q }}.txt", "out/{{ params.q }}/*.csv"])
    def write(ctx):
        paths.extend(ctx.outputs)
        paths[0].write_text("1")
        for folder in (paths[1].parent, tmp_path / "out" / "whatXa"):
            folder.mkdir(exist_ok=True)
            (folder / "1.csv").write_text("1")
        (tmp_path / "out" / "whatXa.txt").write_text("1")

    @pipeline.task(needs=[write], inputs=["out/{{ params.q }}.txt", "out/{{ params.q }}/*.csv"], outputs=["all"])
    def read(ctx):
        ctx.outputs[0].write_text(str(len(ctx.inputs)))

    async with Engine(tmp_path / ".flowd") as engine:
        result = await engine.run(pipeline)
        assert result.ok, result.document
        written = [artifact["path"] for artifact in result.document["tasks"]["write"]["outputs"]]
        assert written == ["out/what?[a].txt", "out/what?[a]/1.csv"]
        assert paths == [tmp_path / "out/what?[a].txt", tmp_path / "out/what?[a]/*.csv"]
        assert (tmp_path / "all").read_text() == "2"
        assert {task.state for task in (await engine.run(pipeline)).tasks.values()} == {"fresh"}


async def test_brackets_are_globs_of_inputs_outputs_and_code(tmp_path):
    """`[ab]` stands for one of these, everywhere."""
    (tmp_path / "data").mkdir()
    for name in "abc":
        (tmp_path / "data" / f"{name}.csv").write_text(name)
    pipeline = Pipeline("p", folder=tmp_path)

    @pipeline.task(inputs=["data/[ab].csv"], outputs=["out[12]/[xy].txt"], code=["data/[c].csv"])
    def copy(ctx):
        (tmp_path / "out1").mkdir(exist_ok=True)
        (tmp_path / "out1" / "x.txt").write_text("".join(path.read_text() for path in ctx.inputs))

    async with Engine(tmp_path / ".flowd") as engine:
        assert (await engine.run(pipeline)).ok
        assert (tmp_path / "out1" / "x.txt").read_text() == "ab"
        assert (await engine.run(pipeline)).tasks["copy"].state == "fresh"
        (tmp_path / "data" / "c.csv").write_text("other")
        assert (await engine.run(pipeline)).tasks["copy"].state == "succeeded"


async def test_a_bracket_in_a_name_is_escaped(tmp_path):
    """`[[]` names the file itself, and whoever forgets it is told."""
    pipeline = Pipeline("p", folder=tmp_path)
    pipeline.shell("right", 'echo 1 > "$FLOWD_OUTPUT_0"', outputs=["a[[]1].txt"])
    pipeline.shell("wrong", "echo 1 > 'b[1].txt'", outputs=["b[1].txt"])
    async with Engine(tmp_path / ".flowd") as engine:
        result = await engine.run(pipeline)
    assert result.document["tasks"]["right"]["outputs"][0]["path"] == "a[1].txt"
    assert "with [ in its name is written with [[]" in result.tasks["wrong"].error.message


@pytest.mark.parametrize(
    ("reads", "writes"),
    [
        ("out/*.csv", "out/*.csv"),
        ("out/1.csv", "out/*.csv"),
        ("out/*.csv", "out/1.csv"),
        ("./out/*.csv", "out/**/*.csv"),
    ],
)
async def test_what_a_task_reads_and_writes_may_be_absent_at_first(tmp_path, reads, writes):
    """It counts as the task left it: fresh the next time, stale after another hand."""
    pipeline = Pipeline("p", folder=tmp_path)

    @pipeline.task(inputs=[reads], outputs=[writes])
    def update(ctx):
        path = tmp_path / "out" / "1.csv"
        path.write_text((path.read_text() if path.exists() else "") + "x")

    async def state() -> str:
        async with Engine(tmp_path / ".flowd") as engine:
            return (await engine.run(pipeline)).tasks["update"].state

    assert [await state(), await state()] == ["succeeded", "fresh"]
    (tmp_path / "out" / "1.csv").write_text("by hand")
    assert [await state(), await state()] == ["succeeded", "fresh"]
    assert (tmp_path / "out" / "1.csv").read_text() == "by handx"


async def test_a_file_that_a_task_reads_and_removes_counts_as_gone(tmp_path):
    """It is fresh the next time."""
    (tmp_path / "in").mkdir()
    for name in ("1", "2"):
        (tmp_path / "in" / f"{name}.csv").write_text(name)
    pipeline = Pipeline("p", folder=tmp_path)

    @pipeline.task(inputs=["in/*.csv"], outputs=["in/*.csv"])
    def gather(ctx):
        first, *others = ctx.inputs
        first.write_text("".join(path.read_text() for path in ctx.inputs))
        for path in others:
            path.unlink()

    async with Engine(tmp_path / ".flowd") as engine:
        states = [(await engine.run(pipeline)).tasks["gather"].state for _ in range(2)]
    assert states == ["succeeded", "fresh"]


async def test_a_glob_costs_no_look_at_what_all_tasks_left(tmp_path, monkeypatch):
    """A pass over many tasks with globs grows with their number, not with its square."""
    many, places = 40, [0]
    pipeline = Pipeline("p", folder=tmp_path)
    for number in range(many):
        pipeline.shell(f"t{number}", f"echo 1 > out/{number}.a.csv", outputs=[f"out/{number}.*.csv"])
    async with Engine(tmp_path / ".flowd") as engine:
        assert (await engine.run(pipeline)).ok
    for number in range(many):
        (tmp_path / "out" / f"{number}.more.csv").touch()
    place = Files.place

    def counted(self, written):
        places[0] += 1
        return place(self, written)

    monkeypatch.setattr(Files, "place", counted)
    async with Engine(tmp_path / ".flowd") as engine:
        plan = await engine.plan(pipeline)
    assert [standing.action for standing in plan.values()] == ["run"] * many
    assert places[0] < 20 * many


async def test_globs_are_texts_in_expressions(tmp_path):
    """As other paths are, within a text too."""
    pipeline = Pipeline("p", folder=tmp_path)

    @pipeline.task(outputs=["*.csv"], with_={"said": "to {{ outputs }}"})
    def write(ctx, said):
        (tmp_path / "1.csv").write_text(said)

    async with Engine(tmp_path / ".flowd") as engine:
        assert (await engine.run(pipeline)).ok
    assert (tmp_path / "1.csv").read_text() == f'to ["{tmp_path}/*.csv"]'
