"""Outputs that are named by a glob: at least one file, each an artifact, and the set of them counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowd import Engine, Pipeline


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
    from flowd.core.spec import Output
    from flowd.engine.files import Files, collect

    await split.run()
    found = collect(
        Files(split.folder), [(Output(path="out/*.csv"), "out/*.csv"), (Output(path="**/*.csv"), "**/*.csv")], {}
    )
    assert [artifact.path for artifact in found] == ["out/1.csv", "out/2.csv"]
